"""No answer fills the memory, whatever its length, its coding or its server's intentions."""

import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from gemstone_sync import BadResponse, MethodCall, RemoteService
from tests.support.faulty_server import Behaviour, FaultyServer, answer, body, endless, gzip_bomb
from tests.support.http import chunk

from .faults import client_of


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
    with pytest.raises(BadResponse, match=f"larger than {limit} bytes"):
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
        with pytest.raises(BadResponse, match="larger"):
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
