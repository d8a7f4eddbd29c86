"""Whatever a server does wrong, the caller gets the right exception, in time and only once.

What happens to one client and one call; the table of what servers do wrong is in faults.py. How
often a request is sent is in test_retries.py, connecting in test_connecting.py and test_tls.py,
what must never leave the client in test_safety.py, connections that are kept in test_keep_alive.py.
"""

from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import (
    BadResponse,
    CircuitOpen,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    GemstoneError,
    MethodCall,
    MethodNotFound,
    RemoteError,
    RemoteService,
    ServerOverloaded,
    Timeout,
    TransportError,
)
from tests.support.faulty_server import (
    HTML,
    Behaviour,
    FaultyServer,
    answer,
    body,
    close,
    drip,
    full_backlog,
    hang,
    html,
    keep,
    raw,
)
from tests.support.http import chunked
from tests.support.machine import free_port
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

from .faults import BAD, LATE, LOST, RESULT, SHORT, assert_clear, fault_of, patient, whole

FAULTS = [
    *[pytest.param(ConnectionLost, None, server, id=name) for name, server in LOST.items()],
    *[pytest.param(Timeout, None, server, id=name) for name, server in LATE.items()],
    *[pytest.param(BadResponse, status, server, id=name) for name, (status, server) in BAD.items()],
]


@pytest.mark.parametrize(("expected", "status", "behaviour"), FAULTS)
def test_a_fault_after_sending(
    expected: type[TransportError], status: int | None, behaviour: Behaviour
) -> None:
    with FaultyServer(behaviour, answer("pong")) as server, patient(server.url) as client:
        impatient = client.with_options(timeout=SHORT, total_timeout=SHORT)
        hurried = expected is Timeout

        error = fault_of(impatient if hurried else client)

        assert isinstance(error, expected), repr(error)
        assert not (hurried and isinstance(error, ConnectionFailed))
        assert error.may_have_run is True
        assert_clear(error, server.url)
        if isinstance(error, BadResponse):
            assert status is None or error.status == status
        # It was sent once, and the next call, on what is left of the client, is not disturbed.
        assert server.received["ping"] == 1
        assert client.methods.ping() == "pong"
        assert server.received["ping"] == 2


@pytest.mark.parametrize(
    "kind",
    ["refused", "backlog", "unknown name", "impossible name", "no TLS", "closed TLS", "silent TLS"],
)
def test_a_fault_before_sending(kind: str) -> None:
    with (
        FaultyServer(greeting=raw("HTTP/1.1 400 Bad Request\r\n\r\n", keep)) as plain,
        FaultyServer(tls=True, greeting=close) as closing,
        FaultyServer(tls=True, greeting=hang) as silent,
        full_backlog() as full,
    ):
        url = {
            "refused": f"http://127.0.0.1:{free_port()}/api",
            "backlog": full,
            "unknown name": "http://nobody.invalid:1/api",  # RFC 6761: no resolver knows it
            "impossible name": f"http://{'a' * 64}.invalid:1/api",
            "no TLS": plain.url.replace("http:", "https:"),
            "closed TLS": closing.url,
            "silent TLS": silent.url,
        }[kind]
        hangs = kind in ("backlog", "silent TLS")
        with patient(url) as client:
            error = fault_of(client.with_options(timeout=(SHORT if hangs else LIMIT, LIMIT)))

        assert type(error) is (ConnectTimeout if hangs else ConnectionFailed)
        assert error.may_have_run is False
        assert_clear(error, url)


@pytest.mark.parametrize(
    "greeting", [hang, drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 999, SHORT / 8)]
)
def test_a_tls_handshake_that_does_not_end(greeting: Behaviour) -> None:
    with FaultyServer(tls=True, greeting=greeting) as server:
        client = RemoteService(server.url, timeout=SHORT, total_timeout=4 * SHORT)
        error = fault_of(client)

    assert type(error) is ConnectTimeout
    assert_clear(error, server.url)


def test_a_connect_time_out_is_both() -> None:
    assert issubclass(ConnectTimeout, Timeout)
    assert issubclass(ConnectTimeout, ConnectionFailed)
    assert issubclass(TransportError, GemstoneError)


def test_the_total_time_bounds_all_attempts_to_connect() -> None:
    with full_backlog() as url, RemoteService(url, timeout=LIMIT, total_timeout=SHORT) as client:
        error = fault_of(client)

    assert isinstance(error, Timeout)
    assert error.may_have_run is False


