"""HttpDiscoveryStrategy: how registries of every kind are told, and by whom.

What they answer is in test_http_answers.py, what all strategies do in test_contract.py.
"""

import logging
from collections.abc import Callable
from typing import Any

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
from tests.support.faulty_server import Behaviour, FaultyServer, answer, close, html

from .support import (
    LOGGER,
    FullRegistry,
    HostRegistry,
    OddRegistry,
    Registry,
    UrlRegistry,
    params_sent,
    patient_http,
    refusal,
)

URL = "http://10.0.0.1:8000/api"
TOLD = {"instance": "host:1", "interval": 30}


# The forms


@pytest.mark.parametrize(
    ("registry", "told"),
    [
        (FullRegistry, ("users", URL, "host:1", 30)),
        (UrlRegistry, ("users", URL)),
        (HostRegistry, ("users", "10.0.0.1", 8000)),
        (OddRegistry, ("users", URL)),
    ],
)
def test_each_registry_is_told_in_its_own_form(
    registry: type[Registry], told: tuple[Any, ...]
) -> None:
    with running_service(registry) as service:
        strategy = patient_http(service.url)

        strategy.ping("users", URL, **TOLD)
        strategy.ping("users", URL, **TOLD)

        assert service.told == [("ping", *told)] * 2
        strategy.close()


@pytest.mark.parametrize(
    ("location", "host", "port"),
    [
        ("http://10.0.0.1:8000/api", "10.0.0.1", 8000),
        ("http://users.internal/api", "users.internal", 80),
        ("https://users.internal/api", "users.internal", 443),
        ("http://[2001:db8::1]:8000/api", "2001:db8::1", 8000),
    ],
)
def test_a_registry_of_hosts_and_ports(location: str, host: str, port: int) -> None:
    with running_service(HostRegistry) as service:
        strategy = patient_http(service.url)

        strategy.ping("users", location, **TOLD)

        assert list(service.entries) == [("users", (host, port))]
        strategy.close()


def test_what_a_registry_of_hosts_cannot_know_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_service(HostRegistry) as service, caplog.at_level(logging.WARNING, LOGGER):
        strategy = patient_http(service.url)

        strategy.ping("users", URL)
        assert not caplog.records

        strategy.ping("users", "http://10.0.0.1:8000/v2/api")
        strategy.ping("users", "http://10.0.0.1:8000/v2/api")

        [record] = caplog.records
        assert "http://10.0.0.1:8000/v2/api" in record.getMessage()
        assert "http://10.0.0.1:8000/api" in record.getMessage()
        strategy.close()


def test_the_form_that_was_taken_is_remembered() -> None:
    refuse = refusal(-32602)
    with FaultyServer(refuse, answer(None)) as server:
        strategy = patient_http(server.url)
        strategy.ping("users", URL, **TOLD)
        strategy.ping("users", URL, **TOLD)

        full = {"name": "users", "url": URL, **TOLD}
        plain = {"name": "users", "url": URL}
        assert params_sent(server) == [full, plain, plain]

        # It was replaced by one that keeps hosts and ports.
        server.script(refuse, refuse, answer(None))
        strategy.ping("users", URL, **TOLD)

        by_host = {"name": "users", "host": "10.0.0.1", "port": 8000}
        assert params_sent(server)[3:] == [plain, full, by_host]
        strategy.close()


@pytest.mark.parametrize("fault", [close, html("502 Bad Gateway"), refusal(-32000)])
def test_after_a_failure_the_full_form_is_tried_again(fault: Behaviour) -> None:
    with FaultyServer(refusal(-32602), answer(None)) as server:
        strategy = patient_http(server.url)
        strategy.ping("users", URL, **TOLD)
        server.script(fault)
        with pytest.raises((TransportError, RpcError)):
            strategy.ping("users", URL, **TOLD)

        server.script(answer(None))
        strategy.ping("users", URL, **TOLD)

        assert params_sent(server)[-1] == {"name": "users", "url": URL, **TOLD}
        strategy.close()


def test_now_and_then_the_full_form_is_tried_again() -> None:
    with FaultyServer(refusal(-32602), answer(None)) as server:
        strategy = patient_http(server.url)

        for _ in range(50):
            strategy.ping("users", URL, **TOLD)

        # Most of the first ones were told in the lesser form; then the registry was asked again.
        full = ["instance" in params for params in params_sent(server)]
        assert full[:10] == [True] + [False] * 9
        assert full[-10:] == [True] * 10
        strategy.close()


def test_a_registry_that_takes_no_form() -> None:
    with FaultyServer(refusal(-32602, "first"), refusal(-32602, "later")) as server:
        strategy = patient_http(server.url)

        with pytest.raises(InvalidParams, match="first"):
            strategy.ping("users", URL, **TOLD)

        assert params_sent(server)[-1] == ["users", URL]
        assert len(server.requests) == 4
        strategy.close()


def test_a_value_that_is_refused_is_not_told_in_other_forms() -> None:
    data = {"parameters": [{"name": "url", "reason": "not an address of ours"}]}
    with FaultyServer(refusal(-32602, "Invalid params", data=data)) as server:
        strategy = patient_http(server.url)

        with pytest.raises(InvalidParams):
            strategy.ping("users", URL, **TOLD)

        assert len(server.requests) == 1
        strategy.close()


