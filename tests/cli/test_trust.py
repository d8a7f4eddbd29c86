"""Registries and services with certificates of a private authority, that want one of the caller."""

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import (
    HttpDiscoveryStrategy,
    MicroService,
    ServiceConfigurationError,
    ServiceNotFound,
    ServiceRegistry,
    exposed_method,
)
from gemstone_sync.testing import running_service
from tests.cli.support import line_of, run
from tests.support.faulty_server import CERTIFICATE
from tests.support.waiting import wait_until

TRUST = {"service_registry_verify": CERTIFICATE, "service_registry_cert": CERTIFICATE}


class Greeter(MicroService):
    name = "greeter"
    certfile = CERTIFICATE

    @exposed_method()
    def say_hello(self) -> str:
        return "hello"


def demand_certificates(service: Any) -> None:
    """From now on a caller needs one that `CERTIFICATE` has signed."""
    service._runner._tls.load_verify_locations(CERTIFICATE)
    service._runner._tls.verify_mode = ssl.CERT_REQUIRED


@pytest.fixture(scope="module")
def registry() -> Iterator[MicroService]:
    with running_service(ServiceRegistry, certfile=CERTIFICATE) as service:
        demand_certificates(service)
        yield service


@pytest.fixture(scope="module")
def greeter(registry: ServiceRegistry) -> Iterator[MicroService]:
    with running_service(Greeter, service_registry_urls=[registry.url], **TRUST) as service:
        demand_certificates(service)
        wait_until(lambda: registry.directory.locate("greeter"), "the greeter's ping")
        yield service


VARIABLES = ["GEMSTONE_CACERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]


def commands(registry: ServiceRegistry, greeter: Greeter) -> dict[str, list[str]]:
    asked = f"--registry={registry.url}"
    return {
        "list": ["list", asked],
        "describe by name": ["describe", asked, "greeter"],
        "describe": ["describe", greeter.url],
        "call": ["call", asked, "greeter", "say_hello"],
        "call_raw": ["call_raw", greeter.url, "say_hello"],
        "bench": ["bench", greeter.url, "say_hello", "--calls=3"],
        "shell": ["shell", asked, "-c", "s.greeter.say_hello()"],
        "shell with a URL": ["shell", greeter.url, "-c", "s.greeter.say_hello()"],
    }


COMMANDS = ["list", "describe by name", "describe", "call", "call_raw", "bench", "shell"]


@pytest.mark.parametrize("name", [*COMMANDS, "shell with a URL"])
def test_each_command_shows_and_checks_certificates(
    name: str, registry: ServiceRegistry, greeter: Greeter
) -> None:
    command, *words = commands(registry, greeter)[name]
    cacert, cert = f"--cacert={CERTIFICATE}", f"--cert={CERTIFICATE}"

    assert "self-signed" in line_of(run(command, cert, *words), 3)
    assert "certificate" in line_of(run(command, cacert, *words), 3)
    assert run(command, cacert, cert, *words).code == 0
    for variable in VARIABLES:
        env = {**dict.fromkeys(VARIABLES, ""), variable: CERTIFICATE}
        assert run(command, cert, *words, env=env).code == 0


def test_a_key_in_a_file_of_its_own(greeter: Greeter, tmp_path: Path) -> None:
    key = shutil.copy(CERTIFICATE, tmp_path / "key.pem")
    words = ("call_raw", f"--cacert={CERTIFICATE}", f"--key={key}", greeter.url, "say_hello")

    assert "--cert" in line_of(run(*words), 2)
    assert run(*words, f"--cert={CERTIFICATE}").code == 0
    assert "absent.pem" in line_of(run(*words, "--cert=absent.pem"), 2)


def test_a_service_finds_others_through_such_a_registry(
    registry: ServiceRegistry, greeter: Greeter
) -> None:
    urls = [registry.url]
    with running_service(Greeter, service_registry_urls=urls, **TRUST) as service:
        found = service.get_service("greeter", verify=CERTIFICATE, cert=CERTIFICATE)
        assert found.methods.say_hello() == "hello"
    with (
        running_service(Greeter, service_registry_urls=urls) as service,
        pytest.raises(ServiceNotFound, match="self-signed"),
    ):
        service.get_service("greeter")


def test_they_can_be_set_from_outside(
    registry: ServiceRegistry, greeter: Greeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMSTONE_SERVICE_REGISTRY_VERIFY", CERTIFICATE)
    monkeypatch.setenv("GEMSTONE_SERVICE_REGISTRY_CERT", CERTIFICATE)
    service = Greeter()
    service.configure([])
    assert (service.service_registry_verify, service.service_registry_cert) == (
        CERTIFICATE,
        CERTIFICATE,
    )
    monkeypatch.setenv("GEMSTONE_SERVICE_REGISTRY_VERIFY", "no")
    service = Greeter()
    service.configure([])
    assert service.service_registry_verify is False


@pytest.mark.parametrize("wrong", [None, 1, ""])
def test_what_is_neither_a_switch_nor_a_path_is_refused(wrong: Any) -> None:
    service = Greeter()
    service.service_registry_verify = wrong
    with pytest.raises(ServiceConfigurationError, match="service_registry_verify must be True"):
        service._runner._check_settings()


def test_the_strategy_by_itself(registry: ServiceRegistry, greeter: Greeter) -> None:
    strategy = HttpDiscoveryStrategy(registry.url, verify=CERTIFICATE, cert=CERTIFICATE)
    assert strategy.locate("greeter") == [greeter.url]
    strategy.close()
