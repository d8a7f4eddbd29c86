"""HttpDiscoveryStrategy: how registries of every kind are told, and by whom."""

import contextlib
import logging

import pytest

from gemstone_sync import (
    AccessDenied,
    HeaderToken,
    InvalidParams,
    MethodNotFound,
    RpcError,
    ServiceConfigurationError,
    TransportError,
    exposed_method,
)
from gemstone_sync.discovery.http import HttpDiscoveryStrategy
from gemstone_sync.testing import running_service
from tests.support.faulty_server import FaultyServer, answer, close, html

from .support import (
    LOGGER,
    THREADED,
    FullRegistry,
    HostRegistry,
    OddRegistry,
    UrlRegistry,
    asking,
    params_sent,
    patient_http,
    refusal,
    telling,
)
from .support import A as URL

TOLD = {"instance": "host:1", "interval": 30}
PLAIN = {"name": "users", "url": URL}
FULL = {**PLAIN, **TOLD}
BY_HOST = {"name": "users", "host": "10.0.0.1", "port": 8000}


@pytest.mark.parametrize(
    ("registry", "told"),
    [
        (FullRegistry, ("users", URL, "host:1", 30)),
        (UrlRegistry, ("users", URL)),
        (HostRegistry, ("users", "10.0.0.1", 8000)),
        (OddRegistry, ("users", URL)),
    ],
)
def test_each_registry_is_told_in_its_own_form(registry, told):
    with telling(registry) as (service, strategy):
        strategy.ping("users", URL, **TOLD)
        strategy.ping("users", URL, **TOLD)

        assert service.told == [("ping", *told)] * 2


def test_a_registry_of_hosts_and_ports():
    with telling(HostRegistry) as (service, strategy):
        strategy.ping("users", "http://users.internal/api", **TOLD)
        strategy.ping("users", "https://users.internal/api", **TOLD)
        strategy.ping("users", "http://[2001:db8::1]:8000/api", **TOLD)

        places = [("users.internal", 80), ("users.internal", 443), ("2001:db8::1", 8000)]
        assert list(service.entries) == [("users", place) for place in places]


def test_what_a_registry_of_hosts_cannot_know_is_told_once(caplog):
    with telling(HostRegistry) as (_, strategy), caplog.at_level(logging.WARNING, LOGGER):
        strategy.ping("users", URL)
        assert not caplog.records

        strategy.ping("users", "http://10.0.0.1:8000/v2/api")
        strategy.ping("users", "http://10.0.0.1:8000/v2/api")

        [record] = caplog.records
        assert "http://10.0.0.1:8000/v2/api" in record.getMessage()
        assert "http://10.0.0.1:8000/api" in record.getMessage()


def test_the_form_that_was_taken_is_remembered():
    refuse = refusal(-32602)
    with asking(refuse, answer(None)) as (server, strategy):
        strategy.ping("users", URL, **TOLD)
        strategy.ping("users", URL, **TOLD)
        assert params_sent(server) == [FULL, PLAIN, PLAIN]

        # It was replaced by one that keeps hosts and ports.
        server.script(refuse, refuse, answer(None))
        strategy.ping("users", URL, **TOLD)
        assert params_sent(server)[3:] == [PLAIN, FULL, BY_HOST]


@pytest.mark.parametrize(
    "fault", [close, html("502 Bad Gateway"), refusal(-32000)], ids=["close", "html", "refusal"]
)
def test_after_a_failure_the_full_form_is_tried_again(fault):
    with asking(refusal(-32602), answer(None)) as (server, strategy):
        strategy.ping("users", URL, **TOLD)
        server.script(fault)
        with pytest.raises((TransportError, RpcError)):
            strategy.ping("users", URL, **TOLD)

        server.script(answer(None))
        strategy.ping("users", URL, **TOLD)

        assert params_sent(server)[-1] == FULL


def test_now_and_then_the_full_form_is_tried_again():
    with asking(refusal(-32602), answer(None)) as (server, strategy):
        for _ in range(50):
            strategy.ping("users", URL, **TOLD)

        # Most of the first ones were told in the lesser form; then the registry was asked again.
        full = ["instance" in params for params in params_sent(server)]
        assert full[:10] == [True] + [False] * 9
        assert full[-10:] == [True] * 10


