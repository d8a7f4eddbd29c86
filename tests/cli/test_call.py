"""``gemstone call`` and ``call_raw``: what is written where, and the exit code."""

import json
import re
import signal

import pytest

from gemstone_sync import (
    HeaderValidationStrategy,
    MicroService,
    RpcError,
    ServiceRegistry,
    exposed_method,
)
from gemstone_sync.testing import running_service
from tests.cli.support import GEMSTONE, Done, environment, line_of, run, run_process, shown
from tests.cli.terminal import plain
from tests.discovery.support import HostRegistry, UrlRegistry
from tests.support.faulty_server import FaultyServer, body, hang
from tests.support.machine import free_port
from tests.support.programs import Program
from tests.support.waiting import wait_until

TIMES = re.compile(
    r"\[!\] Service identification: \d+\.\d{5} seconds\n"
    r"\[!\] Method call: \d+\.\d{5} seconds\n"
    r"\[!\] Result:\n\n"
)


class Greeter(MicroService):
    name = "test.greeter"
    validation_strategies = [HeaderValidationStrategy("X-Api-Token")]

    def __init__(self):
        super().__init__()
        self.notes = []

    def api_token_is_valid(self, api_token):
        return api_token == "sesame"

    @exposed_method()
    def say_hello(self, name: str = "world", times: int = 1) -> str:
        """Greet somebody."""
        return f"hello {name}" * times

    @exposed_method()
    def give(self, *things, **named):
        return things or named

    @exposed_method()
    def note(self, word):
        self.notes.append(word)

    @exposed_method(requires_handler_reference=True)
    def headers(self, handler, *names: str):
        return [handler.request.headers.get(name) for name in names]

    @exposed_method(private=True)
    def secret(self):
        return "the secret"

    @exposed_method()
    def fail(self, message: str, data=None):
        raise RpcError(message, code=7, data=data)

    @exposed_method()
    def crash(self):
        raise RuntimeError("boom")


@pytest.fixture(scope="module")
def registry():
    with running_service(ServiceRegistry) as service:
        yield service


@pytest.fixture(scope="module")
def greeter(registry):
    with running_service(Greeter, service_registry_urls=[registry.url]) as service:
        wait_until(lambda: registry.directory.locate("test.greeter"), "the greeter's ping")
        yield service


def result_of(done: Done) -> object:
    """The result of a call that worked: it stands alone on stdout, and the times on stderr."""
    assert done.code == 0, done
    assert TIMES.fullmatch(done.stderr), done
    assert done.stdout.endswith("\n")
    assert "\n" not in done.stdout[:-1]
    return json.loads(done.stdout)


# What works


def test_a_service_is_called_through_a_registry_by_name_or_pattern(registry, greeter):
    words = (f"--registry={registry.url}", "test.greeter", "say_hello", "name=you")
    done = run_process("call", *words)

    assert result_of(done) == "hello you"
    assert done.stdout == '"hello you"\n'
    for pattern in ("test.*", "*.gr[e]ete?"):
        done = run("call", pattern, "say_hello", env={"GEMSTONE_REGISTRY": registry.url})
        assert result_of(done) == "hello world"


def test_a_service_is_called_without_a_registry(greeter):
    for command in ("call_raw", "call-raw"):
        done = run(command, greeter.url, "say_hello", "times:=2")
        assert result_of(done) == "hello worldhello world"
    assert run("call_raw", greeter.url, "note", "word=a", "--json") == (0, "null\n", "")


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["a=1", "b:=1", "c:=null"], '{"a":"1","b":1,"c":null}'),
        (["größe=☃", 'snow:="☃"'], '{"größe":"☃","snow":"☃"}'),
        (['deep:={"a": [1, {"b": []}]}'], '{"deep":{"a":[1,{"b":[]}]}}'),
        ([f"big:={2**200}", "small:=-0.25"], f'{{"big":{2**200},"small":-0.25}}'),
        (["--args", '[1, "a", null, [2]]'], '[1,"a",null,[2]]'),
        (["--args", '{"a": 1}', "b=2"], '{"a":1,"b":"2"}'),
        (["lines=a\nb\tc"], r'{"lines":"a\nb\tc"}'),
        ([], "{}"),
    ],
)
def test_what_is_sent_comes_back_in_the_pipe(greeter, words, written):
    done = run("call_raw", greeter.url, "give", *words, "--json")

    assert done == (0, written + "\n", "")


