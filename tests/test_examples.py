"""Every example, run as its reader would run it: by the commands that its README.md prints.

A README shows, in fenced blocks:

- ``sh``: a command to type. ``python service.py`` goes on, in a terminal of its own, until Ctrl-C;
- any other kind right after a command: exactly what that prints, ``...`` standing for any text;
- ``log``: what the service's terminal shows, in this order, ``...`` likewise.

Here the services listen on free ports; 8000 in a README stands for them.
"""

import contextlib
import http.client
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

from .helpers import LIMIT, wait_until

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("[0-9][0-9]_*/"))

README_PORT = "8000"
START = "python service.py"

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)


# Reading a README


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    kind: str
    text: str


class Step(NamedTuple):
    """A command, and what it prints; None when the README does not say."""

    command: str
    output: str | None


def blocks_of(readme: Path) -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", readme.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(kind, text.rstrip("\n")) for kind, text in found]


def steps_of(blocks: list[Block]) -> list[Step]:
    steps = []
    for block, following in zip(blocks, [*blocks[1:], Block("sh", "")], strict=True):
        if block.kind == "sh":
            shown = following.kind not in ("sh", "log")
            steps.append(Step(block.text, following.text if shown else None))
    return steps


def pattern_of(shown: str) -> re.Pattern[str]:
    return re.compile(".*?".join(map(re.escape, shown.split("..."))), re.DOTALL)


# Running what it says


class RunningService:
    """A service in a process of its own.

    :ivar port: where it listens.
    """

    def __init__(self, script: Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, script.name, "--port", "0"],
                cwd=script.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.port = 0

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_it_listens(self) -> None:
        def listens() -> re.Match[str] | None:
            found = re.search(r" listens on http://127\.0\.0\.1:(\d+)/", self.log)
            assert found or self.process.poll() is None, f"it ended\n{self.log}"
            return found

        self.port = int(wait_until(listens, "the line that says where it listens")[1])

    def interrupt(self) -> None:
        """Ctrl-C: it must end quietly, with exit code 0."""
        before = len(self.log)
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(LIMIT)
        assert code == 0, self.log
        assert "Traceback" not in self.log[before:], self.log


@contextlib.contextmanager
def running(script: Path, log: Path) -> Iterator[RunningService]:
    service = RunningService(script, log)
    try:
        service.wait_until_it_listens()
        yield service
    finally:
        service.process.kill()
        service.process.wait()


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


@each_example
def test_the_readme_is_what_one_sees(example: Path, tmp_path: Path) -> None:
    blocks = blocks_of(example / "README.md")
    start, *steps = steps_of(blocks)
    assert start == Step(START, None)
    types_curl = any("curl" in step.command for step in steps)
    if types_curl and not shutil.which("curl") and "CI" not in os.environ:
        pytest.skip("curl is not installed")

    with running(example / "service.py", tmp_path / "log.txt") as service:
        for step in steps:
            seen = output_of(step.command.replace(README_PORT, str(service.port)), example)
            if step.output is not None and not pattern_of(step.output).fullmatch(seen):
                assert seen == step.output, step.command
        service.interrupt()
        log = service.log.replace(f":{service.port}/", f":{README_PORT}/")

    position = 0
    for shown in (block.text for block in blocks if block.kind == "log"):
        found = pattern_of(shown).search(log, position)
        assert found, f"not in the log:\n{shown}\n\nthe log:\n{log}"
        position = found.end()
    # A traceback is only to be seen where the README shows one.
    assert log.count("Traceback") == sum(b.text.count("Traceback") for b in blocks), log
    assert "Warning" not in log


# Every example has what its reader needs


def test_every_directory_is_an_example_with_a_number_of_its_own() -> None:
    directories = {path for path in FOLDER.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert directories == set(EXAMPLES)
    assert len({folder.name[:2] for folder in EXAMPLES}) == len(EXAMPLES) >= 5


@each_example
def test_an_example_has_a_readme_of_commands_and_answers(example: Path) -> None:
    assert (example / "README.md").is_file()
    blocks = blocks_of(example / "README.md")
    steps = steps_of(blocks)
    assert steps[0].command == START
    assert any(step.output for step in steps[1:])
    assert blocks[1].kind == "log", "the service's first line follows its command"


@each_example
def test_a_readme_names_every_program_of_its_example(example: Path) -> None:
    text = (example / "README.md").read_text()
    assert [path.name for path in example.glob("*.py") if path.name not in text] == []


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
STRICT_ANSWER = b'{"jsonrpc":"2.0","result":"hello world","id":1}'

HELLO_WORLD = FOLDER / "01_hello_world"


def http_exchange(port: int, verb: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", port, timeout=LIMIT)
    with contextlib.closing(connection):
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(verb, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()


@pytest.mark.parametrize("source", ["document", "example"])
@pytest.mark.parametrize(
    ("wire_format", "answer"), [("jsonrpc", STRICT_ANSWER), ("gemstone", DOCUMENT_ANSWER)]
)
def test_hello_world_answers_the_call_of_the_document(
    source: str, wire_format: str, answer: bytes, tmp_path: Path
) -> None:
    if source == "document":
        program = DOCUMENT_PROGRAM.replace("import gemstone", "import gemstone_sync as gemstone", 1)
    else:
        program = (HELLO_WORLD / "service.py").read_text()
    if wire_format != "jsonrpc":
        port = "    port = 8000\n"
        assert port in program
        program = program.replace(port, f'{port}    wire_format = "{wire_format}"\n')
    script = tmp_path / "hello_world.py"
    script.write_text(program)

    with running(script, tmp_path / "log.txt") as service:
        assert http_exchange(service.port, "POST", "/api", DOCUMENT_CALL) == (200, answer)
        service.interrupt()


def test_the_readme_of_hello_world_shows_both_answers() -> None:
    blocks = blocks_of(HELLO_WORLD / "README.md")
    assert blocks[-2] == Block("python", '    wire_format = "gemstone"')
    assert blocks[-1] == Block("json", DOCUMENT_ANSWER.decode())
    assert STRICT_ANSWER.decode() in steps_of(blocks)[1].output.splitlines()


# 05: the web application


def test_everything_that_the_pages_refer_to_is_there(tmp_path: Path) -> None:
    with running(FOLDER / "05_web_app" / "service.py", tmp_path / "log.txt") as service:
        seen: set[str] = set()
        left = {"/"}
        while left:
            path = left.pop()
            seen.add(path)
            status, body = http_exchange(service.port, "GET", path)
            assert status == 200, path
            left |= set(re.findall(r'(?:href|src)="(/[^"]*)"', body.decode())) - seen
        service.interrupt()
    assert seen == {"/", "/help/", "/notes.txt", "/static/notebook.js", "/static/style.css"}
