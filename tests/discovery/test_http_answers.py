"""HttpDiscoveryStrategy: what registries answer, well or badly, late or not at all."""

import logging

import gevent
import pytest

from gemstone_sync import (
    BadResponse,
    ConnectionFailed,
    ConnectionLost,
    RpcError,
    Timeout,
    TransportError,
)
from gemstone_sync.testing import running_service
from tests.support.faulty_server import (
    answer,
    body,
    close,
    drip,
    endless,
    hang,
    html,
    raw,
    redirect,
)
from tests.support.machine import free_port

from .support import LOGGER, FullRegistry, asking, params_sent, patient_http, refusal
from .support import A as URL

TOLD = {"instance": "host:1", "interval": 30}
NAMED = ["http://a:1/api", "http://b:2/api"]


@pytest.mark.parametrize(
    ("found", "urls"),
    [
        (NAMED, NAMED),
        ([], []),
        (None, []),
        ("http://a:1/api", ["http://a:1/api"]),
        ([["a", 1], ["b", "2"]], NAMED),
        (["a", 1], ["http://a:1/api"]),
        ([["2001:db8::1", 1]], ["http://[2001:db8::1]:1/api"]),
        ([["a", 443]], ["https://a:443/api"]),
        ([{"host": "a", "port": 1}, {"host": "b", "port": 2, "name": "x"}], NAMED),
        ({"host": "a", "port": 1}, ["http://a:1/api"]),
        ([{"url": "http://a:1/api", "age": 3}, "http://b:2/api"], NAMED),
        ({"url": "https://a/other"}, ["https://a/other"]),
        ([*NAMED, *NAMED], NAMED),
    ],
)
def test_what_is_understood(found, urls):
    with asking(answer(found)) as (server, strategy):
        assert strategy.locate("users") == urls
        assert params_sent(server) == [["users"]]


NONSENSE = [
    *("javascript:alert(1)", "ftp://a/api", "/api", "", "http://user:hunter2@a/api"),
    *("http://a/api\r\nX-Evil: 1", "http://a:99999/api", "http://" + "a" * 10_000),
    *(7, {}, {"url": None}, {"host": "a"}, ["a", 1, 2], [None, None]),
    *({"host": "a", "port": port} for port in ("x", True, 0, 65536)),
    *({"host": host, "port": 1} for host in ("a/evil?", "user:hunter2@a", "a:b", 1)),
]


@pytest.mark.parametrize("item", NONSENSE)
def test_what_is_no_url_is_dropped_and_told_once(item, caplog):
    with asking(answer([item, "http://a:1/api"])) as (server, strategy):
        with caplog.at_level(logging.WARNING, LOGGER):
            assert strategy.locate("users") == ["http://a:1/api"]
            assert strategy.locate("users") == ["http://a:1/api"]

        [record] = caplog.records
        assert server.url in record.getMessage()
        assert "hunter2" not in record.getMessage()
        assert len(record.getMessage()) < 400


@pytest.mark.parametrize("found", [*NONSENSE, True, 1.5, [[7]], [{}], ["a", "b"], {"urls": NAMED}])
def test_nonsense_is_no_answer(found):
    with asking(answer(found)) as (server, strategy):
        with pytest.raises(BadResponse, match="no list of services' URLs") as caught:
            strategy.locate("users")

        assert server.url in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert len(str(caught.value)) < 400


EACH = pytest.mark.parametrize(
    "ask",
    [
        lambda strategy: strategy.ping("users", URL, **TOLD),
        lambda strategy: strategy.locate("users"),
        lambda strategy: strategy.goodbye("users", URL, instance="1"),
    ],
    ids=["ping", "locate", "goodbye"],
)


@EACH
@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param(html(), BadResponse, id="a page"),
        pytest.param(html("404 Not Found"), BadResponse, id="a page of 404"),
        pytest.param(html("503 Unavailable", Retry_After="60"), RpcError, id="no place"),
        pytest.param(redirect("http://evil/"), BadResponse, id="a redirect"),
        pytest.param(body("{}"), BadResponse, id="no response"),
        pytest.param(body('{"jsonrpc":"2.0","result":[],"id":"x"}'), BadResponse, id="odd id"),
        pytest.param(raw("SSH-2.0-OpenSSH_9.2\r\n"), BadResponse, id="no HTTP"),
        pytest.param(close, ConnectionLost, id="the end of the connection"),
    ],
)
def test_a_registry_that_answers_nonsense(behaviour, expected, ask):
    with asking(behaviour, token="hunter2") as (server, strategy):
        with pytest.raises(expected) as caught:
            ask(strategy)

        assert server.url in str(caught.value)
        assert "hunter2" not in f"{caught.value}{caught.value!r}"
        server.script(answer([]))
        ask(strategy)


@EACH
@pytest.mark.parametrize(
    "behaviour",
    [hang, drip("HTTP/1.1 200 OK\r\n" * 100, 0.02), endless(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n")],
    ids=["silent", "drip", "endless"],
)
def test_a_registry_that_hangs(behaviour, ask):
    with (
        asking(behaviour, timeout=0.1, total_timeout=0.2) as (_, strategy),
        pytest.raises((Timeout, BadResponse)),
    ):
        ask(strategy)


def test_all_forms_together_have_the_total_time():
    def slow_refusal(exchange):
        gevent.sleep(0.15)
        refusal(-32602)(exchange)

    with asking(slow_refusal, total_timeout=0.25) as (server, strategy):
        with pytest.raises(Timeout):
            strategy.ping("users", URL, **TOLD)

        assert len(server.requests) < 4


def test_a_registry_that_is_down_and_comes_back():
    port = free_port()
    strategy = patient_http(f"http://127.0.0.1:{port}/api")
    with pytest.raises(ConnectionFailed, match=str(port)):
        strategy.ping("users", URL, **TOLD)

    with running_service(FullRegistry, port=port):
        strategy.ping("users", URL, **TOLD)
        assert strategy.locate("users") == [URL]

    with pytest.raises(TransportError):
        strategy.locate("users")
    with running_service(FullRegistry, port=port):
        assert strategy.locate("users") == []
        strategy.close()