@pytest.mark.parametrize("code", [-32601, -32001, 1001])
def test_any_other_refusal_is_the_answer(code: int) -> None:
    with FaultyServer(refusal(code, "go away")) as server:
        strategy = patient_http(server.url)

        with pytest.raises(RpcError, match="go away") as caught:
            strategy.ping("users", URL, **TOLD)

        assert caught.value.code == code
        assert server.url in str(caught.value)
        assert len(server.requests) == 1
        strategy.close()


# Goodbye


def test_goodbye_names_the_instance() -> None:
    with running_service(FullRegistry) as service:
        strategy = patient_http(service.url)
        strategy.ping("users", URL, **TOLD)

        strategy.goodbye("users", URL, instance="host:1")

        assert service.told[-1] == ("goodbye", "users", URL, "host:1")
        assert not service.entries
        strategy.close()


def test_goodbye_to_a_registry_that_knows_no_instances() -> None:
    with FaultyServer(refusal(-32602), answer(None)) as server:
        strategy = patient_http(server.url)

        strategy.goodbye("users", URL, instance="host:1")

        assert params_sent(server) == [
            {"name": "users", "url": URL, "instance": "host:1"},
            {"name": "users", "url": URL},
        ]
        strategy.close()


def test_a_registry_that_knows_no_goodbye_is_asked_once() -> None:
    with FaultyServer(refusal(-32601)) as server:
        strategy = patient_http(server.url)

        strategy.goodbye("users", URL, instance="1")
        strategy.goodbye("orders", URL, instance="2")
        assert server.received["goodbye"] == 1

        # Until it may be another one.
        with pytest.raises(MethodNotFound):
            strategy.ping("users", URL)
        strategy.goodbye("users", URL, instance="1")
        assert server.received["goodbye"] == 2
        strategy.close()


# Who asks


class GuardedRegistry(FullRegistry):
    @exposed_method(private=True)
    def ping(self, name: str, url: str, instance: str = "", interval: float = 30) -> None:
        self.enter(name, url, instance)

    def authenticate_request(self, handler: Any) -> bool:
        return handler.api_token == "hunter2"


def test_a_token() -> None:
    with running_service(GuardedRegistry) as service:
        for options in ({"token": "hunter2"}, {"authentication_method": HeaderToken("hunter2")}):
            strategy = patient_http(service.url, **options)
            strategy.ping("users", URL, **TOLD)
            assert strategy.locate("users") == [URL]
            assert "hunter2" not in repr(strategy)
            strategy.close()
            service.entries.clear()


@pytest.mark.parametrize("options", [{}, {"token": "hunter3"}])
def test_a_wrong_token(options: dict[str, str]) -> None:
    with running_service(GuardedRegistry) as service:
        strategy = patient_http(service.url, **options)

        with pytest.raises(AccessDenied) as caught:
            strategy.ping("users", URL, **TOLD)

        assert "hunter" not in str(caught.value)
        assert not service.entries
        strategy.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (None, {}),
        ([URL], {}),
        ("", {}),
        ("registry:8000", {}),
        ("ftp://registry/api", {}),
        ("http://user:hunter2@/api", {}),
        ("http://user:hunter2@registry:0/api", {}),
        ("http://user:hunter2@registry/api", {"token": "x"}),
        (URL, {"token": "hunter2\r\nX-Evil: 1"}),
        (URL, {"token": "hunter2", "authentication_method": HeaderToken("hunter2")}),
        (URL, {"authentication_method": "hunter2"}),
        (URL, {"timeout": 0}),
        (URL, {"timeout": (1, None)}),
        (URL, {"total_timeout": None}),
    ],
)
def test_what_cannot_be_used_is_said_at_once(url: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ServiceConfigurationError) as caught:
        HttpDiscoveryStrategy(url, **options)

    assert "hunter2" not in f"{caught.value}"


def test_a_password_in_the_url_is_sent_and_not_shown() -> None:
    with FaultyServer(answer([])) as server:
        strategy = patient_http(server.url.replace("//", "//user:hunter2@"))

        assert strategy.locate("users") == []

        assert server.requests[0].headers.get("Authorization") == "Basic dXNlcjpodW50ZXIy"
        assert repr(strategy) == f"HttpDiscoveryStrategy('{server.url}')"
        strategy.close()


def test_it_connects_to_nobody_when_it_is_made() -> None:
    with FaultyServer() as server:
        HttpDiscoveryStrategy(server.url).close()

        assert server.connections == 0


THREADED = """
import sys, threading

from gemstone_sync.discovery.http import HttpDiscoveryStrategy

strategy = HttpDiscoveryStrategy(sys.argv[1], timeout=20, total_timeout=20)
failures = []


def live(number):
    try:
        url = f"http://10.0.0.{number}:8000/api"
        strategy.ping(f"plain.{number}", url, instance=str(number), interval=30)
        assert strategy.locate(f"plain.{number}") == [url]
        if number % 2:
            strategy.goodbye(f"plain.{number}", url, instance=str(number))
    except BaseException as error:
        failures.append(error)


threads = [threading.Thread(target=live, args=[number]) for number in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
print(len(strategy.locate("plain.*")))
strategy.close()

from gevent import monkey

assert not monkey.is_module_patched("socket")
"""


def test_a_plain_program_with_threads(run_python: Callable[..., Any]) -> None:
    with running_service(FullRegistry) as service:
        ended = run_python(THREADED, service.url)

    assert (ended.returncode, ended.stdout) == (0, "5\n"), ended.stderr
