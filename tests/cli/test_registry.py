"""``gemstone registry``: a registry, set as any service is."""

import json
import re
import signal
from pathlib import Path

import pytest

from gemstone_sync import HeaderToken, MicroService, RemoteService
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.support.http import refuses_connections
from tests.support.programs import Program
from tests.support.waiting import wait_until

from .support import GEMSTONE, line_of, run

A = "http://a:1/api"


class Users(MicroService):
    name = "users"


@pytest.fixture
def start(tmp_path):
    """``start("--port", "0")``: ``gemstone registry`` in ``tmp_path``, once it answers."""
    started = []

    def start_one(*words: str, **environment: str) -> Program:
        program = Program([str(GEMSTONE), "registry", *words], tmp_path, environment=environment)
        started.append(program)
        address = program.wait_until(
            lambda: re.search(r"listens on http://\S+:(\d+)/api", program.stderr),
            "its address in the log",
        )
        program.port = int(address[1])
        return program

    yield start_one
    for program in started:
        program.kill()


def test_it_runs_until_a_signal(start):
    registry = start("--port", "0")
    in_use = run("registry", "--port", str(registry.port))
    url = f"http://127.0.0.1:{registry.port}/api"
    with running_service(Users, service_registry_urls=[url]) as users:
        listed = wait_until(lambda: run("list", "--registry", url).stdout, "the service's ping")
    registry.send_signal(signal.SIGINT)

    assert "in use" in line_of(in_use, 1)
    assert users.url in listed
    assert registry.wait() == 0
    assert "Traceback" not in registry.stderr
    assert refuses_connections(registry.port)


# Where its settings come from

VALUES = {"port": "random", "host": "127.0.0.2", "token": "sesame", "state": "s.db", "ttl": "1ms"}

#: What stands on the command line, in the environment, and in files.
SOURCES: dict[str, tuple[list[str], dict[str, str], dict[str, str]]] = {
    "command line": ([f"--{name}={value}" for name, value in VALUES.items()], {}, {}),
    "variables": ([], {f"GEMSTONE_REGISTRY_{n.upper()}": v for n, v in VALUES.items()}, {}),
    "registry.toml": (
        [],
        {},
        {"registry.toml": "".join(f'{name} = "{value}"\n' for name, value in VALUES.items())},
    ),
    "--config": (
        ["--config", "own.yaml"],
        {},
        {"own.yaml": "\n  ".join(["registry:", *(f"{n}: {v}" for n, v in VALUES.items())])},
    ),
    "GEMSTONE_REGISTRY_CONFIG": (
        [],
        {"GEMSTONE_REGISTRY_CONFIG": "own.ini"},
        {"own.ini": "\n".join(["[gemstone]", *(f"{n} = {v}" for n, v in VALUES.items())])},
    ),
}
#: One source beside the other. SECRET is the path of a file.
MIXED = (
    ["--host", "127.0.0.2", "--config", "own.toml"],
    {"GEMSTONE_REGISTRY_PORT": "random", "GEMSTONE_REGISTRY_HOST": "127.0.0.9"},
    {
        ".env": "GEMSTONE_REGISTRY_TOKEN=file:SECRET\nGEMSTONE_REGISTRY_PORT=1\n",
        "own.toml": "state = 'state.db'\ntoken = 'another'\n",
        "registry.toml": "ttl = 0.001\nstate = 'another.db'\n",
    },
)


