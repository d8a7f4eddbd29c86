"""A raw HTTP/1.1 client.

It sends exactly the bytes that it is given and is strict about what comes back.
"""

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import gevent

from .waiting import LIMIT

JSON = {"Content-Type": "application/json"}


class Headers:
    """The headers of a reply, by names in any case."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = list(pairs)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return ", ".join(self.get_all(name)) or None

    def __contains__(self, name: str) -> bool:
        return bool(self.get_all(name))

    def __repr__(self) -> str:
        return repr(self.pairs)


class Reply(NamedTuple):
    """One HTTP reply."""

    status: int
    headers: Headers
    body: bytes

    @property
    def closes(self) -> bool:
        return "close" in (self.headers.get("Connection") or "").lower()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def message(
    verb: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request, with Host and, for a body, Content-Length unless `headers` have their own."""
    given = {"Host": "127.0.0.1"}
    if body is not None:
        given["Content-Length"] = str(len(body))
    for name, value in (headers or {}).items():
        given = {key: v for key, v in given.items() if key.lower() != name.lower()}
        if name.lower() == "transfer-encoding":
            given.pop("Content-Length", None)
        given[name] = value
    lines = [f"{verb} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def call_body(method: str, *params: Any, id: Any = 1) -> bytes:
    """A JSON-RPC request as text."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id}).encode()


def notification_body(method: str, *params: Any) -> bytes:
    """A JSON-RPC notification as text."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()


def call_message(
    method: str, *params: Any, headers: Mapping[str, str] | None = None, id: Any = 1
) -> bytes:
    """A whole HTTP request that calls a method at ``/api``."""
    return message("POST", "/api", {**JSON, **(headers or {})}, call_body(method, *params, id=id))


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def chunked(*pieces: bytes) -> bytes:
    """A chunked body, its last chunk included."""
    return b"".join(map(chunk, pieces)) + b"0\r\n\r\n"


class ReplyReader:
    """Reads one reply after another from what came, strictly: one framing, no byte too many."""

    def __init__(self, received: bytes = b"") -> None:
        self.received = received

    def read_reply(self, *, head_only: bool = False) -> Reply:
        """Read the next final reply; interim ones (1xx) are skipped."""
        status, headers = self.read_head()
        while status // 100 == 1:
            status, headers = self.read_head()
        body = b"" if head_only or status in (204, 304) else self.read_body(headers)
        return Reply(status, headers, body)

    def read_head(self) -> tuple[int, Headers]:
        """Read the status and headers of the next reply, interim or final."""
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.1 \d{3} [^\r\n]*", first), f"odd status line {first!r}"
        headers = [re.fullmatch(r"([A-Za-z0-9-]+): ([^\r\n]*)", line) for line in lines]
        assert all(headers), f"an odd header in {lines}"
        return int(first[9:12]), Headers([(match[1], match[2]) for match in headers if match])

    def read_body(self, headers: Headers) -> bytes:
        """Read what follows a head from `read_head`."""
        lengths = headers.get_all("Content-Length")
        if "Transfer-Encoding" in headers:
            assert not lengths, f"two framings in {headers}"
            assert headers.get_all("Transfer-Encoding") == ["chunked"], headers
            return self._read_chunks()
        assert len(lengths) == 1, f"not one Content-Length in {headers}"
        return self.read_some(int(lengths[0]))

    def read_some(self, size: int) -> bytes:
        """So many bytes as they are, framing included."""
        while len(self.received) < size:
            self._receive()
        found, self.received = self.received[:size], self.received[size:]
        return found

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            body += self.read_some(size)
            assert self.read_some(2) == b"\r\n", f"a chunk of {size} does not end there"
        assert self.read_some(2) == b"\r\n"
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            self._receive()
        found, _, self.received = self.received.partition(mark)
        return found

    def _receive(self) -> None:
        raise AssertionError(f"the connection ended; so far {self.received[:200]!r}")


def parse_replies(text: bytes, heads: Sequence[bool] = ()) -> list[Reply]:
    """All final replies in what a server sent until it closed.

    :param heads: which of the replies answer to HEAD.
    :raises AssertionError: when something is not a whole reply.
    """
    reader = ReplyReader(text)
    replies: list[Reply] = []
    while reader.received:
        status, headers = reader.read_head()
        if status // 100 != 1:
            head_only = len(replies) < len(heads) and heads[len(replies)]
            bodiless = head_only or status in (204, 304)
            replies.append(Reply(status, headers, b"" if bodiless else reader.read_body(headers)))
    return replies


class Connection(ReplyReader):
    """One connection to a server on 127.0.0.1, for one request after another."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        limit: float = LIMIT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.socket = socket.create_connection((host, port), timeout=limit)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def exchange(self, sent: bytes) -> Reply:
        """Send a whole request and read its reply, behind which there must be nothing."""
        self.send(sent)
        reply = self.read_reply(head_only=sent.startswith(b"HEAD "))
        assert not self.received, f"bytes after the reply: {self.received[:200]!r}"
        return reply

    def call(self, method: str, *params: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """Call a method at ``/api``."""
        return self.exchange(call_message(method, *params, headers=headers))

    def send(self, sent: bytes) -> None:
        # A refusal may come, and the connection end, before everything is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(sent)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Each piece a send of its own; a server in this process runs in between."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self.socket.sendall(piece)
                # Once around the event loop: sleep(0) would come back before it looks at sockets.
                gevent.idle()

    def send_by_byte(self, sent: bytes) -> None:
        self.send_pieces(bytes([byte]) for byte in sent)

    def finish_sending(self) -> None:
        """End this side's half: the server sees the end of what was sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def is_ended(self) -> bool:
        """Wait for the server to end the connection; False when it says something instead."""
        try:
            return not self.received and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def read_to_end(self) -> bytes:
        """Everything that still comes until the server ends the connection."""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(1 << 16):
                self.received += piece
        everything, self.received = self.received, b""
        return everything

    def read_reply_to_end(self) -> Reply:
        """A reply without a length, as HTTP/1.0 has them: the connection's end ends it."""
        status, headers = self.read_head()
        return Reply(status, headers, self.read_to_end())

    def abort(self) -> None:
        """Go away with a reset instead of a goodbye."""
        linger = b"\x01\0\0\0\0\0\0\0"
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def _receive(self) -> None:
        if not (received := self.socket.recv(1 << 16)):
            super()._receive()
        self.received += received


def exchange(port: int, sent: bytes) -> Reply:
    """Send one request on a connection of its own and read the reply."""
    with Connection(port) as connection:
        return connection.exchange(sent)


def call(port: int, method: str, *params: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Call a method at ``/api`` on a connection of its own."""
    return exchange(port, call_message(method, *params, headers=headers))


def result_of(reply: Reply) -> Any:
    """The result of a successful call."""
    assert reply.status == 200, reply
    return reply.json["result"]


def is_ready(port: int) -> bool:
    """Ask ``/health/ready``."""
    try:
        return exchange(port, message("GET", "/health/ready")).status == 200
    except (OSError, AssertionError):
        return False


def refuses_connections(port: int) -> bool:
    """Tell whether nobody listens on the port (any more)."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
