"""Who does not answer, or not as one should: the same line from every command that asks."""

import json
import re
import sys

import pytest

from gemstone_sync import HeaderValidationStrategy, MicroService, ServiceRegistry, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import line_of, run, run_process, run_program
from tests.support.faulty_server import (
    FaultyServer,
    answer,
    body,
    close,
    full_backlog,
    hang,
    html,
    raw,
    reset,
)
from tests.support.machine import free_port
from tests.support.programs import hanging_look_ups
from tests.support.waiting import wait_until

REFUSAL = body('{"jsonrpc": "2.0", "error": {"code": -32601, "message": "no"}, "id": ID}')


class Greeter(MicroService):
    name = "test.greeter"
    validation_strategies = [HeaderValidationStrategy("X-Api-Token")]

    @exposed_method()
    def greet(self) -> None:
        pass


@pytest.fixture(scope="module")
def places():
    """URLs by what stands for them in the words of a command."""
    with (
        running_service(ServiceRegistry) as registry,
        running_service(Greeter) as greeter,
        FaultyServer(hang) as silent,
    ):
        silent.aside["get_service_specs"] = silent.aside["list_services"] = hang
        yield {
            "REGISTRY": registry.url,
            "GREETER": greeter.url,
            "SILENT": silent.url,
            "NOBODY": f"http://127.0.0.1:{free_port()}/api",
        }


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        # Nobody is there
        ("call_raw NOBODY m", 3, "NOBODY: connection refused"),
        ("call_raw NOBODY m --notify", 3, "NOBODY: connection refused"),
        ("call --registry NOBODY x m", 3, "NOBODY: connection refused"),
        ("list --registry NOBODY", 3, "NOBODY: connection refused"),
        ("describe NOBODY", 3, "NOBODY: connection refused"),
        ("bench NOBODY m", 3, "NOBODY: connection refused"),
        ("shell NOBODY -c s.a.f()", 3, "NOBODY: connection refused"),
        ("shell --registry NOBODY -c s.a.f()", 3, "NOBODY: connection refused"),
        ("call_raw http://no-such-host.invalid/api m", 3, "http://no-such-host.invalid/api: "),
        # Nothing is said
        ("call_raw SILENT m --timeout 0.8", 3, "SILENT: no answer within 0."),
        ("call_raw SILENT m --notify --timeout 0.8", 3, "SILENT: no answer within 0."),
        ("call --registry SILENT x m --timeout 0.8", 3, "SILENT: no answer within 0."),
        ("list --registry SILENT --timeout 0.8", 3, "SILENT: no answer within 0."),
        ("describe SILENT --timeout 0.8", 3, "SILENT: no answer within 0."),
        ("bench SILENT m --timeout 0.8", 3, "SILENT: no answer within 0."),
        # Another answers
        ("call --registry REGISTRY x* m", 1, "the registry REGISTRY knows no service 'x*'"),
        ("describe --registry REGISTRY x", 1, "the registry REGISTRY knows no service 'x'"),
        ("call --registry GREETER x m", 1, "locate_service at GREETER: Method not found (-32601)"),
        ("list --registry GREETER", 1, "the registry GREETER cannot list its services: it has no"),
        ("describe GREETER grete", 1, "GREETER has no method grete; did you mean greet?"),
        ("describe GREETER qqqqqqqq", 1, "GREETER has no method qqqqqqqq"),
        (
            "call_raw GREETER grete",
            1,
            "grete at GREETER: Method not found (-32601); see gemstone describe",
        ),
        (
            "bench GREETER grete",
            1,
            "grete at GREETER: Method not found (-32601); see gemstone describe",
        ),
        ("bench GREETERx m", 1, "GREETERx: HTTP 404"),
    ],
)
def test_who_does_not_answer_is_one_line(places, words, code, told):
    for name, url in places.items():
        words, told = (
            words.replace(name, url.replace("//", "//ada:sesame@")),
            told.replace(name, url),
        )
    line = line_of(run(*words.split()), code)

    assert line.startswith(f"gemstone {words.split()[0]}: {told}")
    assert "sesame" not in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("call x m", "--registry http://HOST:PORT/api"),
        ("call x m", "GEMSTONE_REGISTRY"),
        ("list", "--registry"),
        ("describe users", "--registry"),
        ("shell -c 1", "--registry"),
        ("call --registry ftp://ada:sesame@a/api x m", "for --registry or GEMSTONE_REGISTRY: "),
        ("list --registry x", "for --registry or GEMSTONE_REGISTRY: not a service's endpoint"),
        ("shell --registry nowhere -c 1", "--registry"),
        ("describe localhost:8000/api", "write it like 'http://127.0.0.1:8000/api'"),
        ("describe ftp://ada:sesame@localhost/api", "not a service's endpoint: 'localhost/api'"),
        ("bench nowhere m", "nowhere"),
        ("bench ftp://127.0.0.1/api m", "ftp://127.0.0.1/api"),
        ("bench http:///api m", "http:///api"),
    ],
)
def test_what_is_no_url_is_usage(words, told):
    line = line_of(run(*words.split()), 2)

    assert line.startswith(f"gemstone {words.split()[0]}: ")
    assert told in line
    assert "sesame" not in line


def test_a_failure_for_programs_is_an_object():
    url = f"http://127.0.0.1:{free_port()}/api"
    line = line_of(run("call_raw", url, "m", "--json"), 3)

    assert json.loads(line) == {"error": {"message": f"{url}: connection refused"}}


