"""A raw HTTP/1.1 client.

It sends exactly the bytes that it is given and is strict about what comes back.
"""

import contextlib
import json
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


class Connection:
    """One connection to a server on 127.0.0.1, for one request after another."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", limit: float = LIMIT) -> None:
        self.socket = socket.create_connection((host, port), timeout=limit)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def exchange(self, sent: bytes) -> Reply:
        """Send a whole request and read its reply."""
        self.send(sent)
        return self.read_reply(head_only=sent.startswith(b"HEAD "))

    def call(self, method: str, *params: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """Call a method at ``/api``."""
        return self.exchange(call_message(method, *params, headers=headers))

    def send(self, sent: bytes) -> None:
        # A refusal may come, and the connection end, before everything is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(sent)

    def finish_sending(self) -> None:
        """End this side's half: the server sees the end of what was sent."""
        self.socket.shutdown(socket.SHUT_WR)

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
        pairs = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert re.fullmatch(r"[A-Za-z0-9-]+", name) and colon, f"odd header {line!r}"  # noqa: PT018
            pairs.append((name, value.strip()))
        return int(first.split(" ")[1]), Headers(pairs)

    def is_ended(self) -> bool:
        """Wait for the server to end the connection; False when it says something instead."""
        try:
            return not self._received and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def read_body(self, headers: Headers) -> bytes:
        """Read what follows a head from `read_head`."""
        lengths = headers.get_all("Content-Length")
        if "Transfer-Encoding" in headers:
            assert not lengths, f"two framings in {headers}"
            return self._read_chunks()
        assert len(lengths) == 1, f"not one Content-Length in {headers}"
        return self._exactly(int(lengths[0]))

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _receive(self) -> None:
        received = self.socket.recv(1 << 16)
        assert received, f"the connection ended; so far {self._received[:200]!r}"
        self._received += received


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
    """Whether nobody listens on the port (any more)."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