def test_a_notification_arrives_and_nothing_is_on_stdout(registry, greeter):
    by_url = run("call_raw", greeter.url, "note", "word=by url", "--notify")
    by_name = run(
        *("call", "--registry", registry.url, "test.greeter", "note"),
        *("word=by name", "--notify", "--json"),
    )

    assert (by_url.code, by_url.stdout) == (0, "")
    assert re.fullmatch(r"\[!\] Service.* seconds\n\[!\] Method.* seconds\n", by_url.stderr)
    assert by_name == (0, "", "")
    wait_until(lambda: {"by url", "by name"} <= set(greeter.notes), "both notes")


def test_a_token_opens_private_methods(greeter):
    wrong = line_of(run("call_raw", greeter.url, "secret", "--token", "simsalabim"), 1)
    assert wrong == f"gemstone call_raw: secret at {greeter.url}: Access denied (-32001)"
    assert result_of(run("call_raw", greeter.url, "secret", "--token", "sesame")) == "the secret"
    by_variable = run("call_raw", greeter.url, "secret", env={"GEMSTONE_TOKEN": "sesame"})
    assert result_of(by_variable) == "the secret"


def test_the_token_is_for_the_service_and_not_for_the_registry(greeter):
    registered = body(f'{{"jsonrpc": "2.0", "result": ["{greeter.url}"], "id": ID}}')
    with FaultyServer(registered) as registry:
        done = run(
            *("call", "--registry", registry.url, "x", "secret", "--header", "X-Other: 1"),
            env={"GEMSTONE_TOKEN": "sesame"},
        )

    assert result_of(done) == "the secret"
    (request,) = registry.requests
    assert request.headers.get("X-Api-Token") is None
    assert request.headers.get("X-Other") is None


def test_headers_and_credentials_in_the_url_are_sent_and_not_shown(greeter):
    options = ["--header", "Authorization: Bearer {abc}:", "--header", "X-Other:1", "--token", "t"]
    asked = ("headers", "--args", '["Authorization", "X-Other", "X-Api-Token"]')
    assert result_of(run("call_raw", greeter.url, *asked, *options)) == ["Bearer {abc}:", "1", "t"]

    url = greeter.url.replace("http://", "http://ada:sesame@")
    done = run("call_raw", url, *asked, "--token", "t")
    assert result_of(done) == ["Basic YWRhOnNlc2FtZQ==", None, "t"]
    line = line_of(run("call_raw", url, "fail", "message=no"), 1)
    assert line == f"gemstone call_raw: fail at {greeter.url}: no (7)"


def test_an_instance_that_is_gone_is_passed_over(greeter):
    gone = [f"http://127.0.0.1:{free_port()}/api" for _ in range(3)]
    known = json.dumps([*gone, greeter.url])
    with FaultyServer(body(f'{{"jsonrpc": "2.0", "result": {known}, "id": ID}}')) as registry:
        for _ in range(2):  # which one is tried first is chance
            done = run("call", "--registry", registry.url, "x", "say_hello")
            assert result_of(done) == "hello world"


@pytest.mark.parametrize("kind", [UrlRegistry, HostRegistry])
def test_registries_of_old_are_asked_too(greeter, kind):
    with running_service(kind) as registry:
        place = ("127.0.0.1", greeter.port) if kind is HostRegistry else greeter.url
        registry.enter("old.greeter", place)
        done = run("call", "--registry", registry.url, "old.*", "say_hello")

    assert result_of(done) == "hello world"


@pytest.mark.parametrize(
    ("options", "no_color", "has_lines", "has_colours"),
    [([], "", True, True), ([], "1", True, False), (["--json"], "", False, False)],
)
def test_a_terminal_shows_lines_in_colours(greeter, options, no_color, has_lines, has_colours):
    """https://no-color.org: NO_COLOR counts whatever it holds, unless it is empty."""
    text = shown("call_raw", greeter.url, "give", "a:=[1]", *options, env={"NO_COLOR": no_color})

    assert (re.search(r"\x1b\[[\d;]*m", text) is not None) is has_colours
    result = '{\n  "a": [\n    1\n  ]\n}\n' if has_lines else '{"a":[1]}\n'
    assert plain(text).rpartition("[!] Result:\n\n")[2] == result


