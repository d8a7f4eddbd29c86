"""A WebSocket client (RFC 6455) that sends exactly the frames that it is told to."""

import struct
from typing import Any

from .http import Connection

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3, as is the answer to it
_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def handshake(path: str, *fields: bytes, host: bytes = b"127.0.0.1") -> bytes:
    """The request that asks for a WebSocket."""
    lines = [b"GET %b HTTP/1.1" % path.encode(), b"Host: " + host, b"Upgrade: websocket"]
    lines += [b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Key: " + _KEY]
    return b"\r\n".join([*lines, b"Sec-WebSocket-Version: 13", *fields, b"", b""])


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True) -> bytes:
    """A client's frame."""
    size, mask = len(payload), b"\x01\x02\x03\x04"
    if size < 126:
        length = bytes([0x80 | size])
    else:
        short = size < 1 << 16
        length = struct.pack("!BH" if short else "!BQ", 0xFE if short else 0xFF, size)
    repeated = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ repeated).to_bytes(size, "big")
    return bytes([last << 7 | opcode]) + length + mask + masked


class WebSocket(Connection):
    """A connection that was upgraded; `after` is sent along with the handshake."""

    def __init__(
        self, port: int, path: str, *fields: bytes, after: bytes = b"", **options: Any
    ) -> None:
        super().__init__(port, **options)
        self.send(handshake(path, *fields) + after)
        status, headers = self.read_head()
        assert status == 101, status
        assert headers.get("Sec-WebSocket-Accept") == _ACCEPT

    def send_frame(self, payload: bytes, opcode: int = TEXT, *, last: bool = True) -> None:
        self.send(frame(payload, opcode, last=last))

    def receive(self) -> tuple[int, bytes]:
        """The opcode and payload of the next message; the server may send it in parts."""
        first, payload = self._frame()
        opcode = first & 0x0F
        while not first & 0x80:
            first, more = self._frame()
            payload += more
        return opcode, payload

    def _frame(self) -> tuple[int, bytes]:
        first, size = self.read_some(2)
        if size > 125:
            size = int.from_bytes(self.read_some(2 if size == 126 else 8), "big")
        return first, self.read_some(size)

    def echo(self, payload: bytes) -> None:
        """Send a text to a route that sends it back."""
        self.send_frame(payload)
        assert self.receive() == (TEXT, payload)