def test_a_registry_that_takes_no_form():
    with asking(refusal(-32602, "first"), refusal(-32602, "later")) as (server, strategy):
        with pytest.raises(InvalidParams, match="first"):
            strategy.ping("users", URL, **TOLD)

        assert params_sent(server) == [FULL, PLAIN, BY_HOST, ["users", URL]]


VALUE_AT_FAULT = {"parameters": [{"name": "url", "reason": "not an address of ours"}]}


@pytest.mark.parametrize(
    ("code", "members"),
    [(-32602, {"data": VALUE_AT_FAULT}), (-32601, {}), (-32001, {}), (1001, {})],
)
def test_any_other_refusal_is_the_answer(code, members):
    with asking(refusal(code, "go away", **members)) as (server, strategy):
        with pytest.raises(RpcError, match="go away") as caught:
            strategy.ping("users", URL, **TOLD)

        assert caught.value.code == code
        assert server.url in str(caught.value)
        assert len(server.requests) == 1


def test_goodbye_to_a_registry_that_knows_no_instances_or_no_goodbye():
    with asking(refusal(-32602), answer(None), refusal(-32601)) as (server, strategy):
        strategy.goodbye("users", URL, instance="host:1")
        assert params_sent(server) == [{**PLAIN, "instance": "host:1"}, PLAIN]

        strategy.goodbye("users", URL, instance="1")
        strategy.goodbye("orders", URL, instance="2")
        assert server.received["goodbye"] == 3

        # Until it may be another one.
        with pytest.raises(MethodNotFound):
            strategy.ping("users", URL)
        strategy.goodbye("users", URL, instance="1")
        assert server.received["goodbye"] == 4


class GuardedRegistry(FullRegistry):
    @exposed_method(private=True)
    def ping(self, name: str, url: str, instance: str = "", interval: float = 30) -> None:
        self.enter(name, url, instance)

    def authenticate_request(self, handler):
        return handler.api_token == "hunter2"


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"token": "hunter2"}, contextlib.nullcontext()),
        ({"authentication_method": HeaderToken("hunter2")}, contextlib.nullcontext()),
        ({}, pytest.raises(AccessDenied)),
        ({"token": "hunter3"}, pytest.raises(AccessDenied)),
    ],
    ids=["token", "authentication_method", "none", "wrong"],
)
def test_a_token(options, outcome):
    with telling(GuardedRegistry, **options) as (_, strategy):
        with outcome as caught:
            strategy.ping("users", URL, **TOLD)

        assert strategy.locate("users") == ([] if caught else [URL])
        assert "hunter" not in f"{strategy!r}{caught and caught.value}"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        *((url, {}) for url in (None, [URL], "", "registry:8000", "ftp://registry/api")),
        *((url, {}) for url in ("http://user:hunter2@/api", "http://user:hunter2@registry:0/api")),
        ("http://user:hunter2@registry/api", {"token": "x"}),
        (URL, {"token": "hunter2\r\nX-Evil: 1"}),
        (URL, {"token": "hunter2", "authentication_method": HeaderToken("hunter2")}),
        (URL, {"authentication_method": "hunter2"}),
        *((URL, options) for options in ({"timeout": 0}, {"timeout": (1, None)})),
        (URL, {"total_timeout": None}),
    ],
)
def test_what_cannot_be_used_is_said_at_once(url, options):
    with pytest.raises(ServiceConfigurationError) as caught:
        HttpDiscoveryStrategy(url, **options)

    assert "hunter2" not in f"{caught.value}"


def test_a_password_in_the_url_is_sent_and_not_shown():
    with FaultyServer(answer([])) as server:
        strategy = patient_http(server.url.replace("//", "//user:hunter2@"))
        assert server.connections == 0, "it connects when it is made"
        assert strategy.locate("users") == []

        assert server.requests[0].headers.get("Authorization") == "Basic dXNlcjpodW50ZXIy"
        assert repr(strategy) == f"HttpDiscoveryStrategy('{server.url}')"
        strategy.close()


def test_a_plain_program_with_threads_that_patches_later(run_python):
    with running_service(FullRegistry) as service:
        made = "http.HttpDiscoveryStrategy(sys.argv[1]"
        ended = run_python(
            THREADED.replace("MADE", made), service.url, GEMSTONE_MONKEY_PATCH="late"
        )

    assert (ended.returncode, ended.stdout) == (0, "5\n5\n"), ended.stderr