@pytest.mark.parametrize("source", SOURCES)
def test_each_setting_from_each_source(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, variables, files = SOURCES[source]
    for name, text in files.items():
        Path(name).write_text(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    registry = ServiceRegistry()
    registry.configure(words)

    assert (registry.port, registry.host) == (0, "127.0.0.2")
    assert (registry.token, registry.state, registry.ttl) == ("sesame", "s.db", 0.001)


def test_each_setting_counts(start, tmp_path):
    words, variables, files = MIXED
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("SECRET", str(secret)))
    registry = start(*words, **variables)
    url = f"http://127.0.0.2:{registry.port}/api"
    with RemoteService(url) as anyone:
        assert anyone.call_method("ping", ["users", A]).error is not None
    with RemoteService(url, authentication_method=HeaderToken("sesame")) as service:
        service.methods.ping("users", A)
        wait_until(lambda: service.methods.locate_service("users") == [], "the end of its life")
    assert registry.terminate() == 0

    assert registry.port not in (0, 8090)
    assert [path.name for path in tmp_path.glob("*.db")] == ["state.db"]
    assert "sesame" not in registry.stderr + registry.stdout


def test_its_settings_are_shown_with_their_sources(tmp_path):
    (tmp_path / "registry.toml").write_text("ttl = '5m'\n[gemstone]\nmax_entries = 10\n")
    target = "gemstone_sync.registry:ServiceRegistry"
    variables = {"GEMSTONE_REGISTRY_TOKEN": "sesame", "GEMSTONE_PORT": "1"}
    words = ["config", "--changed", "--json", target, "--state", "state.db"]
    done = run(*words, cwd=tmp_path, env=variables)

    assert (done.code, done.stderr) == (0, "")
    found = {each["name"]: (each["value"], each["source"]) for each in json.loads(done.stdout)}
    assert found == {
        "token": ("********", "GEMSTONE_REGISTRY_TOKEN"),
        "state": ("state.db", "--state"),
        "ttl": ("300", "registry.toml: ttl"),
        "max_entries": ("10", "registry.toml: max_entries"),
    }


# What it says


def test_help_says_what_it_is_before_the_options():
    done = run("registry", "--port", "1", "--help", env={"COLUMNS": "80"})

    assert done == run("registry", "-h", env={"COLUMNS": "80"})
    assert (done.code, done.stderr) == (0, "")
    about, options = done.stdout.split("\noptions:\n")
    assert about.startswith("usage: gemstone registry [OPTIONS]\n\nA service registry: ")
    assert 'service_registry_urls = ["http://127.0.0.1:8090/api"]' in about
    assert "Without a token anyone" in about
    assert "What counts: the command line" in options
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_has_the_purpose_the_variable_and_the_default_of_every_setting():
    text = run("registry", "--help", env={"COLUMNS": "1000"}).stdout
    options = text.replace("\n                        ", "  ").splitlines()

    for name, default, _ in ServiceRegistry().get_settings():
        (line,) = (each for each in options if re.match(rf"  --{name}[, ]", each))
        variable = f"GEMSTONE_REGISTRY_{name.upper()}"
        assert re.search(r"  [A-Z\"(]\S+ .*\. \[env var: ", line), line
        assert f". [env var: {variable}] (default: {default})" in line


def test_a_shell_completes_its_options_and_files():
    asked = ("completion", "bash", "--answer")
    lines = run(*asked, "gemstone registry --port 0 --ma").stdout.splitlines()

    options = {line.partition("\t")[0] for line in lines}
    assert {"words", "--max_entries", "--max_per_name", "--max_body_size"} <= options
    assert run(*asked, "gemstone registry --config ").stdout == "file\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port"], "gemstone registry: --port needs a value"),
        *((["--port", port], "registry: --port: ") for port in ("70000", "-1")),
        (["--host", ""], "registry: --host: "),
        (["--token", ""], "registry: --token: "),
        (["--prot", "1"], "gemstone registry: unknown option --prot; did you mean --port?"),
        (["--tokn=sesame"], "gemstone registry: unknown option --tokn; did you mean --token?"),
        (["state.db"], "gemstone registry: unexpected argument 'state.db'"),
        (["--port", "http"], "registry: --port: must be "),
        (
            ["--token", "sesame with spaces"],
            "registry: --token: ServiceRegistry.token must be 1 to 1000 visible ASCII characters, "
            "without spaces, or None, not ********",
        ),
        (["--state", ""], "registry: --state: ServiceRegistry.state must be the path of a file"),
        *(
            (["--state", path], "registry: --state: ServiceRegistry.state must be the path of a")
            for path in (":memory:", "file:state.db")
        ),
        (["--tokn", "sesame"], "gemstone registry: unknown option --tokn; did you mean --token?"),
        (
            ["--port", "0", "--outbox", "outbox.db"],
            "registry: outbox is set: it needs event_transports",
        ),
        (
            ["--ttl", "0s"],
            "registry: --ttl: ServiceRegistry.ttl must be a number of seconds above 0",
        ),
        (
            ["--max_entries", "0"],
            "registry: --max_entries: ServiceRegistry.max_entries must be a whole number above 0",
        ),
        (
            ["--workers", "2"],
            "registry: --workers: ServiceRegistry.workers must be 1: a registry is one process: "
            "with several workers each would know a part of the services. Start more registries",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(words, line):
    said = line_of(run("registry", *words), 2)

    assert said.startswith(line)
    assert "sesame" not in said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tokn = 'sesame'", "registry: registry.toml: unknown key tokn; did you mean token?"),
        ("token = 'ses ame'", "registry: registry.toml: token: ServiceRegistry.token must be 1 to"),
        ("token = ['sesame']", "registry: registry.toml: token: cannot be used (the value is a"),
        ("token = 'file:/absent'", "registry: registry.toml: token: /absent: No such file or"),
        ("ttl = -1", "registry: registry.toml: ttl: ServiceRegistry.ttl must be a number of sec"),
        ("workers = 2", "registry: registry.toml: workers: ServiceRegistry.workers must be 1: "),
    ],
)
def test_a_wrong_file_is_one_line(text, line, tmp_path):
    (tmp_path / "registry.toml").write_text(text)
    said = line_of(run("registry", "--port", "0", cwd=tmp_path), 2)

    assert said.startswith(line)
    assert "ses" not in said.removeprefix(line)
