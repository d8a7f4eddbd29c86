"""``gemstone run --reload``: starts again when a file changes, and leaves no process behind."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.http import Connection, call_message, refuses_connections
from tests.support.programs import children_of, is_alive
from tests.support.waiting import wait_until

from .serving import Serving, serving
from .support import line_of, run, run_process

#: The service starts once and again, a second each time, or several.
SLOW = pytest.mark.slow

SERVICE = """
import os, time
import gemstone_sync

class Hello(gemstone_sync.MicroService):
    name = "hello"

    @gemstone_sync.exposed_method()
    def answer(self):
        return 1

    @gemstone_sync.exposed_method()
    def hops(self):
        return self.max_hops

    @gemstone_sync.exposed_method()
    def pause(self, seconds: float):
        open("paused", "w").close()
        time.sleep(seconds)

    @gemstone_sync.exposed_method()
    def hang(self):
        open("paused", "w").close()
        while True:
            pass

    @gemstone_sync.exposed_method(name="exit")
    def exit_(self):
        os._exit(3)
"""

Start = Callable[..., Serving]


@pytest.fixture
def start(tmp_path):
    """``start("--workers", "2")``: the service above, once it listens."""
    started: list[Serving] = []

    def start_one(*words: str, text: str = SERVICE, listens: bool = True) -> Serving:
        write(tmp_path / "service.py", text)
        program = Serving(tmp_path, "service:Hello", "--reload", "--port", "random", *words)
        started.append(program)
        if listens:
            program.wait_for_start()
        return program

    yield start_one
    for program in started:
        program.kill()


def write(path: Path, text: str) -> None:
    """Write a file as editors do: the new one is moved into the place of the old one."""
    new = path.with_name(path.name + "~")
    new.write_text(text)
    new.replace(path)


def answering(number: int) -> str:
    """The service, with another answer."""
    return SERVICE.replace("return 1", f"return {number}")


def wait_for_line(program: Serving, text: str) -> None:
    program.wait_until(lambda: text in program.stderr, f"{text!r} on stderr")


def answers(program: Serving, method: str, result: int) -> bool:
    try:
        return bool(program.call(method) == result)
    except (OSError, AssertionError):  # between two starts
        return False


@SLOW
def test_a_changed_method_answers_anew_at_the_same_port(start):
    program = start()
    port = program.port
    assert program.call("answer") == 1
    # The parent imports nothing of the service: it is not patched, and has no gevent.
    (child,) = children_of(program.process.pid)
    assert "gevent" not in Path(f"/proc/{program.process.pid}/maps").read_text()
    assert "gevent" in Path(f"/proc/{child}/maps").read_text()

    write(program.folder / "service.py", answering(2))

    assert program.wait_for_start(2) == port
    assert program.call("answer") == 2
    assert "gemstone run: service.py changed, the service starts again\n" in program.stderr
    write(program.folder / "hello.cfg", "[hello]")  # which the service may read
    wait_for_line(program, "gemstone run: hello.cfg changed, the service starts again\n")


@SLOW
def test_what_fails_is_shown_and_started_again_by_a_change(start):
    program = start(text="import helper\n" + SERVICE, listens=False)
    wait_for_line(program, "No module named 'helper'\n")
    wait_for_line(program, "ended with exit code 1; it starts again when a file changes\n")
    write(program.folder / "helper.py", "")
    program.wait_for_start(1)
    assert program.call("answer") == 1

    with Connection(program.port) as connection:
        connection.send(call_message("exit"))
        assert connection.is_ended()
    wait_for_line(program, "the service ended with exit code 3; it starts again when a file")
    write(program.folder / "service.py", answering(2))
    program.wait_for_start(2)
    assert program.call("answer") == 2

    write(program.folder / "service.py", answering(3) + "\ndef broken(:\n")
    wait_for_line(program, "SyntaxError: invalid syntax\n")
    program.wait_until(lambda: program.stderr.count("ended with exit code 1;") == 2, "its end")
    assert refuses_connections(program.port)
    write(program.folder / "service.py", answering(3))
    program.wait_for_start(3)
    assert program.call("answer") == 3


@SLOW
def test_changes_of_settings_count_and_wrong_ones_can_be_mended(start):
    program = start()
    assert program.call("hops") == 8

    write(program.folder / "hello.toml", "max_hops = 5")
    program.wait_for_start(2)
    assert program.call("hops") == 5
    write(program.folder / "hello.toml", "max_hosp = 5")
    wait_for_line(program, "did you mean max_hops?\n")
    wait_for_line(program, "the service ended with exit code 2; it starts again when a file")
    write(program.folder / ".env", "GEMSTONE_MAX_HOPS=4")
    write(program.folder / "hello.toml", "max_hops = 5")

    program.wait_until(lambda: answers(program, "hops", 4), "the value of .env")


@SLOW
@pytest.mark.parametrize("joined", [False, True])
def test_a_file_that_is_given_counts_wherever_it_is(start, tmp_path_factory, joined):
    """Kubernetes, for example, changes a file by a link to another folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for number in (5, 6):
        write(elsewhere / f"{number}.toml", f"max_hops = {number}")
    link = elsewhere / "now.toml"
    link.symlink_to("5.toml")
    program = start(*([f"--config={link}"] if joined else ["--config", str(link)]))
    assert program.call("hops") == 5

    new = elsewhere / "new.toml"
    new.symlink_to("6.toml")
    new.replace(link)
    program.wait_for_start(2)
    assert program.call("hops") == 6

    write(elsewhere / "6.toml", "max_hops = 10")
    program.wait_for_start(3)
    assert program.call("hops") == 10


