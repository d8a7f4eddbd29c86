"""The command as a whole: its help, its version, wrong words, its names, what it imports."""

import json
import os
import re
import subprocess
import sys

import click
import pytest

import gemstone_sync
from gemstone_sync.cli.main import gemstone
from tests.cli.support import GEMSTONE, environment, line_of, run, run_program
from tests.support.waiting import LIMIT

CONTEXT = click.Context(gemstone, info_name="gemstone")
COMMANDS = gemstone.list_commands(CONTEXT)

#: Packages that take a tenth of a second and more, and those that lead to them.
HEAVY = "configargparse cookiecutter flask gevent gunicorn IPython kombu pydantic redis requests"
HEAVY += " urllib3 watchfiles werkzeug"

#: Their help is written by what they run, or by it too.
OTHERS_HELP = {"registry", "run", "config"}


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command_and_the_exit_codes(words):
    done = run(*words)

    assert (done.code, done.stderr) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name}  +[A-Z].*\.", done.stdout, re.M), name
    assert "0 fine, 1 the remote said no, 2 usage, 3 cannot" in " ".join(done.stdout.split())
    assert "call-raw" not in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_as_the_table_says_and_its_help_names_its_options(name):
    """The help of all commands is written without importing one: it must not get out of step."""
    done = run(name, "--help", env={"COLUMNS": "100"})

    assert (done.code, done.stderr) == (0, "")
    assert f"gemstone {name}" in done.stdout.splitlines()[0]
    assert max(map(len, done.stdout.splitlines())) <= 100
    command = gemstone.get_command(CONTEXT, name)
    assert command is not None
    assert command.help, "no docstring"
    assert command.name == name
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert set(parameter.opts) <= set(re.split(r"[\s,/]+", done.stdout))
            assert parameter.help, f"{parameter.name} has no help"


def test_another_spelling_is_the_same_command():
    assert gemstone.get_command(CONTEXT, "call-raw") is gemstone.get_command(CONTEXT, "call_raw")


@pytest.mark.parametrize(
    "command",
    [[GEMSTONE], [GEMSTONE.with_name("gemstone-sync")], [sys.executable, "-m", "gemstone_sync"]],
    ids=["gemstone", "gemstone-sync", "python -m"],
)
def test_each_name_is_the_command(command):
    assert run_program(*command, "--help") == run("--help")
    version = (0, f"gemstone_sync {gemstone_sync.__version__}\n", "")
    assert run_program(*command, "--version") == run("--version") == version


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("caal", "gemstone: no such command: caal; did you mean call?"),
        ("call-rw", "gemstone: no such command: call-rw; did you mean call-raw?"),
        ("lisen a.*", "gemstone: no such command: lisen; did you mean listen?"),
        ("qqq", "gemstone: no such command: qqq; see gemstone --help"),
        ("--versoin", "--versoin"),
        ("-x", "-x"),
        ("bench", "URL"),
        ("bench http://a/api", "METHOD"),
        ("bench http://a/api m --clals 1", "--calls"),
        ("call_raw http://a/api m --timeuot 1", "--timeout"),
        ("call_raw http://a/api m --timeout", "--timeout"),
        ("listen --cuont 1", "--count"),
        ("completion csh", "csh"),
        ("completion bash zsh", "zsh"),
    ],
)
def test_a_wrong_word_is_one_line(words, told):
    line = line_of(run(*words.split()), 2)

    assert line.startswith("gemstone")
    assert told in line


def test_a_wrong_word_for_machines():
    line = line_of(run("bench", "http://a/api", "m", "--clals", "1", "--json"), 2)

    assert "--calls" in json.loads(line)["error"]["message"]


IMPORTS = """
import contextlib, io, sys
from gemstone_sync.cli.main import main
heavy, *lines = sys.argv[1:]
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(line.split())
    print(line, *set(heavy.split()) & set(sys.modules))
import gemstone_sync
getattr(gemstone_sync, "MicroService")
print(*set(heavy.split()) & set(sys.modules))
"""


def test_nothing_heavy_is_imported_for_help():
    lines = ["--version", "--help"]
    lines += [f"{name} --help" for name in COMMANDS if name not in OTHERS_HELP]
    late = {"GEMSTONE_MONKEY_PATCH": "late"}  # what was seen would be seen twice
    done = run_program(sys.executable, "-c", IMPORTS, HEAVY, *lines, env=late)

    *imported, by_a_service = done.stdout.splitlines()
    assert (done.code, imported) == (0, lines), done
    assert {"gevent", "flask", "werkzeug"} <= set(by_a_service.split()), "it would be seen"


# Streams that are of no use


def run_with(stdout: int, *words: str, **variables: str) -> tuple[int, str]:
    """Run the executable with that stdout; its exit code and stderr."""
    done = subprocess.run(
        [GEMSTONE, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(variables),
        text=True,
        timeout=LIMIT,
    )
    return done.returncode, done.stderr


WRITING = pytest.mark.parametrize("words", [("--help",), ("--version",), ("completion", "bash")])


@WRITING
def test_a_reader_who_has_gone_is_no_reason_to_complain(words):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w"):
        assert run_with(writing, *words) == (0, "")


@WRITING
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(words, unbuffered):
    with open("/dev/full", "w") as full:
        code, stderr = run_with(full.fileno(), *words, PYTHONUNBUFFERED=unbuffered)

    (line,) = stderr.splitlines()
    assert line.endswith(": cannot write: No space left on device")
    assert code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [("--version", 0), ("emit said_hello --body - --transport events.db", 0), ("lst", 2)],
)
def test_streams_may_be_closed(words, code, tmp_path):
    done = run_program("sh", "-c", f'exec "$0" {words} <&- >&-', GEMSTONE, cwd=tmp_path)

    assert (done.code, done.stderr.count("\n")) == (code, int(code != 0)), done


@pytest.mark.parametrize(
    "closing", ["2>&-", "2>/dev/full", "2>&1 >&- | true; exit ${PIPESTATUS[0]}"]
)
def test_the_exit_code_tells_of_a_failure_that_nobody_can_read(closing):
    assert run_program("bash", "-c", f'"$0" lst {closing}', GEMSTONE).code == 2
