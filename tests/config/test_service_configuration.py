"""A service's attributes set from outside: on the instance, by the right words, in time."""

import re
import sys
from collections.abc import Callable
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


def test_values_land_on_the_instance_and_never_on_the_class() -> None:
    service = Configured()
    service.configure(["--limit", "7", "--host", "0.0.0.0", "--port", "0", "--endpoint=/rpc"])

    assert (service.limit, service.host, service.port, service.endpoint) == (
        7,
        "0.0.0.0",
        0,
        "/rpc",
    )
    assert (Configured.limit, Configured.host, Configured.port) == (5, "127.0.0.1", 8000)
    other = Configured()
    other.configure([])
    assert (other.limit, other.endpoint) == (5, "/api")


def test_what_one_service_found_is_not_seen_by_another() -> None:
    first, second = Configured(), Configured()
    first.configure(["--words", "a,b"])
    second.configure(["--limit", "1"])

    assert (first.words, second.words) == (["a", "b"], None)
    for configurable in Configured.configurables:
        assert configurable.get_final_value() is None
    (configurator,) = Configured.configurators
    assert configurator.configurables == []


def test_falsy_values_count() -> None:
    service = Configured()
    service.configure(["--limit", "0", "--motto", ""])

    assert (service.limit, service.motto) == (0, "")


def test_what_was_found_before_keeps_its_source() -> None:
    service = Configured()
    service.configure(["--limit", "7"])
    service.configure(["--port", "81"])

    sources = {setting.name: setting.source for setting in service.get_settings()}
    assert (sources["limit"], sources["port"]) == ("--limit", "--port")


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


def test_a_property_is_set_by_its_setter() -> None:
    service = Computed()
    service.configure(["--rate", "7"])

    assert service.rate == 7
    assert "property object" not in service.configuration_help()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--rate", "x"], "configured: --rate: a rate is a number, not x\n"),
        (["--fixed", "x"], "configured: --fixed: .*'fixed'.*\n"),  # in Python's words
    ],
)
def test_what_a_setter_refuses_is_one_line(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        Computed().configure(words)

    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert re.fullmatch(text, err)


def test_what_is_not_given_stays_as_it_was_set() -> None:
    service = Configured()
    service.limit, service.port = 9, 1234
    service.configure([])

    assert (service.limit, service.port) == (9, 1234)


def test_a_random_port_can_be_asked_for() -> None:
    service = Configured()
    service.configure(["--port", "random"])

    assert service.port == 0


def test_a_later_configurator_wins_and_one_without_a_value_does_not() -> None:
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


def test_each_configurator_is_loaded_once_with_the_names_to_look_for() -> None:
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


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--limit", "many"], "--limit"),
        (["--port", "70000"], "port must be a whole number from 0 to 65535"),
        (["--port", "eighty"], "--port"),
        (["--endpoint", "api"], "endpoint must be a path that starts with /"),
        (["--host", ""], "host"),
        (["--unknown"], "unknown option --unknown"),
        (["--prot=9"], "unknown option --prot; did you mean --port?"),
        (["8000"], "unexpected argument '8000'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        Configured().configure(words)

    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text in err


def test_a_configurator_needs_no_base_class() -> None:
    class Plain:
        def load(self) -> None: ...

        def get(self, name: str) -> Any:
            return {"limit": 3}.get(name)

    class Service(Configured):
        configurators = [Plain()]  # type: ignore[list-item]

    service = Service()
    service.configure([])
    assert service.limit == 3


def test_a_configurator_whose_source_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Absent(Fixed):
        def load(self) -> None:
            Path("/nowhere/settings").read_text()

    class Service(Configured):
        configurators = [Absent()]

    with pytest.raises(SystemExit) as caught:
        Service().configure([])
    assert caught.value.code == 2
    line = "configured: [Errno 2] No such file or directory: '/nowhere/settings'\n"
    assert capsys.readouterr().err == line


def test_a_configurator_of_ones_own_may_refuse_too(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Fixed):
        def get(self, name: str) -> Any:
            raise ValueError("settings.ini: no such section")

    class Service(Configured):
        configurators = [Broken()]

    with pytest.raises(SystemExit):
        Service().configure([])
    assert capsys.readouterr().err == "configured: settings.ini: no such section\n"


def configure_and_start(service: MicroService, words: list[str]) -> None:
    service.configure(words)
    service.start(block=False)


def test_an_attribute_that_the_app_was_made_with_cannot_be_configured_any_more() -> None:
    service = Configured()
    _ = service.app

    service.configure(["--port", "0"])  # not part of the app
    service.start(block=False)
    service.stop()
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="endpoint"):
        configure_and_start(service, ["--endpoint", "/other"])


# When the command line of the process is read


@pytest.fixture
def foreign_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "-q", "--limit", "99"])


@pytest.mark.usefixtures("foreign_words")
def test_running_service_and_the_in_process_client_do_not_read_it() -> None:
    with running_service(Configured) as service:
        assert ServiceClient(service).call("get_limit") == 5
    with ServiceClient(Configured()) as client:
        assert client.call("get_limit") == 5
    client = ServiceClient(Configured())
    assert client.call("get_limit") == 5


def test_what_running_service_is_given_counts_more_than_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEMSTONE_PORT", "1")
    monkeypatch.setenv("GEMSTONE_MAX_HOPS", "3")
    monkeypatch.setenv("GEMSTONE_LIMIT", "4")
    with running_service(Configured, max_hops=2) as service:
        assert service.port > 1
        assert service.max_hops == 2
        assert ServiceClient(service).call("get_limit") == 4


@pytest.mark.usefixtures("foreign_words")
def test_start_and_configure_in_a_module_that_is_not_the_program_do_not_read_it() -> None:
    service = Configured()
    service.port = 0
    service.configure()
    service.start(block=False)
    service.stop()

    assert service.limit == 5


@pytest.mark.usefixtures("foreign_words")
def test_a_foreign_wsgi_server_does_not_read_it() -> None:
    service = Configured()
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/health/ready"}
    answers: list[str] = []
    list(service(environ, lambda status, headers: answers.append(status)))  # type: ignore[arg-type]

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


def test_a_program_that_starts_its_service_reads_its_own_command_line(
    run_python: Callable[..., Any],
) -> None:
    done = run_python(PROGRAM.replace("SETTINGS", ""), "--limit", "0")

    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


def test_skip_configuration_reads_nothing(run_python: Callable[..., Any]) -> None:
    program = PROGRAM.replace("SETTINGS", "skip_configuration = True")
    done = run_python(program, "--limit", "0", "--unknown")

    assert (done.returncode, done.stdout.strip()) == (0, "5"), done.stderr


def test_a_program_with_a_wrong_command_line_ends_with_code_2(
    run_python: Callable[..., Any],
) -> None:
    done = run_python(PROGRAM.replace("SETTINGS", ""), "--limit", "many")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "program: --limit: invalid literal for int() with base 10: 'many'\n"
