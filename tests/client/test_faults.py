"""Whatever a server does wrong, the caller gets the right exception, in time and only once.

What happens to one client and one call; the table of what servers do wrong is in faults.py. How
often a request is sent is in test_retries.py, connecting in test_connecting.py and test_tls.py,
what must never leave the client in test_safety.py, connections that are kept in
test_connections.py.
"""

import functools
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import MethodCall, RemoteService, errors
from tests.support.faulty_server import (
    HTML,
    Behaviour,
    FaultyServer,
    answer,
    body,
    close,
    drip,
    endless,
    full_backlog,
    gzip_bomb,
    hang,
    html,
    keep,
    raw,
)
from tests.support.http import chunk, chunked
from tests.support.programs import program
from tests.support.waiting import LIMIT, gather, wait_until

from .faults import (
    BAD,
    CHUNKED,
    LATE,
    LOST,
    RESULT,
    SHORT,
    assert_clear,
    client_of,
    dead_url,
    fault_of,
    whole,
)


def fault_of_sent(call: Callable[[], Any], server: FaultyServer, sent: int) -> Any:
    """The exception of a call that has been sent.

    Where the machine stands still, all of a short time may pass before that: then it is called
    again.
    """

    def fault() -> Any:
        error = fault_of(call)
        return error if error.may_have_run or server.received["ping"] == sent else None

    error = wait_until(fault, "a call that is sent in time")
    wait_until(lambda: server.received["ping"] >= sent, "the request")
    return error


def check_fault(
    behaviour: Behaviour, expected: type[errors.TransportError], status: int | None
) -> None:
    """The fault is told, and the next call, on what is left of the client, is not disturbed."""
    short = {"timeout": SHORT, "total_timeout": SHORT} if expected is errors.Timeout else {}
    with FaultyServer(*[behaviour, answer()] * 2) as server, client_of(server) as client:
        for sent in (1, 3):  # on a new connection, and on one that is kept
            error = fault_of_sent(client.with_options(**short).methods.ping, server, sent)

            assert isinstance(error, expected), repr(error)
            assert not isinstance(error, errors.ConnectTimeout)
            assert error.may_have_run is True
            assert_clear(error, server.url)
            assert status is None or error.status == status
            assert server.received["ping"] == sent
            assert client.methods.ping() == "pong"
            assert server.received["ping"] == sent + 1


@pytest.mark.parametrize("name", [*LOST, *BAD])
def test_a_fault_after_sending(name: str) -> None:
    if name in LOST:
        check_fault(LOST[name], errors.ConnectionLost, None)
    else:
        status, behaviour = BAD[name]
        check_fault(behaviour, errors.BadResponse, status)


def test_an_answer_that_does_not_come_in_time() -> None:
    gather([functools.partial(check_fault, each, errors.Timeout, None) for each in LATE.values()])


BEFORE = ["refused", "backlog", "unknown name", "impossible name", "no TLS", "closed TLS"]


@pytest.mark.parametrize("kind", [*BEFORE, "silent TLS", "dripping TLS"])
def test_a_fault_before_sending(kind: str) -> None:
    dripping = drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 999, 0.01)
    with (
        FaultyServer(greeting=raw("HTTP/1.1 400 Bad Request\r\n\r\n", keep)) as plain,
        FaultyServer(tls=True, greeting=close) as closing,
        FaultyServer(tls=True, greeting=hang) as silent,
        FaultyServer(tls=True, greeting=dripping) as slow,
        full_backlog() as full,
    ):
        url = {
            "refused": dead_url(),
            "backlog": full,
            "unknown name": "http://nobody.invalid:1/api",  # RFC 6761: no resolver knows it
            "impossible name": f"http://{'a' * 64}.invalid:1/api",
            "no TLS": plain.url.replace("http:", "https:"),
            "closed TLS": closing.url,
            "silent TLS": silent.url,
            "dripping TLS": slow.url,
        }[kind]
        hangs = kind in ("backlog", "silent TLS", "dripping TLS")
        with client_of(url, timeout=(0.1 if hangs else LIMIT, LIMIT)) as client:
            error = fault_of(client.methods.ping)

        assert type(error) is (errors.ConnectTimeout if hangs else errors.ConnectionFailed)
        assert error.may_have_run is False
        assert_clear(error, url)


def test_a_connect_time_out_is_both() -> None:
    assert issubclass(errors.ConnectTimeout, errors.Timeout)
    assert issubclass(errors.ConnectTimeout, errors.ConnectionFailed)
    assert issubclass(errors.TransportError, errors.GemstoneError)


