"""A service's attributes set from outside: on the instance, by the right words, in time."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import CommandLineConfigurator, Configurable, MicroService
from gemstone_sync.testing import ServiceClient, running_service

from .test_configurable import Fixed


class Configured(MicroService):
    name = "configured"
    limit: int | None = 5
    words: Any = None
    motto: str | None = None
    configurables = [
        *MicroService.configurables,
        Configurable("limit", template=int),
        Configurable("words", template=lambda text: text.split(",")),
        Configurable("motto"),
    ]

    @gemstone_sync.exposed_method()
    def get_limit(self) -> int | None:
        return self.limit


def configured(*words: str, cls: type[Configured] = Configured) -> Any:
    service = cls()
    service.configure(words)
    return service


def test_values_land_on_the_instance_and_never_on_the_class():
    service = configured("--limit", "7", "--host", "0.0.0.0", "--port", "0", "--endpoint=/rpc")

    assert (service.limit, service.host) == (7, "0.0.0.0")
    assert (service.port, service.endpoint) == (0, "/rpc")
    assert (Configured.limit, Configured.host, Configured.port) == (5, "127.0.0.1", 8000)
    other = configured()
    assert (other.limit, other.endpoint) == (5, "/api")


def test_what_one_service_found_is_not_seen_by_another():
    first, second = configured("--words", "a,b"), configured("--limit", "1")

    assert (first.words, second.words) == (["a", "b"], None)
    for configurable in Configured.configurables:
        assert configurable.get_final_value() is None
    (configurator,) = Configured.configurators
    assert configurator.configurables == []


def test_what_was_found_before_keeps_its_source():
    service = configured("--limit", "7")
    service.configure(["--port", "81"])

    sources = {setting.name: setting.source for setting in service.get_settings()}
    assert (sources["limit"], sources["port"]) == ("--limit", "--port")


def test_what_is_not_given_stays_as_it_was_set():
    service = Configured()
    service.limit, service.port = 9, 1234
    service.configure([])

    assert (service.limit, service.port) == (9, 1234)


class Computed(Configured):
    configurables = [*Configured.configurables, Configurable("rate"), Configurable("fixed")]
    _rate = 1

    @property
    def rate(self) -> int:
        return self._rate

    @rate.setter
    def rate(self, value: str) -> None:
        if not value.isdecimal():
            raise ValueError(f"a rate is a number, not {value}")
        self._rate = int(value)

    @property
    def fixed(self) -> int:
        return 1


def test_a_property_is_set_by_its_setter(refusal):
    service = configured("--rate", "7", cls=Computed)

    assert service.rate == 7
    assert "property object" not in service.configuration_help()
    line = refusal(Computed(), "--rate", "x")
    assert line == "configured: --rate: a rate is a number, not x\n"
    line = refusal(Computed(), "--fixed", "x")
    assert re.fullmatch("configured: --fixed: .*'fixed'.*\n", line)  # in Python's words


def test_a_later_configurator_wins_and_one_without_a_value_does_not():
    class Service(Configured):
        configurators = [
            Fixed(limit=1, host="first"),
            Fixed(limit=0),
            Fixed(host=None),
            CommandLineConfigurator(),
        ]

    service = Service()
    service.configure([])
    assert (service.limit, service.host) == (0, "first")
    service.configure(["--host", "last"])
    assert service.host == "last"


def test_each_configurator_is_loaded_once_with_the_names_to_look_for():
    seen: list[Any] = []

    class Watching(Fixed):
        def load(self) -> None:
            seen.append(([c.name for c in self.configurables], list(self.argv)))

    class Service(Configured):
        configurators = [Watching(limit=3)]

    service = Service()
    service.configure(["--any", "words"])
    assert service.limit == 3
    ((names, words),) = seen
    assert words == ["--any", "words"]
    # Its own first, then the framework's.
    assert names[:7] == ["port", "host", "accessible_at", "endpoint", "limit", "words", "motto"]
    assert {"workers", "max_hops", "secret_key"} < set(names[7:])
    assert len(set(names)) == len(names)


def test_a_configurator_needs_no_base_class():
    class Plain:
        def load(self) -> None: ...

        def get(self, name: str) -> Any:
            return {"limit": 3}.get(name)

    class Service(Configured):
        configurators = [Plain()]

    assert configured(cls=Service).limit == 3


def test_a_configurator_that_cannot_read_or_refuses_is_one_line(refusal):
    class Absent(Fixed):
        def load(self) -> None:
            Path("/nowhere/settings").read_text()

    class Broken(Fixed):
        def get(self, name: str) -> Any:
            raise ValueError("settings.ini: no such section")

    service = Configured()
    service.configurators = [Absent()]
    line = "configured: [Errno 2] No such file or directory: '/nowhere/settings'\n"
    assert refusal(service) == line
    service = Configured()
    service.configurators = [Broken()]
    assert refusal(service) == "configured: settings.ini: no such section\n"


def test_an_attribute_that_the_app_was_made_with_cannot_be_configured_any_more():
    service = Configured()
    _ = service.app

    service.configure(["--port", "0"])  # not part of the app
    service.start(block=False)
    service.stop()
    service.configure(["--endpoint", "/other"])
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="endpoint"):
        service.start(block=False)


# When the command line of the process is read


@pytest.fixture
def foreign_words(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "-q", "--limit", "99"])


@pytest.mark.usefixtures("foreign_words")
def test_running_service_and_the_in_process_client_do_not_read_it():
    with running_service(Configured) as service:
        assert ServiceClient(service).call("get_limit") == 5
    with ServiceClient(Configured()) as client:
        assert client.call("get_limit") == 5
    client = ServiceClient(Configured())
    assert client.call("get_limit") == 5


def test_what_running_service_is_given_counts_more_than_the_environment(monkeypatch):
    monkeypatch.setenv("GEMSTONE_PORT", "1")
    monkeypatch.setenv("GEMSTONE_MAX_HOPS", "3")
    monkeypatch.setenv("GEMSTONE_LIMIT", "4")
    with running_service(Configured, max_hops=2) as service:
        assert service.port > 1
        assert service.max_hops == 2
        assert ServiceClient(service).call("get_limit") == 4


@pytest.mark.usefixtures("foreign_words")
def test_start_and_configure_in_a_module_that_is_not_the_program_do_not_read_it():
    service = Configured()
    service.port = 0
    service.configure()
    service.start(block=False)
    service.stop()

    assert service.limit == 5


@pytest.mark.usefixtures("foreign_words")
def test_a_foreign_wsgi_server_does_not_read_it():
    service = Configured()
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/health/ready"}
    answers: list[str] = []
    list(service(environ, lambda status, headers: answers.append(status)))

    assert answers == ["200 OK"]
    assert service.limit == 5
    service.stop()


PROGRAM = """
import sys
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "program"
    port = 0
    limit = 5
    configurables = [gemstone_sync.Configurable("limit", template=int)]
    SETTINGS

    def on_service_start(self):
        print(self.limit)
        self.stop()

if __name__ == "__main__":
    Service().start()
"""


@pytest.mark.parametrize(
    ("settings", "words", "code", "stdout", "stderr"),
    [
        ("", "--limit 0", 0, "0\n", ""),
        ("skip_configuration = True", "--limit 0 --unknown", 0, "5\n", ""),
        ("", "--limit many", 2, "", "program: --limit: invalid literal for int() with base 10: "),
    ],
)
def test_a_program_reads_its_own_command_line(settings, words, code, stdout, stderr, run_python):
    done = run_python(PROGRAM.replace("SETTINGS", settings), *words.split())

    assert (done.returncode, done.stdout) == (code, stdout), done.stderr
    if code:
        assert done.stderr == f"{stderr}'many'\n"
