"""A raw HTTP/1.1 client: sends the exact bytes it is given, reads one response at a time.

It corrects nothing, so that a test may send what no HTTP library would, and it is as strict about
what comes back as RFC 9112 asks: one framing, no byte too many, no early close.
"""

import contextlib
import dataclasses
import socket
from collections.abc import Iterable, Mapping

LIMIT = 10.0  # seconds: no answer in the table takes a tenth of that


class WireError(AssertionError):
    """The server broke the framing, or did not answer."""


class Headers(dict[str, str]):
    """Header names without regard to case; repeated ones are joined by a comma."""

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        return super().get(name.lower(), default)


@dataclasses.dataclass(frozen=True)
class WireReply:
    status: int
    headers: Headers
    body: bytes

    @property
    def closes(self) -> bool:
        return "close" in str(self.headers.get("Connection", "")).lower()


def request(
    verb: str, path: str, headers: Mapping[str, str], body: bytes, *, host: str = "127.0.0.1"
) -> bytes:
    """One request with a Content-Length; `headers` may replace Host and any other."""
    given = {name.lower() for name in headers}
    lines = [f"{verb} {path} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {host}")
    if "transfer-encoding" not in given and "content-length" not in given:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""])
    return _latin(head) + body


def chunked(pieces: Iterable[bytes]) -> bytes:
    """A chunked body, its last chunk included."""
    return b"".join(chunk(piece) for piece in pieces) + b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def _latin(head: str) -> bytes:
    return head.encode("latin-1")


class Connection:
    """One keep-alive connection to a server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def exchange(self, sent: bytes, *, head_only: bool = False) -> WireReply:
        """Send the bytes and read the one response."""
        self.send(sent)
        return self.read_reply(head_only=head_only)

    def send(self, sent: bytes) -> None:
        # An early refusal may close before all is sent; the reply tells.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(sent)

    def finish_sending(self) -> None:
        """Close this end's half: the server sees the end of what was sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def read_reply(self, *, head_only: bool = False, more: bool = False) -> WireReply:
        """The next final response; `head_only` for the reply to HEAD, `more` when pipelined."""
        status, headers = self.read_head()
        while status // 100 == 1:
            status, headers = self.read_head()
        body = b"" if head_only or status in (204, 304) else self._read_body(headers)
        if self._buffer and not more:
            raise WireError(f"bytes after the response: {self._buffer[:200]!r}")
        return WireReply(status, headers, body)

    def read_head(self) -> tuple[int, Headers]:
        """The status and headers of the next response, interim ones included."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head.split("\r\n")
        version, status, *_ = status_line.split(" ", 2)
        if version != "HTTP/1.1":
            raise WireError(f"odd status line {status_line!r}")
        headers = Headers()
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise WireError(f"odd header {line!r}")
            earlier = f"{headers[name.lower()]}, " if name.lower() in headers else ""
            headers[name.lower()] = earlier + value.strip()
        return int(status), headers

    def at_end(self) -> bool:
        """Whether the server closes now without a further byte."""
        try:
            return not self._buffer and self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _read_body(self, headers: Headers) -> bytes:
        length = headers.get("Content-Length")
        if headers.get("Transfer-Encoding") is not None:
            if length is not None:
                raise WireError(f"both framings in {headers}")
            return self._read_chunks()
        if length is not None:
            return self._exactly(int(str(length)))
        raise WireError(f"no framing, only the connection's end, in {headers}")

    def _read_chunks(self) -> bytes:
        body = b""
        while True:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            piece = self._exactly(size + 2)
            if not piece.endswith(b"\r\n"):
                raise WireError(f"a chunk of {size} does not end there: {piece[-20:]!r}")
            if size == 0:
                return body
            body += piece[:-2]

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _receive(self) -> None:
        try:
            received = self._socket.recv(1 << 16)
        except TimeoutError:
            raise WireError(f"no answer in {LIMIT} s; so far {self._buffer[:200]!r}") from None
        except ConnectionResetError:
            raise WireError(f"connection reset; so far {self._buffer[:200]!r}") from None
        if not received:
            raise WireError(f"connection closed; so far {self._buffer[:200]!r}")
        self._buffer += received
