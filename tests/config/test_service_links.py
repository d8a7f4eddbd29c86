"""Variables that Kubernetes sets for the Services around a pod: no person meant them."""

import logging
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import Configurable, EnvironmentConfigurator, MicroService
from gemstone_sync.registry import ServiceRegistry

SWITCH = "enableServiceLinks: false"
TCP = "tcp://10.96.0.11:8000"


def links(service: str, host: str = "10.96.0.11", port: int = 8000) -> dict[str, str]:
    """What Kubernetes sets for one Service with one port."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {
        f"{service}_SERVICE_HOST": host,
        f"{service}_SERVICE_PORT": str(port),
        f"{service}_SERVICE_PORT_HTTP": str(port),
        f"{service}_PORT": f"tcp://{address}",
        f"{service}_PORT_{port}_TCP": f"tcp://{address}",
        f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        f"{service}_PORT_{port}_TCP_PORT": str(port),
        f"{service}_PORT_{port}_TCP_ADDR": host,
    }


class Shop(MicroService):
    name = "shop"
    service_host: str = "own"
    service_port: int = 1
    service_port_http: int = 1
    users_port: str = "own"
    stock_port: int = 1
    port_8000_tcp: str = "own"
    port_8000_tcp_addr: str = "own"
    configurables = [
        *MicroService.configurables,
        *map(
            Configurable,
            ["service_host", "service_port", "service_port_http", "users_port", "stock_port"],
        ),
        Configurable("port_8000_tcp"),
        Configurable("port_8000_tcp_addr"),
    ]


def configured(
    monkeypatch: pytest.MonkeyPatch, service: MicroService, variables: dict[str, str]
) -> dict[str, Any]:
    """What is changed by variables."""
    before = {setting.name: setting.value for setting in service.get_settings()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    service.configure([])
    return {
        setting.name: setting.value
        for setting in service.get_settings()
        if setting.value != before[setting.name]
    }


def left_out(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(SWITCH in message for message in caplog.messages)
    return sorted(message.partition("=")[0] for message in caplog.messages)


@pytest.mark.parametrize("host", ["10.96.0.11", "fd00::11"])
def test_those_of_a_service_called_as_we_are_change_nothing(monkeypatch, caplog, host):
    with caplog.at_level(logging.WARNING):
        assert configured(monkeypatch, Shop(), links("GEMSTONE", host)) == {}
    assert left_out(caplog) == [
        "GEMSTONE_PORT",
        "GEMSTONE_PORT_8000_TCP",
        "GEMSTONE_PORT_8000_TCP_ADDR",
        "GEMSTONE_SERVICE_HOST",
        "GEMSTONE_SERVICE_PORT",
        "GEMSTONE_SERVICE_PORT_HTTP",
    ]


@pytest.mark.parametrize(
    ("service", "variables", "expected"),
    [
        (Shop, {"GEMSTONE_PORT": TCP}, ["GEMSTONE_PORT"]),
        (Shop, {"GEMSTONE_STOCK_PORT": "udp://[fd00::1]:53"}, ["GEMSTONE_STOCK_PORT"]),
        (Shop, links("GEMSTONE_USERS"), ["GEMSTONE_USERS_PORT"]),
        (ServiceRegistry, {"GEMSTONE_REGISTRY_PORT": TCP}, ["GEMSTONE_REGISTRY_PORT"]),
        (ServiceRegistry, links("GEMSTONE_REGISTRY"), ["GEMSTONE_REGISTRY_PORT"]),
        (Shop, links("OTHER"), []),
    ],
    ids=["port", "one of the user's", "a text, of a whole set", "registry", "its set", "others"],
)
def test_what_nobody_can_have_meant_is_left_out(monkeypatch, caplog, service, variables, expected):
    with caplog.at_level(logging.WARNING):
        assert configured(monkeypatch, service(), variables) == {}
    assert left_out(caplog) == expected


def test_what_somebody_may_have_meant_counts(monkeypatch, caplog):
    meant = {
        "GEMSTONE_USERS_PORT": TCP,  # a text, of no set
        "GEMSTONE_SERVICE_HOST": "10.0.0.7",
        "GEMSTONE_SERVICE_PORT": "7",
        "GEMSTONE_PORT": "9000",
    }
    assert configured(monkeypatch, Shop(), meant) == {
        "users_port": TCP,
        "service_host": "10.0.0.7",
        "service_port": "7",
        "port": "9000",
    }
    assert caplog.messages == []


def test_of_a_set_that_a_person_changed_nothing_is_left_out(monkeypatch):
    variables = {**links("GEMSTONE"), "GEMSTONE_SERVICE_HOST": "10.0.0.7", "GEMSTONE_PORT": "80"}
    assert configured(monkeypatch, Shop(), variables)["service_host"] == "10.0.0.7"


def test_what_counts_less_counts_then(monkeypatch):
    Path("shop.toml").write_text("port = 9001\n")
    Path(".env").write_text("GEMSTONE_MAX_HOPS=3\n")
    changed = configured(monkeypatch, Shop(), links("GEMSTONE"))
    assert changed == {"port": "9001", "max_hops": "3"}


def test_the_same_with_the_environment_alone(monkeypatch):
    class Only(Shop):
        configurators = [EnvironmentConfigurator()]

    assert configured(monkeypatch, Only(), {"GEMSTONE_PORT": TCP}) == {}


@pytest.mark.parametrize(
    ("words", "variables", "file"),
    [
        (["--port", TCP], {}, ""),
        ([], {}, f"GEMSTONE_PORT={TCP}\n"),
        ([], {"GEMSTONE_HOST": TCP}, ""),
        ([], {"GEMSTONE_MAX_HOPS": TCP}, ""),
        ([], {"GEMSTONE_MAX_WAIT_SECONDS": TCP}, ""),
    ],
    ids=["command line", ".env", "host", "another", "one more"],
)
def test_where_it_is_refused_the_line_says_what_sets_it(
    monkeypatch, refusal, words, variables, file
):
    Path(".env").write_text(file)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert SWITCH in refusal(Shop(), *words)


def test_what_is_refused_for_another_reason_does_not_mention_it(refusal):
    assert "Kubernetes" not in refusal(Shop(), "--port", "http://10.0.0.1:80")
