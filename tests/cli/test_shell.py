"""``gemstone shell``: code that is given, and prompts in a terminal, plain and IPython's."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from gemstone_sync import MicroService, RemoteService, ServiceRegistry, exposed_method
from gemstone_sync.testing import running_service
from tests.support.machine import free_port

from .support import GEMSTONE, Done, line_of, run, run_process
from .terminal import CTRL_C, CTRL_D, TAB, Terminal

#: A prompt takes some seconds to start.
SLOW = pytest.mark.slow


class Greeter(MicroService):
    name = "hello-world.service"

    @exposed_method()
    def say_hello(self, name: str) -> str:
        return f"hello {name}"

    @exposed_method("users.rename")
    def rename(self, old: str, new: str) -> list[str]:
        return [old, new]


class Worker(MicroService):
    name = "project.worker.1"

    @exposed_method()
    def work(self) -> str:
        return self.name


class Neighbourhood(NamedTuple):
    """What runs: a registry that knows some services.

    :ivar urls: where they are, by name.
    """

    registry: str
    urls: dict[str, str]

    def run(self, code: str, **options: Any) -> Done:
        return run("shell", "--registry", self.registry, "-c", code, **options)


@contextlib.contextmanager
def running(registry: MicroService, *services: MicroService) -> Iterator[Neighbourhood]:
    with contextlib.ExitStack() as stack:
        known = stack.enter_context(running_service(registry))
        urls = {}
        for service in services:
            stack.enter_context(running_service(service))
            urls[service.name] = service.url
            with RemoteService(known.url) as client:
                # For longer than a module full of prompts takes; the old one knows no interval.
                long = {} if isinstance(registry, OldRegistry) else {"interval": 3600}
                client.methods.ping(name=service.name, url=service.url, **long)
        yield Neighbourhood(known.url, urls)


@pytest.fixture(scope="module")
def services():
    with running(ServiceRegistry(), Greeter(), Worker()) as neighbourhood:
        yield neighbourhood


# Code


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("s.hello_world_service.say_hello('x')", "'hello x'"),
        ("s.hello_world_service.say_hello(name='x')", "'hello x'"),
        ("s['hello-world.service'].say_hello('x')", "'hello x'"),
        ("s['hello-world.service']['say_hello']('x')", "'hello x'"),
        ("s.hello_world_service.users.rename('a', 'b')", "['a', 'b']"),
        ("s.hello_world_service.say_hello.async_('x').result(wait=True)", "'hello x'"),
        ("s.project_worker_1.work()", "'project.worker.1'"),
        ("s['project.worker.1'].work()", "'project.worker.1'"),
        ("s['project.*'].work()", "'project.worker.1'"),
        ("sorted(s)", "['hello-world.service', 'project.worker.1']"),
        ("'project.worker.1' in s and 'project' not in s", "True"),
        ("dir(s)", "['hello_world_service', 'project_worker_1']"),
        ("hasattr(s, 'nobody'), getattr(s, 'nobody', 7)", "(False, 7)"),
        ("for name in s: print(name)", "hello-world.service\nproject.worker.1"),
        ("x = s.project_worker_1", ""),
    ],
)  # fmt: skip
def test_code_is_run(services, code, printed):
    assert services.run(code) == (0, f"{printed}\n" if printed else "", "")


@pytest.mark.parametrize(
    ("code", "exit_code", "told"),
    [
        ("s.hello_world_servce.say_hello('x')", 1, "did you mean hello-world.service?"),
        ("s['project.worker.2'].work()", 1, "did you mean project.worker.1?"),
        ("s['nothing.*'].work()", 1, "'nothing.*'"),
        ("s.project.work()", 1, "no service 'project' is known"),
        (
            "s.project_worker_1.wrok()",
            1,
            "Method not found (-32601); see gemstone describe",
        ),
        ("s.hello_world_service.say_hello(1)", 1, "name: Expected `str`, got `int`"),
        ("x = = 1", 2, "<-c>, line 1: invalid syntax"),
        ("RemoteService('http://127.0.0.1:1/api').methods.f()", 3, "127.0.0.1:1/api"),
    ],
)
def test_what_fails_is_one_line(services, code, exit_code, told):
    line = line_of(services.run(code), exit_code)

    assert line.startswith("gemstone shell: ")
    assert told in line


def test_code_may_fail_or_choose_its_exit_code(services):
    done = services.run("def f():\n    1 / 0\nf()")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("\nZeroDivisionError: division by zero\n")
    assert "gemstone_sync" not in done.stderr

    assert services.run("raise SystemExit(7)") == (7, "", "")


def test_what_comes_in_a_pipe_is_run_as_code_in_a_process_that_is_not_patched(services):
    code = "for i in range(2):\n    print(i, s.project_worker_1.work())\n"
    code += "print('socket' in __import__('gevent.monkey').monkey.saved)"
    done = run_process("shell", input=code, env={"GEMSTONE_REGISTRY": services.registry})

    assert done == (0, "0 project.worker.1\n1 project.worker.1\nFalse\n", "")


# Which services


def test_services_are_given_by_their_urls(services):
    greeter, worker = services.urls.values()
    dead = f"http://127.0.0.1:{free_port()}/api"
    for words, code in (
        (["--url", f"a={greeter}"], "s.a.say_hello('x')"),
        ([f"a={greeter}", f"b={worker}"], "s.b.work() and s.a.say_hello('x')"),
        ([greeter], "s.hello_world_service.say_hello('x')"),
        (["--url", greeter, "--registry", services.registry], "s.project_worker_1.work() and "
         "s.hello_world_service.say_hello('x')"),
        # Several URLs of one name are one service.
        (["--url", f"a={dead}", "--url", f"a={greeter}"],
         "list(s) == ['a'] and s.a.say_hello('x')"),
    ):  # fmt: skip
        assert run("shell", *words, "-c", code) == (0, "'hello x'\n", ""), words


class OldRegistry(MicroService):
    """The registry of gemstone 0.10.1, as its documentation has it, lists nothing."""

    name = "registry"
    known: dict[str, str] = {}

    @exposed_method()
    def ping(self, name: str, url: str) -> None:
        self.known = {**self.known, name: url}

    @exposed_method()
    def locate_service(self, name: str) -> list[str]:
        pattern = "hello?world?service"
        return list(self.known.values()) if name in (pattern, *self.known) else []


def test_a_registry_that_cannot_list():
    with running(OldRegistry(), Greeter()) as services:
        done = services.run("s.hello_world_service.say_hello('x')")
        assert done == (0, "'hello x'\n", "")
        assert services.run("s['hello-world.service'].say_hello('x')") == done
        assert "'nobody'" in line_of(services.run("s.nobody.f()"), 1)


def test_two_services_that_are_written_alike():
    dotted, dashed = Greeter(), Greeter()
    dotted.name, dashed.name = "a.b", "a-b"
    with running(ServiceRegistry(), dotted, dashed) as alike:
        line = line_of(alike.run("s.a_b.say_hello('x')"), 1)
        assert "write s['a-b'] or s['a.b']" in line
        assert alike.run("s['a-b'].say_hello('x')") == (0, "'hello x'\n", "")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--url", "a"], 2, "'a' is no NAME=URL"),
        (["--url", "a=nowhere"], 2, "'nowhere'"),
        (["--timeout", "0", "a=http://127.0.0.1:1/api"], 2, "--timeout"),
    ],
)
def test_wrong_words_are_one_line(words, code, told):
    line = line_of(run("shell", *words, "-c", "s.a.f()"), code)

    assert line.startswith("gemstone shell: ")
    assert told in line


# Prompts


class Prompt(NamedTuple):
    """A shell in a terminal.

    :ivar start: runs it with further words.
    :ivar sign: what a prompt looks like.
    """

    start: Callable[..., Terminal]
    is_plain: bool
    sign: str


@pytest.fixture(params=["plain", "ipython"])
def prompt(request, tmp_path):
    """Python's own, and IPython's."""
    is_plain = request.param == "plain"
    folder = str(tmp_path)
    env = {"HOME": folder, "IPYTHONDIR": folder, "INPUTRC": "/dev/null"}
    # The terminal of the tests does not tell where the cursor is.
    env["PROMPT_TOOLKIT_NO_CPR"] = "1"

    def start(*words: str) -> Terminal:
        own = ["--plain"] if is_plain else []
        return Terminal(GEMSTONE, "shell", *own, *words, columns=150, lines=40, env=env)

    return Prompt(start, is_plain, r"^>>> " if is_plain else r"^In \[\d+\]: ")


@SLOW
def test_a_prompt_shows_results_and_errors_and_completes_names(services, prompt):
    with prompt.start("--registry", services.registry) as terminal:
        terminal.expect(r"^<services: hello-world\.service, project\.worker\.1>$")
        terminal.expect(prompt.sign)
        terminal.send(f"s.hel{TAB}")
        terminal.expect("s.hello_world_service")
        terminal.send(f".users.ren{TAB}")
        terminal.expect(r"\.rename")
        terminal.enter("('a', 'b')" if not prompt.is_plain else "'a', 'b')")
        terminal.expect(r"^(Out\[\d+\]: )?\['a', 'b'\]$")
        terminal.expect(prompt.sign)
        terminal.send(f"s.hello_world_service.say{TAB}")
        # Python's own completes the parenthesis too.
        terminal.expect(r"\.say_hello\(" if prompt.is_plain else r"\.say_hello")
        terminal.enter("'tab')" if prompt.is_plain else "('tab')")
        terminal.expect(r"^(Out\[\d+\]: )?'hello tab'$")
        for line, shown in (
            ("s.hello_world_service.say_hello(1)", r"^InvalidParams: say_hello at \S+: Invalid"),
            ("s.nobody", r"^UnknownService: no service 'nobody' is known$"),
            ("s", r"<services: hello-world\.service, project\.worker\.1>$"),
        ):
            terminal.expect(prompt.sign)
            terminal.enter(line)
            terminal.expect(shown)
        assert "Traceback" not in terminal.text
        terminal.expect(prompt.sign)
        terminal.enter("1 / 0")
        terminal.expect(r"Traceback \(most recent call last\)")
        terminal.expect(r"^ZeroDivisionError: division by zero$")
        terminal.expect(prompt.sign)
        terminal.enter("exit")
        assert terminal.wait() == 0


class Counter(MicroService):
    name = "counter"
    calls = 0

    @exposed_method()
    def count(self) -> int:
        self.calls += 1
        return self.calls


@SLOW
def test_tab_calls_nothing_and_a_service_that_comes_later_is_found(services, prompt):
    counter = Counter()
    with running(ServiceRegistry()) as nobody, prompt.start("--registry", nobody.registry) as shell:
        shell.expect("<services: none is known>")
        shell.expect(prompt.sign)
        with running_service(counter), RemoteService(nobody.registry) as registry:
            registry.methods.ping("counter", counter.url)
            shell.send(f"s.counter.count().bit{TAB}")
            shell.expect(r"count\(\)\.bit")
            shell.enter("_length()")
            shell.expect(r"^(Out\[\d+\]: )?1$")
            shell.expect(prompt.sign)

    assert counter.calls == 1


@SLOW
def test_ctrl_c_ends_a_call_and_not_the_prompt(services, prompt):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        words = ["--registry", services.registry, "--url", f"silent={url}", "--timeout", "60"]
        with prompt.start(*words) as terminal:
            terminal.expect(prompt.sign)
            terminal.enter("s.silent.f()")
            with silent.accept()[0] as connection:
                assert connection.recv(4) == b"POST"
                terminal.send(CTRL_C)
                terminal.expect(r"KeyboardInterrupt")
                terminal.expect(prompt.sign)
            terminal.enter("s.project_worker_1.work()")
            terminal.expect(r"'project\.worker\.1'$")
            terminal.expect(prompt.sign)
            terminal.send(CTRL_D)
            assert terminal.wait() == 0

    assert "Traceback" not in terminal.text


@SLOW
def test_a_prompt_needs_its_registry_unless_it_has_a_service(services, prompt):
    dead = f"http://127.0.0.1:{free_port()}/api"
    with prompt.start("--registry", dead) as terminal:
        assert terminal.wait() == 3
    (line,) = terminal.text.splitlines()
    assert line.startswith("gemstone shell: http://127.0.0.1:")

    url = services.urls["project.worker.1"]
    with prompt.start("--registry", dead, "--url", f"worker={url}") as terminal:
        terminal.expect(r"^ConnectionFailed: http://127\.0\.0\.1:")
        terminal.expect(prompt.sign)
        terminal.enter("s.worker.work()")
        terminal.expect(r"'project\.worker\.1'$")


def test_the_prompt_without_ipython(services, tmp_path):
    """Where it is not installed, Python's own prompt comes."""
    hiding = tmp_path / "sitecustomize.py"
    hiding.write_text("import sys\nsys.modules['IPython'] = None\n")
    env = {"PYTHONPATH": str(tmp_path)}
    with Terminal(GEMSTONE, "shell", "--registry", services.registry, env=env) as terminal:
        terminal.expect(r"^>>> ")
        terminal.enter("quit")
        assert terminal.wait() == 0


def test_help_says_how():
    done = run("shell", "--help")

    assert (done.code, done.stderr) == (0, "")
    assert 's.greeter.say_hello("world")' in done.stdout
    assert "GEMSTONE_REGISTRY" in done.stdout
