"""Every example, run as its reader would run it: by the commands that its README.md prints.

A README shows, in fenced blocks:

- ``sh``: a command to type. One that is followed by the line that tells where it listens goes on,
  in a terminal of its own, until Ctrl-C; the last one of these is the example's ``service.py``;
- any other kind right after a command: exactly what that prints, ``...`` standing for any text;
- ``log``: what that terminal shows, in this order, ``...`` likewise; after other commands, what the
  terminal of ``service.py`` shows.

Here the services listen on free ports; those in a README stand for them.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .support.http import JSON, exchange, message
from .support.rabbitmq import shared_rabbitmq
from .support.waiting import LIMIT, wait_until

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("[0-9][0-9]_*/"))

#: Those whose README starts so many processes that it takes seconds.
LONG = {
    *("06_client", "07_discovery", "08_events", "09_work_queue", "10_configuration"),
    *("11_contracts", "13_operations"),
}

START = "python service.py"
#: Where the examples look for a registry, unless at the port that their README names.
REGISTRY_VARIABLE = "REGISTRY_URL"

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)


# Reading a README

LISTENS = re.compile(r" listens on http://127\.0\.0\.1:(\d+)/")
STOPPED = re.compile(r" stopped$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    kind: str
    text: str


class Step(NamedTuple):
    """A command, and what it prints; None when the README does not say.

    :ivar port: where it listens, as the README says, if it goes on.
    :ivar seen: what the terminal of ``service.py`` shows some time later.
    """

    command: str
    output: str | None
    port: str | None = None
    seen: tuple[str, ...] = ()


def blocks_of(readme: Path) -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", readme.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(kind, text.rstrip("\n")) for kind, text in found]


def steps_of(blocks: list[Block]) -> list[Step]:
    steps: list[Step] = []
    for block, following in zip(blocks, [*blocks[1:], Block("sh", "")], strict=True):
        if block.kind == "sh":
            shown = following.kind not in ("sh", "log")
            listens = LISTENS.search(following.text) if following.kind == "log" else None
            steps.append(
                Step(block.text, following.text if shown else None, listens and listens[1])
            )
        elif block.kind == "log" and not STOPPED.search(block.text):
            steps[-1] = steps[-1]._replace(seen=(*steps[-1].seen, block.text))
    return steps


def split(steps: list[Step]) -> tuple[list[Step], list[Step]]:
    """Those that go on, which come first, and those that end."""
    count = sum(step.port is not None for step in steps)
    assert all(step.port is not None for step in steps[:count])
    assert steps[count - 1].command == START
    return steps[:count], steps[count:]


def pattern_of(shown: str) -> re.Pattern[str]:
    return re.compile(".*?".join(map(re.escape, shown.split("..."))), re.DOTALL)


# Running what it says


class RunningService:
    """A service in a process of its own.

    :ivar port: where it listens.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process, self._log = process, log
        self.port = int(wait_until(self._listens, "the line that says where it listens")[1])

    def _listens(self) -> re.Match[str] | None:
        found = LISTENS.search(self.log)
        assert found or self.process.poll() is None, f"it ended\n{self.log}"
        return found

    @property
    def log(self) -> str:
        return self._log.read_text()

    def interrupt(self) -> None:
        """Ctrl-C: it must end quietly, with exit code 0."""
        before = len(self.log)
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(LIMIT)
        assert code == 0, self.log
        assert "Traceback" not in self.log[before:], self.log


@contextlib.contextmanager
def running(command: str, folder: Path, log: Path) -> Iterator[RunningService]:
    interpreter, *words = command.split()
    assert interpreter == "python"
    command = [sys.executable, *words, "--port", "0"]
    how = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, **how)
    try:
        yield RunningService(process, log)
    finally:
        process.kill()
        process.wait()


def output_of(command: str, folder: Path) -> str:
    """Type a command in a shell, where ``python`` is the interpreter that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "no_proxy": "*"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr.decode()}"
    return done.stdout.decode().replace("\r\n", "\n").rstrip("\n")


@pytest.mark.parametrize(
    "example",
    [pytest.param(e, marks=[pytest.mark.slow] if e.name in LONG else []) for e in EXAMPLES],
    ids=lambda folder: folder.name,
)
def test_the_readme_is_what_one_sees(example, tmp_path, monkeypatch):
    monkeypatch.setenv("EVENTS_URL", str(tmp_path / "events.db"))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/bank.db")
    monkeypatch.setenv("OUTBOX", str(tmp_path / "outbox.db"))
    follow_the_readme(example, tmp_path, monkeypatch)


@pytest.mark.slow  # the same again, many processes
@pytest.mark.parametrize("example", ["08_events", "09_work_queue"])
def test_events_are_the_same_over_rabbitmq(example, tmp_path, monkeypatch):
    with shared_rabbitmq() as rabbitmq:
        monkeypatch.setenv("EVENTS_URL", rabbitmq.url)
        monkeypatch.setenv("EVENTS_APPLICATION", rabbitmq.new_application())
        follow_the_readme(FOLDER / example, tmp_path, monkeypatch)


def follow_the_readme(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type what it says, and compare what is seen."""
    blocks = blocks_of(example / "README.md")
    going_on, steps = split(steps_of(blocks))
    types_curl = any("curl" in step.command for step in steps)
    if types_curl and not shutil.which("curl") and "CI" not in os.environ:
        pytest.skip("curl is not installed")

    services: list[RunningService] = []
    ports: dict[str, str] = {}  # those here, by those of the README
    with contextlib.ExitStack() as stack:
        for number, step in enumerate(going_on):
            log = tmp_path / f"log-{number}.txt"
            services.append(stack.enter_context(running(step.command, example, log)))
            assert step.port is not None
            ports[step.port] = str(services[-1].port)
            if "registry" in step.command:
                url = f"http://127.0.0.1:{services[-1].port}/api"
                monkeypatch.setenv(REGISTRY_VARIABLE, url)
        for step in steps:
            seen = output_of(replaced(step.command, ports), example)
            shown = step.output and replaced(step.output, ports)
            if shown is not None and not pattern_of(shown).fullmatch(seen):
                assert seen == shown, step.command
            for line in step.seen:
                pattern = pattern_of(replaced(line, ports))
                wait_until(lambda p=pattern: p.search(services[-1].log), line)
        if example.name == "05_web_app":
            check_pages(services[-1].port)
        for service in reversed(services):
            service.interrupt()
        logs = [service.log for service in services]

    check_logs(blocks, logs, ports)
    # A traceback is only to be seen where the README shows one.
    assert "".join(logs).count("Traceback") == sum(b.text.count("Traceback") for b in blocks), logs
    assert "Warning" not in "".join(logs)


