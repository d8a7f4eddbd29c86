"""Images and sounds that a method returns: to agents, and to any other caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Audio", "Image", "is_media", "schema_has_media"]

#: What `Image` and `Audio` are in JSON: the protocol's own content of these kinds.
_KINDS = ("image", "audio")


class Image(
    msgspec.Struct, frozen=True, tag_field="type", tag="image", rename={"mime_type": "mimeType"}
):
    """An image as the result of a method, or one in a list of texts, images and sounds.

    :param data: the bytes of the file.
    :param mime_type: such as ``"image/png"``.

    In JSON it is what the protocol calls image content; callers that are no agents get the same.

    >>> msgspec.json.encode(Image(b"GIF89a", "image/gif"))
    b'{"type":"image","data":"R0lGODlh","mimeType":"image/gif"}'
    """

    data: bytes
    mime_type: str


class Audio(
    msgspec.Struct, frozen=True, tag_field="type", tag="audio", rename={"mime_type": "mimeType"}
):
    """A sound as the result of a method, as `Image` is.

    :param data: the bytes of the file.
    :param mime_type: such as ``"audio/wav"``.
    """

    data: bytes
    mime_type: str


def is_media(value: object) -> bool:
    """Tell whether a result, as JSON has it, is an image or a sound.

    >>> is_media({"type": "image", "data": "R0lGODlh", "mimeType": "image/gif"}), is_media("image")
    (True, False)
    """
    return (
        isinstance(value, dict)
        and value.keys() == {"type", "data", "mimeType"}
        and value["type"] in _KINDS
    )


def schema_has_media(schema: Any, named: Mapping[str, Any]) -> bool:
    """Tell whether results of a schema are images or sounds, or lists that may hold some.

    :param named: the schemas that references lead to, by their names.
    """
    left, seen = [(schema, True)], set()
    while left:
        part, may_be_list = left.pop()
        if not isinstance(part, Mapping):
            continue
        name = str(part.get("$ref", "")).rpartition("/")[2]
        if name in named and (name, may_be_list) not in seen:
            seen.add((name, may_be_list))
            left.append((named[name], may_be_list))
        left += [(each, may_be_list) for key in ("anyOf", "oneOf") for each in part.get(key, ())]
        if may_be_list:
            left += [(part.get("items"), False)]
            left += [(each, False) for each in part.get("prefixItems", ())]
        properties = part.get("properties")
        if isinstance(properties, Mapping) and {*properties} == {"type", "data", "mimeType"}:
            kinds = properties["type"]
            if kinds.get("const") in _KINDS or {*kinds.get("enum", ())} & {*_KINDS}:
                return True
    return False
