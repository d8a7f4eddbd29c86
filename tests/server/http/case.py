"""One raw request and what must come of it; the words in which the table is written."""

import dataclasses
from typing import Any

from tests.support import cases
from tests.support.cases import ABSENT, NOTHING, REFUSED, Object, Where

HOST = b"Host: a"
CHUNKED = b"Transfer-Encoding: chunked"
#: A body of "abc" in chunks.
ABC = b"3\r\nabc\r\n0\r\n\r\n"
CLOSES = Where("close", lambda value: value is not ABSENT and "close" in value.lower())
STAYS = Where("no close", lambda value: value is ABSENT or "close" not in value.lower())


@dataclasses.dataclass(frozen=True)
class Case(cases.Case):
    """A request and its fate.

    :ivar source: the section of the RFC that decides it.
    :ivar kept: the connection may be used again; else the server says so and closes it.
    :ivar runs: the path that the application sees; None when it must never be called.
    """

    source: str = ""
    kept: bool = False
    runs: str | None = None

    @property
    def is_head(self) -> bool:
        return _is_head(self.sent)


def _is_head(sent: bytes) -> bool:
    return sent.lstrip(b"\r\n").startswith(b"HEAD ")


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """A request of exactly these lines; none is added."""
    return b"\r\n".join([line, *fields, b"", body])


def get(*fields: bytes) -> bytes:
    """GET /x with a Host and more fields."""
    return request(b"GET /x HTTP/1.1", HOST, *fields)


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """POST /x with a Host and more fields; no length is added."""
    return request(b"POST /x HTTP/1.1", HOST, *fields, body=body)


def post_abc(*fields: bytes, line: bytes = b"POST /x HTTP/1.1", length: int = 3) -> bytes:
    """POST /x whose body is "abc"."""
    return request(line, HOST, *fields, b"Content-Length: %d" % length, body=b"abc")


def in_chunks(body: bytes, *fields: bytes) -> bytes:
    """POST /x whose chunked body is written out."""
    return post(CHUNKED, *fields, body=body)


def good(
    name: str, source: str, sent: bytes, *, path: str = "/x", kept: bool = True, **told: Any
) -> Case:
    """Answered 200 by the echo; `told` is part of what it says, None: it is not there."""
    told = {key: ABSENT if value is None else value for key, value in told.items()}
    reply = NOTHING if _is_head(sent) else Object({"path": path, **told})
    headers = {"Connection": STAYS if kept else CLOSES}
    return Case(name, sent, reply, 200, headers, source=source, kept=kept, runs=path)


def bad(name: str, source: str, sent: bytes, *statuses: int, runs: str | None = None) -> Case:
    """Refused by its head, with 400 unless said, before the application is called; closed.

    The reply says why: a JSON-RPC error, as in every refusal here.
    """
    reply = NOTHING if _is_head(sent) else REFUSED
    return Case(name, sent, reply, statuses or (400,), {"Connection": CLOSES}, source, runs=runs)


def bad_body(name: str, source: str, sent: bytes, *statuses: int) -> Case:
    """Refused while the application reads the body of POST /x; closed."""
    return bad(name, source, sent, *statuses, runs="/x")
