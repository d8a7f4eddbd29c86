"""The TCP proxy of the tests, over a real echo server and over the machine's Redis."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import gevent
import pytest
import redis
from gevent.server import StreamServer

from tests.discovery.support import absent
from tests.event.proxy import Proxy
from tests.helpers import LIMIT, wait_until

#: Seconds in which what passes has long passed.
MOMENT = 0.1


def echo(connection: socket.socket, address: object) -> None:
    try:
        while data := connection.recv(65536):
            connection.sendall(data)
    except OSError:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before an echo server."""
    server = StreamServer(("127.0.0.1", 0), echo)
    server.start()
    try:
        with Proxy(server.server_port) as proxy:
            yield proxy
    finally:
        server.stop()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connected(proxy) as client:
        exchange(client, b"hello")
        yield client


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=LIMIT)


def exchange(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    assert receive(client, len(data)) == data


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def is_silent(client: socket.socket) -> bool:
    """Nothing arrives for a moment, not even the end."""
    client.settimeout(MOMENT)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(LIMIT)
    return False


def assert_is_reset(client: socket.socket) -> None:
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        exchange(client, b"x")


def test_it_passes_everything_on_both_ways(proxy: Proxy, client: socket.socket) -> None:
    data = bytes(range(256)) * 8192
    sending = gevent.spawn(client.sendall, data)
    assert receive(client, len(data)) == data
    sending.get()
    assert proxy.to_server.passed == proxy.to_client.passed == len(data) + len(b"hello")


def test_it_passes_the_end_on(proxy: Proxy, client: socket.socket) -> None:
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    assert receive(client, 100) == b"last"
    wait_until(lambda: not proxy.connections, "the connection's end")


def test_stalled_it_keeps_connections_and_passes_nothing(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.stall()
    client.sendall(b"held back")
    with connected(proxy) as late:
        late.sendall(b"held back too")
        assert is_silent(client)
        assert is_silent(late)
        assert proxy.connections == 2
        proxy.resume()
        assert receive(client, 9) == b"held back"
        assert receive(late, 13) == b"held back too"


def test_stalled_it_does_not_pass_the_end_either(proxy: Proxy, client: socket.socket) -> None:
    proxy.stall()
    client.shutdown(socket.SHUT_WR)
    assert is_silent(client)
    proxy.resume()
    assert client.recv(1) == b""


def test_a_sender_blocks_when_it_is_stalled(proxy: Proxy, client: socket.socket) -> None:
    proxy.stall()
    client.settimeout(MOMENT)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(100_000_000))
    assert proxy.to_server.passed == len(b"hello")


def test_one_way_alone_can_be_stalled(proxy: Proxy, client: socket.socket) -> None:
    proxy.stall(proxy.to_client)
    before = proxy.to_server.passed
    client.sendall(b"arrives")
    wait_until(lambda: proxy.to_server.passed == before + 7, "the server's part")
    assert is_silent(client)
    proxy.resume()
    assert receive(client, 7) == b"arrives"


@pytest.mark.parametrize("stalled", [False, True])
def test_cut_resets_all_connections_and_takes_new_ones(
    proxy: Proxy, client: socket.socket, stalled: bool
) -> None:
    if stalled:
        proxy.stall()
        client.sendall(b"held back")
        gevent.sleep(0)
    with connected(proxy) as other:
        wait_until(lambda: proxy.accepted == 2, "the other connection")
        proxy.cut()
        assert_is_reset(client)
        assert_is_reset(other)
    assert proxy.connections == 0
    proxy.resume()
    with connected(proxy) as fresh:
        exchange(fresh, b"again")


def test_refusing_it_keeps_what_stands(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    exchange(client, b"still here")
    proxy.accept()
    with connected(proxy) as fresh:
        exchange(fresh, b"again")


def test_it_drips_a_few_bytes_at_a_time(proxy: Proxy, client: socket.socket) -> None:
    proxy.drip(500, proxy.to_client)
    started = time.monotonic()
    client.sendall(bytes(100))
    first = client.recv(100)
    assert len(first) < 100
    receive(client, 100 - len(first))
    assert time.monotonic() - started > 0.1
    proxy.drip(0.001)
    client.sendall(b"slow")
    assert is_silent(client)
    proxy.resume()
    assert receive(client, 4) == b"slow"


def test_latency_delays_and_does_not_slow_a_stream(proxy: Proxy, client: socket.socket) -> None:
    proxy.latency(0.1)
    started = time.monotonic()
    exchange(client, b"question")
    took = time.monotonic() - started
    assert 0.2 <= took < LIMIT
    proxy.latency(60.0)
    client.sendall(b"held")
    assert is_silent(client)
    proxy.resume()
    assert receive(client, 4) == b"held"


@pytest.mark.parametrize("count", [0, 1, 7, 70_000])
def test_it_cuts_after_exactly_so_many_bytes(
    proxy: Proxy, client: socket.socket, count: int
) -> None:
    before = proxy.to_server.passed
    proxy.cut_after(count, proxy.to_server)
    with pytest.raises(ConnectionError):
        exchange(client, bytes(100_000))
    assert proxy.to_server.passed == before + count
    with connected(proxy) as fresh:
        exchange(fresh, bytes(1000))


def test_it_resets_who_connects_when_the_target_is_down() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with Proxy(port) as proxy, connected(proxy) as client:
        assert_is_reset(client)
        wait_until(lambda: not proxy.connections, "the connection's end")


def test_nothing_stands_when_it_is_left(proxy: Proxy, client: socket.socket) -> None:
    proxy.__exit__()
    assert_is_reset(client)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)


# Redis


@pytest.fixture
def redis_proxy() -> Iterator[Proxy]:
    try:
        with redis.Redis(socket_timeout=LIMIT) as direct:
            direct.ping()
    except redis.ConnectionError:
        absent("no Redis answers at 127.0.0.1:6379")
    with Proxy(6379) as proxy:
        yield proxy


def test_redis_answers_through_it_and_is_silent_when_it_stalls(redis_proxy: Proxy) -> None:
    with (
        redis.Redis(port=redis_proxy.port, socket_timeout=LIMIT, retry=None) as client,
        redis.Redis(port=redis_proxy.port, socket_timeout=0.3, retry=None) as hasty,
    ):
        assert client.ping()
        redis_proxy.stall()
        with pytest.raises(redis.TimeoutError):
            hasty.ping()
        redis_proxy.resume()
        assert client.ping()
        redis_proxy.refuse()
        redis_proxy.cut()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        redis_proxy.accept()
        assert client.ping()