def test_what_the_proxy_said_is_kept() -> None:
    with FaultyServer(html("502 Bad Gateway")) as server, patient(server.url) as client:
        error = fault_of(client)

        assert isinstance(error, BadResponse)
        assert error.body == HTML.encode()
        assert "502" in str(error)

        server.script(html("500 Oops"), body("x" * 1_000_000, "500 Oops"))
        assert "500" in str(fault_of(client))
        error = fault_of(client)
        assert isinstance(error, BadResponse)
        assert 0 < len(error.body) < 10_000


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
    with FaultyServer(behaviour) as server, patient(server.url) as client:
        assert client.methods.ping() == value
        assert client.methods.ping() == value


@pytest.mark.parametrize("answered", ['"1"', "1.0", "true", "[1]", "10", "null"])
def test_an_id_of_another_type_is_another_id(answered: str) -> None:
    with FaultyServer(body(f'{{"jsonrpc":"2.0","result":1,"id":{answered}}}')) as server:
        client = patient(server.url)
        with pytest.raises(BadResponse, match="id"):
            client.call_method(MethodCall("ping", id=1))


@pytest.mark.parametrize("answered", ["1", '"one "', '"ONE"', '["one"]', "null"])
def test_a_text_as_id_is_compared_exactly(answered: str) -> None:
    with FaultyServer(body(f'{{"jsonrpc":"2.0","result":1,"id":{answered}}}')) as server:
        client = patient(server.url)
        with pytest.raises(BadResponse, match="id"):
            client.call_method(MethodCall("ping", id="one"))

        server.script(body('{"jsonrpc":"2.0","result":1,"id":"one"}'))
        assert client.call_method(MethodCall("ping", id="one")).value() == 1


#: An error object is an error whatever the status and form; what the server does.
ERROR = '"error":{"code":-32601,"message":"no such method"}'
ERRORS: dict[str, Behaviour] = {
    "200": body(f'{{"jsonrpc":"2.0",{ERROR},"id":ID}}'),
    "500": body(f'{{"jsonrpc":"2.0",{ERROR},"id":ID}}', "500 Oops"),
    "404": body(f'{{"jsonrpc":"2.0",{ERROR},"id":ID}}', "404 Not Found"),
    "the old gemstone's": body(f'{{"jsonrpc":"2.0","result":null,{ERROR},"id":ID}}'),
    "id null, as for a request that could not be read": body(
        f'{{"jsonrpc":"2.0",{ERROR},"id":null}}'
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_object_is_the_services_answer(name: str) -> None:
    with FaultyServer(ERRORS[name]) as server, patient(server.url) as client:
        with pytest.raises(MethodNotFound, match="no such method") as caught:
            client.methods.ping()

        assert isinstance(caught.value, RemoteError)
        assert (caught.value.code, caught.value.method) == (-32601, "ping")
        assert caught.value.url == server.url


@pytest.mark.parametrize(
    "reply", [html("503 Busy"), body("", "503 Busy"), hang], ids=["HTML 503", "503", "silence"]
)
def test_the_next_call_has_its_own_time(reply: Behaviour) -> None:
    """What one call has used up is not missing from another's."""
    with FaultyServer(*[reply] * 3, answer("pong")) as server, patient(server.url) as client:
        short = client.with_options(timeout=SHORT, total_timeout=SHORT)
        for _ in range(3):
            with pytest.raises((Timeout, ServerOverloaded)):
                short.methods.ping()
        assert client.methods.ping() == "pong"


HOLDING = """
import gemstone_sync

class Holding(gemstone_sync.MicroService):
    name = "holding"

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def hold(self):
        print("held", flush=True)
        import gevent
        gevent.sleep(60)

    @gemstone_sync.exposed_method()
    def ping(self):
        return "pong"

if __name__ == "__main__":
    Holding().start()
"""


def test_a_service_that_is_killed_in_the_middle_of_a_call(tmp_path: Path) -> None:
    with program(HOLDING, tmp_path, "--port", "0") as running:
        port = running.wait_until_ready()
        client = patient(f"http://127.0.0.1:{port}/api")
        assert client.methods.ping() == "pong"
        call = gevent.spawn(fault_of, client, "hold")
        wait_until(lambda: running.stdout.count("held") == 1, "the call")
        running.kill()
        error = call.get(timeout=LIMIT)

    assert type(error) is ConnectionLost
    assert error.may_have_run is True
    assert_clear(error, client.url)
    error = fault_of(client)  # nobody listens
    assert isinstance(error, ConnectionFailed)
    assert error.may_have_run is False

    with program(HOLDING, tmp_path, "--port", str(port)) as running:
        running.wait_until_ready()
        assert wait_until(lambda: value_of(client), "the circuit to close") == "pong"


def value_of(client: RemoteService) -> Any:
    """What ``ping`` gives, or None while nothing is tried."""
    try:
        return client.methods.ping()
    except CircuitOpen:
        return None