OTHERS = (
    "notes.txt",
    "written.json",
    "service.py~",
    ".service.py.swp",
    ".#service.py",
    "__pycache__/x.py",
    ".git/x.py",
    ".venv/x.py",
    "environment/lib/site-packages/x.py",
)


@SLOW
def test_one_change_starts_it_once_and_other_files_do_not_count(start, tmp_path):
    """Data, what editors leave for a moment, and what is not the program's own."""
    paths = [tmp_path / name for name in OTHERS]
    for path in paths:  # folders that are new are not looked into from the first moment on
        path.parent.mkdir(parents=True, exist_ok=True)
    write(tmp_path / "own.toml", "max_hops = 5")
    program = start("--config", "own.toml")  # given, and in the folder, too
    for path in paths:
        path.write_text("x = 1")
    write(program.folder / "own.toml", "max_hops = 6")
    program.wait_for_start(2)
    assert program.call("hops") == 6

    # What is seen next comes after them, and is all that is named.
    write(program.folder / "other.py", "x = 1")
    program.wait_for_start(3)

    said = [line for line in program.stderr.splitlines() if "changed" in line]
    assert [line.split()[2] for line in said] == ["own.toml", "other.py"]


@SLOW
def test_a_folder_of_a_target_elsewhere_is_watched_too(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    write(there / "service.py", SERVICE)
    with serving(here, "../there/service.py:Hello", "--reload", "--port=0") as program:
        program.wait_for_start()
        write(there / "service.py", answering(2))
        program.wait_for_start(2)
        assert program.call("answer") == 2


@SLOW
def test_a_change_while_it_starts_is_not_lost(start):
    """The module has read the answer, and is still being imported, when the answer changes."""
    waits = (
        "from number import NUMBER\nimport os, time\nopen('imported', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
    )
    program = start()
    write(program.folder / "number.py", "NUMBER = 2")
    write(program.folder / "service.py", waits + SERVICE.replace("return 1", "return NUMBER"))
    program.wait_until((program.folder / "imported").exists, "the import")
    write(program.folder / "number.py", "NUMBER = 3")
    (program.folder / "go").touch()

    program.wait_until(
        lambda: answers(program, "answer", 3), "the answer of the file that changed last"
    )


@SLOW
@pytest.mark.parametrize("method", ["pause", "hang"])
@pytest.mark.parametrize("words", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_call_that_does_not_end_delays_it_for_some_seconds(start, words, method):
    """Less than the thirty that a call in flight has otherwise."""
    program = start(*words)
    parent = program.process.pid
    count = 3 if words else 1
    program.wait_until(lambda: len(children_of(parent)) == count, "all processes")
    before = children_of(parent)
    with Connection(program.port) as connection:
        connection.send(call_message(method, *([60.0] if method == "pause" else [])))
        program.wait_until((program.folder / "paused").exists, "the call")
        write(program.folder / "service.py", answering(2))
        program.wait_until(lambda: answers(program, "answer", 2), "the new answer", limit=25.0)

    program.wait_until(lambda: len(children_of(parent)) == count, "all new processes")
    assert not any(map(is_alive, before))


# The end


def end_by_ctrl_c(program: Serving) -> None:
    """A terminal sends it to the parent, the child and its workers."""
    os.killpg(program.process.pid, signal.SIGINT)


ENDS: dict[str, tuple[Callable[[Serving], None], int]] = {
    "SIGTERM": (lambda program: program.send_signal(signal.SIGTERM), 0),
    "SIGINT": (lambda program: program.send_signal(signal.SIGINT), 0),
    "Ctrl-C": (end_by_ctrl_c, 0),
    "SIGKILL": (lambda program: program.send_signal(signal.SIGKILL), -signal.SIGKILL),
}


@pytest.mark.parametrize(
    "words", [(), pytest.param(("--workers", "2"), marks=SLOW)], ids=["alone", "workers"]
)
@pytest.mark.parametrize("end", ["SIGTERM", *(pytest.param(e, marks=SLOW) for e in [*ENDS][1:])])
def test_its_end_leaves_no_process(start, end, words):
    program = start(*words)
    parent = program.process.pid
    count = 3 if words else 1
    program.wait_until(lambda: len(children_of(parent)) == count, "all processes")
    children = children_of(parent)
    finish, code = ENDS[end]

    finish(program)
    assert program.wait() == code

    wait_until(lambda: not any(map(is_alive, children)), "the end of the children")
    assert refuses_connections(program.port)
    assert "Traceback" not in program.stderr
    # In order, and not killed.
    last = "INFO hello and its workers stopped" if words else "INFO hello stopped"
    assert program.stderr.splitlines()[-1].endswith(last)


@SLOW
def test_the_parents_death_while_the_module_is_imported_ends_the_child(start):
    """By SIGKILL, when nothing but the import runs in the child."""
    waits = "open('imported', 'w').close()\nwhile True: pass\n"
    program = start(text=waits, listens=False)
    program.wait_until((program.folder / "imported").exists, "the import")
    children = children_of(program.process.pid)
    assert len(children) == 1

    program.send_signal(signal.SIGKILL)

    wait_until(lambda: not any(map(is_alive, children)), "the end of the child")


@SLOW
def test_a_service_that_stops_by_itself_ends_the_command(start):
    program = start(text=SERVICE.replace("os._exit(3)", "self.stop()"))
    with Connection(program.port) as connection:
        connection.call("exit")

    assert program.wait() == 0


def test_a_wrong_command_line_ends_it(tmp_path):
    """No change of a file mends it."""
    write(tmp_path / "service.py", SERVICE)
    done = run_process("run", "service:Hello", "--reload", "--prt", "1", cwd=tmp_path)

    assert line_of(done, 2) == "gemstone run: unknown option --prt; did you mean --port?"


def test_without_watchfiles_it_says_what_to_install(monkeypatch):
    # A module that is None in sys.modules cannot be imported: as if it were not installed.
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    line = line_of(run("run", "service", "--reload"), 2)

    assert line == "gemstone run: watchfiles is not installed: pip install 'gemstone_sync[reload]'"