def test_what_may_have_run_is_not_caught_as_what_was_never_sent() -> None:
    never_sent = errors.ConnectionFailed
    assert not issubclass(errors.ConnectionLost, never_sent)
    for cls in (never_sent, *never_sent.__subclasses__()):
        assert cls.may_have_run is False


def test_the_total_time_bounds_all_attempts_to_connect() -> None:
    with full_backlog() as url, client_of(url, total_timeout=0.1) as client:
        error = fault_of(client.methods.ping, errors.Timeout)

    assert error.may_have_run is False


def test_what_the_proxy_said_is_kept() -> None:
    replies = html("502 Bad Gateway"), html("500 Oops"), body("x" * 1_000_000, "500 Oops")
    with FaultyServer(*replies) as server, client_of(server) as client:
        error = fault_of(client.methods.ping, errors.BadResponse)
        assert error.body == HTML.encode()
        assert "502" in str(error)
        assert "500" in str(fault_of(client.methods.ping))
        assert 0 < len(fault_of(client.methods.ping).body) < 10_000


#: Replies that are odd but right, and the value they have.
ACCEPTED: dict[str, tuple[Any, Behaviour]] = {
    "chunks": (
        1,
        lambda exchange: exchange.send(
            whole("", "Transfer-Encoding: chunked").encode()
            + chunked(b'{"jsonrpc":"2.0","res', b'ult":1,"id":', exchange.request.id.encode(), b"}")
        ),
    ),
    "the end of the connection ends it": (
        "pong",
        raw(f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{RESULT}", close),
    ),
    "interim replies first": (
        "pong",
        lambda exchange: (
            exchange.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n"),
            answer("pong")(exchange),
        )[1],
    ),
    "one byte at a time, in time": (
        "pong",
        lambda exchange: drip(
            whole(RESULT.replace("ID", exchange.request.id.rjust(9)), "Content-Length: 48"), 0
        )(exchange),
    ),
    "the old gemstone's": ("pong", body('{"jsonrpc":"2.0","result":"pong","error":null,"id":ID}')),
    "the old gemstone's null": (None, body('{"jsonrpc":"2.0","result":null,"error":null,"id":ID}')),
    "null": (None, body('{"jsonrpc":"2.0","result":null,"id":ID}')),
    "members besides": ("pong", body('{"jsonrpc":"2.0","result":"pong","id":ID,"took":3}')),
    "another content type": ("pong", body(RESULT, Content_Type="text/plain")),
    "space around it": ("pong", body(f" \r\n\t{RESULT}\n")),
    "a big number": (2**70, body(f'{{"jsonrpc":"2.0","result":{2**70},"id":ID}}')),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_answer_that_is_right(name: str) -> None:
    value, behaviour = ACCEPTED[name]
    with FaultyServer(behaviour) as server, client_of(server) as client:
        assert [client.methods.ping(), client.methods.ping()] == [value, value]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        *[(1, text) for text in ('"1"', "1.0", "true", "[1]", "10", "null")],
        *[("one", text) for text in ("1", '"one "', '"ONE"', '["one"]', "null")],
    ],
)
def test_an_id_that_is_not_exactly_the_same_is_another_id(asked: Any, answered: str) -> None:
    wrong = body(f'{{"jsonrpc":"2.0","result":1,"id":{answered}}}')
    call = MethodCall("ping", id=asked)
    with FaultyServer(wrong, answer()) as server, client_of(server) as client:
        with pytest.raises(errors.BadResponse, match="id"):
            client.call_method(call)
        assert client.call_method(call).value() == "pong"


