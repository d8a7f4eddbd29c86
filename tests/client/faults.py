"""What a server can do wrong once it has a request, and how a test looks at what comes of it."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from gemstone_sync import (
    CircuitOpen,
    GemstoneError,
    MethodCall,
    Notification,
    RemoteService,
    TransportError,
)
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
from tests.support.machine import free_port
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
CHUNKED = "Transfer-Encoding: chunked"
HALF_A_CHUNK = chunk(b'{"jsonrpc":').decode()
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
    "half a chunked body, then silence": raw(whole(HALF_A_CHUNK, CHUNKED), hang),
    "interim replies, then silence": raw("HTTP/1.1 100 Continue\r\n\r\n" * 3, hang),
    "a head of one byte at a time": drip(JSON_TYPE * 9, every=SHORT / 8),
    "a body of one byte at a time": drip(whole(" " * 400, "Content-Length: 400"), every=SHORT / 8),
    "a chunk of one byte at a time": drip(whole("1\r\n \r\n" * 99, CHUNKED), every=SHORT / 8),
    "interim replies one after another": drip("HTTP/1.1 102 Wait\r\n\r\n" * 99, every=SHORT / 8),
}

#: Something answered, but not so; what the server does, by the status that the exception has.
_BAD: dict[int | None, dict[str, Behaviour]] = {
    None: {
        "no HTTP": raw("\x00\x01 SSH-2.0-OpenSSH_9.2\r\n\r\n", close),
        "no HTTP, the connection stays open": raw("\x00\x01 SSH-2.0\r\n\r\n", hang),
        "one byte": raw("H", close),
        "half a head": raw("HTTP/1.1 200 OK\r\nContent-Ty", close),
        "a header without a colon": raw(whole(RESULT, "nonsense", "Content-Length: 41"), close),
        "an endless head": endless(b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"x" * 99 + b"\r\n"),
        "an endless header": endless(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x" * 9999),
        "endless interim replies": endless(b"", b"HTTP/1.1 102 Wait\r\n\r\n" * 99),
        "two lengths": raw(whole(RESULT, "Content-Length: 41", "Content-Length: 9"), close),
        "a length that is none": raw(whole(RESULT, "Content-Length: many"), close),
        "a length below zero": raw(whole(RESULT, "Content-Length: -1"), close),
        "a length and chunks": raw(
            whole(chunked(b"{}").decode() + RESULT, "Content-Length: 9", CHUNKED), close
        ),
    },
    101: {
        "another protocol": raw(
            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", hang
        )
    },
    200: {
        "half a body": raw(HALF, close),
        "half a body, then a reset": raw(HALF, reset),
        "a head only": raw(whole("", "Content-Length: 40"), close),
        "half a chunked body": raw(whole(HALF_A_CHUNK, CHUNKED), close),
        "a chunk of an odd size": raw(whole(f"xyz\r\n{RESULT}\r\n0\r\n\r\n", CHUNKED), close),
        "endless trailers": endless(
            f"{whole('', CHUNKED)}1\r\n \r\n0\r\n".encode(), b"X-Trailer: " + b"x" * 99 + b"\r\n"
        ),
        "an endless trailer": endless(
            f"{whole('', CHUNKED)}1\r\n \r\n0\r\nX-Trailer: ".encode(), b"x" * 9999
        ),
        "an endless extension of a chunk": endless(
            f"{whole('', CHUNKED)}1\r\n \r\n1;a=".encode(), b"x" * 9999
        ),
        "no gzip": body(RESULT, Content_Encoding="gzip"),
        "an unknown coding": body(RESULT, Content_Encoding="zstd"),
        "HTML": html(),
        "not UTF-8": body(b'{"jsonrpc":"2.0","result":"\xff","id":ID}'),
    },
    204: {"no content": raw("HTTP/1.1 204 No Content\r\n\r\n")},
    301: {"a redirect 301": redirect("/other", "301 Moved Permanently")},
    302: {"a redirect 302": redirect("/other", "302 Found")},
    307: {"a redirect 307": redirect("/other")},
    308: {"a redirect without a place": body("", "308 Permanent Redirect")},
    404: {"HTML 404": html("404 Not Found")},
    500: {"HTML 500": html("500 Internal Server Error")},
    502: {"HTML 502": html("502 Bad Gateway")},
    504: {"HTML 504": html("504 Gateway Timeout", Connection="close")},
}
_BODIES = {
    "an empty body": "",
    "no JSON": "pong",
    "half a JSON text": '{"jsonrpc":"2.0","result":"pong","id":',
    "NaN": '{"jsonrpc":"2.0","result":NaN,"id":ID}',
    "nested without end": "[" * 100_000,
    "a string": '"pong"',
    "null": "null",
    "a list for one call": f"[{RESULT}]",
    "another id": '{"jsonrpc":"2.0","result":"pong","id":987654321}',
    "no id": '{"jsonrpc":"2.0","result":"pong"}',
    "id null": '{"jsonrpc":"2.0","result":"pong","id":null}',
    "the id in a list": '{"jsonrpc":"2.0","result":"pong","id":[ID]}',
    "result and error": '{"jsonrpc":"2.0","result":1,"error":{"code":1,"message":"no"},"id":ID}',
    "neither result nor error": '{"jsonrpc":"2.0","id":ID}',
    "error null alone": '{"jsonrpc":"2.0","error":null,"id":ID}',
    "an error that is a string": '{"jsonrpc":"2.0","error":"no","id":ID}',
    "an error without a code": '{"jsonrpc":"2.0","error":{"message":"no"},"id":ID}',
    "a code that is a string": '{"jsonrpc":"2.0","error":{"code":"1","message":"no"},"id":ID}',
}
_BAD[200].update({name: body(text) for name, text in _BODIES.items()})

#: The status that the exception must have, if any, and what the server does.
BAD: dict[str, tuple[int | None, Behaviour]] = {
    name: (status, behaviour)
    for status, behaviours in _BAD.items()
    for name, behaviour in behaviours.items()
}


#: The ways to call.
WAYS: dict[str, Callable[[RemoteService], Any]] = {
    "a call": lambda client: client.methods.ping(),
    "an idempotent call": lambda client: client.idempotent.ping(),
    "a call in the background": lambda client: client.methods.ping.async_().result(wait=True),
    "a notification": lambda client: client.notifications.ping(),
    "a batch": lambda client: client.call_batch(MethodCall("ping"), Notification("told")),
}


def dead_url() -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{free_port()}/api"


def client_of(place: Any, **options: Any) -> RemoteService:
    """A client that waits for as long as a busy machine may need, and believes in `CERTIFICATE`.

    :param place: a URL, or what has one.
    :param options: with a session, that one says whom to believe.
    """
    defaults: dict[str, Any] = {"timeout": LIMIT, "total_timeout": LIMIT}
    if "session" not in options:
        defaults["verify"] = CERTIFICATE
    return RemoteService(getattr(place, "url", place), **{**defaults, **options})


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
