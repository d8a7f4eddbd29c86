"""What a server can do wrong once it has a request, and how a test looks at what comes of it.

Each row of the tables is a name and what the server does about one request; the dictionary tells
what the client must make of it.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from gemstone_sync import CircuitOpen, GemstoneError, RemoteService, TransportError
from tests.support.faulty_server import (
    CERTIFICATE,
    Behaviour,
    FaultyServer,
    body,
    close,
    drip,
    endless,
    hang,
    html,
    raw,
    redirect,
    reset,
)
from tests.support.http import chunk, chunked
from tests.support.waiting import LIMIT

#: Seconds that a call has where the server does not answer in time.
SHORT = 0.3
#: Milliseconds that a service may take longer than its caller waits: the caller sees first that the
#: time is over.
LAG = 250
#: Seconds after which a call with so little time has surely ended, on a machine that is busy.
ENDED = 12.0

JSON_TYPE = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
RESULT = '{"jsonrpc":"2.0","result":"pong","id":ID}'
HALF = JSON_TYPE + 'Content-Length: 400\r\n\r\n{"jsonrpc":"2.0","result":"po'


def whole(text: str, *fields: str) -> str:
    """A reply with these fields besides its type."""
    return JSON_TYPE + "".join(f"{field}\r\n" for field in fields) + "\r\n" + text


#: The connection broke; what the server does.
LOST: dict[str, Behaviour] = {
    "closed without an answer": close,
    "reset after the request": reset,
}

#: There was no whole answer in time.
LATE: dict[str, Behaviour] = {
    "no answer": hang,
    "half a status line, then silence": raw("HTTP/1.1 2", hang),
    "a head, then silence": raw(whole("", "Content-Length: 40"), hang),
    "half a body, then silence": raw(HALF, hang),
    "half a chunked body, then silence": raw(
        whole("", "Transfer-Encoding: chunked") + chunk(b'{"jsonrpc":').decode(), hang
    ),
    "interim replies, then silence": raw("HTTP/1.1 100 Continue\r\n\r\n" * 3, hang),
    "a head of one byte at a time": drip(JSON_TYPE * 9, every=SHORT / 8),
    "a body of one byte at a time": drip(whole(" " * 400, "Content-Length: 400"), every=SHORT / 8),
    "a chunk of one byte at a time": drip(
        whole("1\r\n \r\n" * 99, "Transfer-Encoding: chunked"), every=SHORT / 8
    ),
    "interim replies one after another": drip("HTTP/1.1 102 Wait\r\n\r\n" * 99, every=SHORT / 8),
}

#: Something answered, but not so: the status that the exception must have, if any, and what the
#: server does.
BAD: dict[str, tuple[int | None, Behaviour]] = {
    # not HTTP
    "no HTTP": (None, raw("\x00\x01 SSH-2.0-OpenSSH_9.2\r\n\r\n", close)),
    "no HTTP, the connection stays open": (None, raw("\x00\x01 SSH-2.0\r\n\r\n", hang)),
    "one byte": (None, raw("H", close)),
    "half a head": (None, raw("HTTP/1.1 200 OK\r\nContent-Ty", close)),
    "a header without a colon": (None, raw(whole(RESULT, "nonsense", "Content-Length: 41"), close)),
    "an endless head": (
        None,
        endless(b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"x" * 99 + b"\r\n"),
    ),
    "an endless header": (None, endless(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x" * 9999)),
    "endless interim replies": (None, endless(b"", b"HTTP/1.1 102 Wait\r\n\r\n" * 99)),
    "another protocol": (
        101,
        raw("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", hang),
    ),
    # framing
    "half a body": (200, raw(HALF, close)),
    "half a body, then a reset": (200, raw(HALF, reset)),
    "a head only": (200, raw(whole("", "Content-Length: 40"), close)),
    "half a chunked body": (
        200,
        raw(whole("", "Transfer-Encoding: chunked") + chunk(b'{"jsonrpc":').decode(), close),
    ),
    "a chunk of an odd size": (
        200,
        raw(whole(f"xyz\r\n{RESULT}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), close),
    ),
    "two lengths": (None, raw(whole(RESULT, "Content-Length: 41", "Content-Length: 9"), close)),
    "a length that is none": (None, raw(whole(RESULT, "Content-Length: many"), close)),
    "a length below zero": (None, raw(whole(RESULT, "Content-Length: -1"), close)),
    "a length and chunks": (
        None,
        raw(
            whole(
                chunked(b"{}").decode() + RESULT, "Content-Length: 9", "Transfer-Encoding: chunked"
            ),
            close,
        ),
    ),
    "no gzip": (200, body(RESULT, Content_Encoding="gzip")),
    "an unknown coding": (200, body(RESULT, Content_Encoding="zstd")),
    # not from the service
    "HTML": (200, html()),
    "HTML 404": (404, html("404 Not Found")),
    "HTML 500": (500, html("500 Internal Server Error")),
    "HTML 502": (502, html("502 Bad Gateway")),
    "HTML 504": (504, html("504 Gateway Timeout", Connection="close")),
    "a redirect 301": (301, redirect("/other", "301 Moved Permanently")),
    "a redirect 302": (302, redirect("/other", "302 Found")),
    "a redirect 307": (307, redirect("/other")),
    "a redirect without a place": (308, body("", "308 Permanent Redirect")),
    "no content": (204, raw("HTTP/1.1 204 No Content\r\n\r\n")),
    "an empty body": (200, body("")),
    # not JSON
    "no JSON": (200, body("pong")),
    "half a JSON text": (200, body('{"jsonrpc":"2.0","result":"pong","id":')),
    "NaN": (200, body('{"jsonrpc":"2.0","result":NaN,"id":ID}')),
    "not UTF-8": (200, body(b'{"jsonrpc":"2.0","result":"\xff","id":ID}')),
    "nested without end": (200, body("[" * 100_000)),
    # not a response
    "a string": (200, body('"pong"')),
    "null": (200, body("null")),
    "a list for one call": (200, body(f"[{RESULT}]")),
    "another id": (200, body('{"jsonrpc":"2.0","result":"pong","id":987654321}')),
    "no id": (200, body('{"jsonrpc":"2.0","result":"pong"}')),
    "id null": (200, body('{"jsonrpc":"2.0","result":"pong","id":null}')),
    "the id in a list": (200, body('{"jsonrpc":"2.0","result":"pong","id":[ID]}')),
    "both result and error": (
        200,
        body('{"jsonrpc":"2.0","result":1,"error":{"code":1,"message":"no"},"id":ID}'),
    ),
    "neither result nor error": (200, body('{"jsonrpc":"2.0","id":ID}')),
    "error null alone": (200, body('{"jsonrpc":"2.0","error":null,"id":ID}')),
    "an error that is a string": (200, body('{"jsonrpc":"2.0","error":"no","id":ID}')),
    "an error without a code": (200, body('{"jsonrpc":"2.0","error":{"message":"no"},"id":ID}')),
    "a code that is a string": (
        200,
        body('{"jsonrpc":"2.0","error":{"code":"1","message":"no"},"id":ID}'),
    ),
}


def client_of(place: Any, **options: Any) -> RemoteService:
    """A client that waits for as long as a busy machine may need, and believes in `CERTIFICATE`.

    :param place: a URL, or what has one.
    """
    limits = {"timeout": LIMIT, "total_timeout": LIMIT, "verify": CERTIFICATE}
    return RemoteService(getattr(place, "url", place), **{**limits, **options})


def hurried(server: FaultyServer, fault: str | None = None, **options: Any) -> RemoteService:
    """A client that waits only for a moment each time, but as often as it may.

    :param fault: what the server does; where that is not silence, the client is patient.
    """
    seconds = SHORT if fault is None or fault in LATE else LIMIT
    return client_of(server, timeout=(LIMIT, seconds), **options)


def fault_of(call: Callable[[], Any], kind: type[GemstoneError] = TransportError) -> Any:
    """The exception of a call that does not work, which must come soon."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        call()
    assert time.monotonic() - began < ENDED
    return caught.value


def unless_open(call: Callable[[], Any]) -> Any:
    """What the call gives, or None while nothing is tried."""
    try:
        return call()
    except CircuitOpen:
        return None


def assert_clear(error: Exception, url: str) -> None:
    """The message is one line that names the URL, in words rather than reprs."""
    message = str(error)
    assert url in message
    assert "\n" not in message
    assert len(message) < 300
    assert not re.search(r"Traceback|object at 0x|Errno|Pool\(|Max retries|Error\(|_ssl", message)
