"""The service that the protocol's own conformance suite wants to see, as far as it has tools."""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec

from gemstone_sync import MicroService, RpcError, exposed_method
from gemstone_sync.mcp import Audio, Image

#: A red pixel, and no sound at all.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SILENCE = b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00D\xac\x00\x00\x88X\x01\x00"


class address(msgspec.Struct):  # noqa: N801
    street: str
    city: str


class NotToday(RpcError):
    code = 77
    message = "This tool intentionally returns an error for testing"


class Subject(MicroService):
    """Has a tool for each thing that the suite looks at."""

    name = "subject"
    version = "1.2.3"
    mcp = True

    @exposed_method(read_only=True)
    def test_simple_text(self) -> str:
        """Say something simple."""
        return "This is a simple text response for testing."

    @exposed_method(read_only=True)
    def test_image_content(self) -> Image:
        """Show a pixel."""
        return Image(PIXEL, "image/png")

    @exposed_method(read_only=True)
    def test_audio_content(self) -> Audio:
        """Play silence."""
        return Audio(SILENCE, "audio/wav")

    @exposed_method(read_only=True)
    def test_texts_and_images(self) -> list[str | Image]:
        """Say something, and show a pixel."""
        return ["Look:", Image(PIXEL, "image/png")]

    @exposed_method()
    def test_error_handling(self) -> None:
        """Fail."""
        raise NotToday()

    @exposed_method("json_schema_2020_12_tool")
    def write_to(self, name: str, address: address) -> str:
        """Take what has a schema of its own."""
        return f"{name}, {address.city}"

    @exposed_method(idempotent=True, destructive=True)
    def move(
        self,
        region: Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})],
    ) -> str:
        """Move to a region, which proxies see in a header."""
        return region