#: An error object is an error whatever the status and form; what the server does.
ERROR = '"error":{"code":-32601,"message":"no such method"}'
ERRORS: dict[str, Behaviour] = {
    "200": body(f'{{"jsonrpc":"2.0",{ERROR},"id":ID}}'),
    "500": body(f'{{"jsonrpc":"2.0",{ERROR},"id":ID}}', "500 Oops"),
    "404": body(f'{{"jsonrpc":"2.0",{ERROR},"id":ID}}', "404 Not Found"),
    "the old gemstone's": body(f'{{"jsonrpc":"2.0","result":null,{ERROR},"id":ID}}'),
    "id null, as for one that could not be read": body(f'{{"jsonrpc":"2.0",{ERROR},"id":null}}'),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_object_is_the_services_answer(name: str) -> None:
    with FaultyServer(ERRORS[name]) as server, client_of(server) as client:
        with pytest.raises(errors.MethodNotFound, match="no such method") as caught:
            client.idempotent.ping()

        assert isinstance(caught.value, errors.RemoteError)
        assert (caught.value.code, caught.value.method) == (-32601, "ping")
        assert caught.value.url == server.url
        assert server.received["ping"] == 1


# No answer fills the memory, whatever its length, its coding or its server's intentions


def memory_of(function: Callable[[], Any]) -> int:
    """The most bytes that it holds at once."""
    tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        function()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()


def test_an_answer_in_tiny_chunks_takes_no_more_memory_than_its_size() -> None:
    tiny = chunk(b"  ") * 500_000
    with (
        FaultyServer(raw(whole("", CHUNKED).encode() + tiny, close)) as server,
        client_of(server) as client,
    ):
        peak = memory_of(lambda: fault_of(client.methods.ping))

        assert peak < 10_000_000  # beside what the server has: 50 bytes for each chunk


#: A server of another process: it sends while this one reads.
FLOOD = """
import socket

listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
tiny = b"1\\r\\n \\r\\n" * 10_000
try:
    while True:
        connection.sendall(tiny)
except OSError:
    pass
"""


def test_others_have_their_turn_while_an_answer_in_tiny_chunks_comes(tmp_path: Path) -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.001)
            turns += 1

    with program(FLOOD, tmp_path) as server:
        [port] = server.wait_for_ports()
        url = f"http://127.0.0.1:{port}/api"
        with client_of(url, max_response_size=1_000_000) as client:
            counting = gevent.spawn(count)
            error = fault_of(client.methods.ping)
            counting.kill()

    assert isinstance(error, errors.BadResponse)
    assert turns > 5  # of some 100 pieces of 64 KB; on a busy machine others want theirs too


@pytest.mark.parametrize("limit", [1_000, 20_000_000])
def test_a_little_gzip_does_not_become_a_lot_of_memory(limit: int) -> None:
    bomb = gzip_bomb(40_000_000)
    assert len(bomb) < 100_000
    options = {} if limit == 20_000_000 else {"max_response_size": limit}  # the default
    with (
        FaultyServer(body(bomb, Content_Encoding="gzip"), answer()) as server,
        client_of(server, **options) as client,
    ):
        peak = memory_of(lambda: fault_of_size(client, limit))

        assert peak < 10_000_000 + 2.5 * limit
        assert client.methods.ping() == "pong"


def fault_of_size(client: RemoteService, limit: int) -> None:
    with pytest.raises(errors.BadResponse, match=f"larger than {limit} bytes"):
        client.methods.ping()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PIECE = b" " * 100_000
TOO_LARGE: dict[str, Behaviour] = {
    "with a length": endless(HEAD + b"Content-Length: 100000000000\r\n\r\n", PIECE),
    "in chunks": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk(PIECE)),
    "one endless chunk": endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", PIECE),
    "until the connection ends": endless(HEAD + b"\r\n", PIECE),
    "of an error": endless(b"HTTP/1.1 500 Oops\r\n\r\n", PIECE),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_an_endless_answer_ends(name: str) -> None:
    with (
        FaultyServer(TOO_LARGE[name], answer()) as server,
        client_of(server, max_response_size=1_000_000) as client,
    ):
        peak = memory_of(lambda: fault_of_size(client, 1_000_000))

        assert peak < 10_000_000
        assert client.methods.ping() == "pong"


def test_an_answer_of_just_the_size() -> None:
    reply = '{"jsonrpc":"2.0","result":"' + "x" * 1000 + '","id":1}'
    with FaultyServer(body(reply)) as server:
        call = MethodCall("ping", id=1)
        exact = RemoteService(server.url, max_response_size=len(reply))
        assert exact.call_method(call).value() == "x" * 1000
        short = RemoteService(server.url, max_response_size=len(reply) - 1)
        with pytest.raises(errors.BadResponse, match="larger"):
            short.call_method(call)
        exact.close()


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_a_compressed_answer_is_read(coding: str, wbits: int) -> None:
    def compressed(exchange: Any) -> None:
        text = b'{"jsonrpc":"2.0","result":"pong","id":%b}' % exchange.request.id.encode()
        pack = zlib.compressobj(wbits=wbits)
        exchange.reply(pack.compress(text) + pack.flush(), Content_Encoding=coding)

    with FaultyServer(compressed) as server, client_of(server) as client:
        assert client.methods.ping() == "pong"
