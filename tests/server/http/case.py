"""One raw request and what must come of it; the words in which the table is written."""

import dataclasses
from collections.abc import Mapping
from typing import Any

HOST = b"Host: a"
CHUNKED = b"Transfer-Encoding: chunked"


@dataclasses.dataclass(frozen=True)
class Case:
    """A request and its fate.

    :ivar source: the section of the RFC that decides it.
    :ivar statuses: which of them is answered is the server's choice.
    :ivar kept: the connection may be used again; else the server says so and closes it.
    :ivar runs: the path that the application sees; None when it must never be called.
    :ivar told: what the application's echo says, or part of it; None in `environ` means absent.
    """

    name: str
    source: str
    sent: bytes
    statuses: tuple[int, ...]
    kept: bool
    runs: str | None
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_head(self) -> bool:
        return self.sent.lstrip(b"\r\n").startswith(b"HEAD ")


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """A request of exactly these lines; none is added."""
    return b"\r\n".join([line, *fields, b"", body])


def get(*fields: bytes) -> bytes:
    """GET /x with a Host and more fields."""
    return request(b"GET /x HTTP/1.1", HOST, *fields)


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """POST /x with a Host and more fields; no length is added."""
    return request(b"POST /x HTTP/1.1", HOST, *fields, body=body)


def in_chunks(body: bytes) -> bytes:
    """POST /x whose chunked body is written out."""
    return post(CHUNKED, body=body)


def good(
    name: str, source: str, sent: bytes, *, path: str = "/x", kept: bool = True, **told: Any
) -> Case:
    """Answered 200 by the echo; `told` is part of what it says."""
    return Case(name, source, sent, (200,), kept, path, {"path": path, **told})


def bad(name: str, source: str, sent: bytes, *statuses: int) -> Case:
    """Refused by its head, with 400 unless said, before the application is called; closed."""
    return Case(name, source, sent, statuses or (400,), False, None)


def bad_body(name: str, source: str, sent: bytes, *statuses: int) -> Case:
    """Refused while the application reads the body of POST /x; closed."""
    return Case(name, source, sent, statuses or (400,), False, "/x")