SLOW = "http://somewhere/api"

MANY = """
import contextlib, sys
from gemstone_sync.cli.main import main
for line in sys.argv[1:]:
    with contextlib.suppress(SystemExit):
        main(line.split())
"""


def test_a_look_up_that_does_not_end_is_given_up(tmp_path):
    """In a process of its own, in which the threads that look up may hang for ever."""
    commands = [f"call --registry {SLOW} x m", f"call_raw {SLOW} m", f"call_raw {SLOW} m --notify"]
    commands += [f"list --registry {SLOW}", f"describe {SLOW}", f"shell x={SLOW} -c s.x.m()"]
    lines = [f"{words} --timeout 0.2" for words in commands]
    done = run_program(sys.executable, "-c", MANY, *lines, env=hanging_look_ups(tmp_path))

    said = r"its host could not be looked up within 0\.\d+ s"
    for words, line in zip(commands, done.stderr.splitlines(), strict=True):
        assert re.fullmatch(rf"gemstone {words.split()[0]}: {SLOW}: {said}", line)


def test_one_time_limit_holds_for_registry_and_service_together():
    with FaultyServer(hang) as service:
        known = body(f'{{"jsonrpc": "2.0", "result": "{service.url}", "id": ID}}')
        with FaultyServer(known) as registry:

            def asked():
                run("call", "--registry", registry.url, "x", "m", "--timeout", "0.5")
                return service.requests

            # Where the machine stands still, the registry's answer may take all of it.
            request = wait_until(asked, "a call of the service")[0]

    # What is left goes along, plus a quarter of a second.
    assert 0 < int(request.headers.get("X-Gemstone-Deadline")) < 750


def test_a_server_that_does_not_let_anybody_in_is_given_up():
    with full_backlog() as url:
        line = line_of(run("call_raw", url, "m", "--timeout", "0.2"), 3)

    assert f"gemstone call_raw: {url}: no " in line


@pytest.mark.parametrize(
    ("behaviour", "code", "told"),
    [
        (html("502 Bad Gateway"), 1, "HTTP 502 Bad Gateway without a JSON-RPC error"),
        (html(), 1, "the answer is no JSON"),
        (body("[1, 2]"), 1, "the answer is no JSON-RPC response"),
        (body('{"jsonrpc": "2.0", "result": 1, "id": 999999}'), 1, "999999"),
        (raw("SSH-2.0-OpenSSH\r\n", close), 1, ""),
        (close, 3, "the connection"),
        (reset, 3, "the connection"),
    ],
    ids=["proxy", "page", "list", "id", "ssh", "closed", "reset"],
)
def test_what_is_no_answer_is_one_line(behaviour, code, told):
    with FaultyServer(behaviour) as server:
        line = line_of(run("call_raw", server.url, "m"), code)

    assert line.startswith(f"gemstone call_raw: {server.url}: ")
    assert told in line


@pytest.mark.parametrize(
    ("words", "method", "results", "told"),
    [
        (
            "list --registry URL",
            "list_services",
            [None, {"a": None}, {"a": [{"url": 1}]}],
            "list of",
        ),
        ("list --registry URL --json", "list_services", [["a"], {"a": ["x"]}], "list of services"),
        ("describe URL", "get_service_specs", [None, {}, {"methods": ["a"]}], "has no methods"),
    ],
)
def test_what_is_no_listing_or_description_is_one_line(words, method, results, told):
    for result in results:
        with FaultyServer(answer(result)) as server:
            server.aside[method] = answer(result)
            line = line_of(run(*words.replace("URL", server.url).split()), 1)
        assert told in line


def test_a_registry_that_names_no_urls_says_no():
    """The executable: here pytest takes what is logged."""
    with FaultyServer(answer(["javascript:alert(1)", "http://u:sesame@h/"])) as registry:
        line = line_of(run_process("call", "--registry", registry.url, "x", "m"), 1)

    assert "which is no list of services' URLs" in line
    assert "sesame" not in line


def test_a_registry_that_refuses_is_one_line():
    refusal = '{"jsonrpc": "2.0", "error": {"code": 7, "message": "no", "data": [1]}, "id": ID}'
    with FaultyServer(body(refusal)) as registry:
        line = line_of(run("list", "--registry", registry.url), 1)
        as_json = line_of(run("list", "--registry", registry.url, "--json"), 1)

    assert line == f"gemstone list: list_services at {registry.url}: no (7): [1]"
    assert json.loads(as_json) == {"error": {"code": 7, "message": "no", "data": [1]}}


def test_a_service_is_asked_for_nothing_after_a_method_that_it_does_not_have():
    with FaultyServer(REFUSAL) as server:
        server.aside["get_service_specs"] = answer({"methods": {"say_hello": None}})
        line = line_of(run("call_raw", server.url, "say_helo"), 1)
        assert len(server.requests) == 1
        assert server.asked_aside == []
    told = "no (-32601); see gemstone describe"
    assert line == f"gemstone call_raw: say_helo at {server.url}: {told}"


@pytest.mark.parametrize(
    ("specs", "told"),
    [(REFUSAL, "get_service_specs at"), (html(), "is no JSON")],
    ids=["no", "page"],
)
def test_a_service_without_specs_is_one_line(specs, told):
    with FaultyServer() as service:
        service.aside["get_service_specs"] = specs
        assert told in line_of(run("describe", service.url), 1)