def replaced(text: str, ports: dict[str, str]) -> str:
    """The text with the ports that the services have here."""
    return re.sub(r"(?<=:)\d{4,5}(?=/)", lambda found: ports.get(found[0], found[0]), text)


def check_logs(blocks: list[Block], logs: list[str], ports: dict[str, str]) -> None:
    """Find each log block in the log of its terminal."""
    number = -1
    positions = [0] * len(logs)
    for block in blocks:
        if block.kind == "sh":
            number += 1
        elif block.kind == "log":
            place = min(number, len(logs) - 1)
            shown = replaced(block.text, ports)
            found = pattern_of(shown).search(logs[place], positions[place])
            assert found, f"not in the log:\n{shown}\n\nthe log:\n{logs[place]}"
            positions[place] = found.end()


# Every example has what its reader needs


@each_example
def test_an_example_has_a_readme_of_commands_and_answers(example):
    """The README names every program of the example."""
    text = (example / "README.md").read_text()
    going_on, steps = split(steps_of(blocks_of(example / "README.md")))
    assert going_on, "the service's first line follows its command"
    assert any(step.output for step in steps)
    assert [path.name for path in example.glob("*.py") if path.name not in text] == []


def test_every_directory_is_an_example_with_a_number_of_its_own():
    directories = {path for path in FOLDER.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert directories == set(EXAMPLES)
    assert len({folder.name[:2] for folder in EXAMPLES}) == len(EXAMPLES) >= 5


# 01: the document's own program

DOCUMENT_PROGRAM = """\
import gemstone

class HelloWorldService(gemstone.MicroService):
    name = "hello_world_service"
    host = "127.0.0.1"
    port = 8000

    @gemstone.exposed_method()
    def say_hello(self, name):
        return "hello {}".format(name)

if __name__ == '__main__':
    service = HelloWorldService()
    service.start()
"""
DOCUMENT_CALL = b'{"jsonrpc": "2.0","id": 1,"method": "say_hello","params": {"name": "world"}}'
DOCUMENT_ANSWER = b'{"result": "hello world", "error": null, "jsonrpc": "2.0", "id": 1}'
STRICT_ANSWER = '{"jsonrpc":"2.0","result":"hello world","id":1}'
WIRE_FORMAT = '    wire_format = "gemstone"'


def http_exchange(port: int, verb: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    reply = exchange(port, message(verb, path, JSON if body else {}, body))
    return reply.status, reply.body


def test_the_program_of_the_document_answers_its_call(tmp_path):
    """With the line that the README of hello world shows: byte for byte."""
    readme = FOLDER / "01_hello_world" / "README.md"
    assert blocks_of(readme)[-2:] == [
        Block("python", WIRE_FORMAT),
        Block("json", DOCUMENT_ANSWER.decode()),
    ]
    assert STRICT_ANSWER in steps_of(blocks_of(readme))[1].output.splitlines()

    program = DOCUMENT_PROGRAM.replace("import gemstone", "import gemstone_sync as gemstone", 1)
    port = "    port = 8000\n"
    (tmp_path / "hello_world.py").write_text(program.replace(port, f"{port}{WIRE_FORMAT}\n"))
    with running("python hello_world.py", tmp_path, tmp_path / "log.txt") as service:
        answer = http_exchange(service.port, "POST", "/api", DOCUMENT_CALL)
        assert answer == (200, DOCUMENT_ANSWER)
        service.interrupt()


# 05: the web application


def check_pages(port: int) -> None:
    """Everything that its pages refer to is there."""
    seen: set[str] = set()
    left = {"/"}
    while left:
        path = left.pop()
        seen.add(path)
        status, body = http_exchange(port, "GET", path)
        assert status == 200, path
        left |= set(re.findall(r'(?:href|src)="(/[^"]*)"', body.decode())) - seen
    assert seen == {"/", "/help/", "/notes.txt", "/static/notebook.js", "/static/style.css"}