@pytest.mark.parametrize("option", [[], ["--json"]])
@pytest.mark.parametrize("words", [["give", 'a:="{}"'], ["fail", "message={}"]])
def test_no_answer_steers_the_terminal(greeter, words, option):
    method, parameter = words
    parameter = parameter.format("\x9b31m\x7f\u202e")
    text = shown("call_raw", greeter.url, method, parameter, *option)

    assert not set("\x9b\x7f\u202e") & set(text)
    assert re.search(r"\\(u00|x)9b31m\\(u00|x)7f\\u202e", text)


def test_a_terminal_without_a_character_shows_its_number(greeter):
    latin = {"PYTHONIOENCODING": "latin-1"}

    assert r"x\u2603" in shown("call_raw", greeter.url, "give", "a=x\u2603", env=latin)


# What does not


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["say_helo"],
            "Method not found (-32601); see gemstone describe",
        ),
        (["qqqqqqqq"], "Method not found (-32601); see gemstone describe"),
        (["secret"], "Access denied (-32001)"),
        (["fail", "message=no"], "no (7)"),
        (["fail", "message=no", 'data:={"left": [0, "é"]}'], 'no (7): {"left":[0,"é"]}'),
        (["fail", "message=no", f"data={'x' * 500}"], "no (7)"),
        (["fail", "message=a\nb \x1b[31mred"], r"a b \x1b[31mred (7)"),
        (["fail"], "Invalid params (-32602): message: missing"),
        (
            ["say_hello", "nam=x", "times=2"],
            "Invalid params (-32602): nam: unexpected; did you mean 'name'?; "
            "times: Expected `int`, got `str`",
        ),
        (
            ["say_hello", "--args", '["x", 1, 2]'],
            "Invalid params (-32602): position 2: unexpected: at most 2 are taken",
        ),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_error_of_the_service_is_one_line(greeter, words, told):
    line = line_of(run("call_raw", greeter.url, *words), 1)

    assert line == f"gemstone call_raw: {words[0]} at {greeter.url}: {told}"


def test_a_crash_tells_its_id_and_an_error_for_programs_is_an_object(greeter):
    line = line_of(run("call_raw", greeter.url, "crash"), 1)
    assert re.search(r": Internal error \(-32603\) \[error_id=\w+\]$", line)
    assert "boom" not in line
    line = line_of(run("call_raw", greeter.url, "fail", "message=no", "data:=[1]", "--json"), 1)
    assert json.loads(line) == {"error": {"code": 7, "message": "no", "data": [1]}}


def test_an_old_service_s_answers_are_read():
    old = '{"jsonrpc": "2.0", "result": %s, "error": %s, "id": ID}'
    with FaultyServer(body(old % ("[1]", "null"))) as server:
        assert result_of(run("call_raw", server.url, "m")) == [1]
    error = '{"code": -32603, "message": "Internal error", "data": {"class": "ValueError"}}'
    with FaultyServer(body(old % ("null", error))) as server:
        line = line_of(run("call_raw", server.url, "m"), 1)
    assert line.endswith(f'm at {server.url}: Internal error (-32603): {{"class":"ValueError"}}')


def test_ctrl_c_ends_it_at_once(tmp_path):
    with FaultyServer(hang) as server:
        program = Program(
            [GEMSTONE, "call_raw", server.url, "m", "--timeout", "600"],
            tmp_path,
            environment=environment(),
        )
        try:
            program.wait_until(lambda: server.requests, "the call")
            program.send_signal(signal.SIGINT)
            assert program.wait() == 130
        finally:
            program.kill()

    # A terminal has shown ^C in that line.
    assert (program.stdout, program.stderr.strip()) == ("", "")


def test_a_client_s_command_does_not_patch_the_process(run_python):
    done = run_python(
        "import socket, sys\n"
        "import gemstone_sync.cli.call, gemstone_sync.cli.list, gemstone_sync.cli.remote\n"
        "print(socket.socket.__module__, 'flask' in sys.modules, 'kombu' in sys.modules)\n"
    )

    assert done.stdout.split() == ["socket", "False", "False"], done.stderr
