"""The command as a whole: its help, its version, wrong words, both names, what it imports."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import gemstone_sync
from gemstone_sync.cli.main import gemstone
from tests.cli.support import GEMSTONE, environment, line_of, run
from tests.support.waiting import LIMIT

CONTEXT = click.Context(gemstone, info_name="gemstone")
COMMANDS = gemstone.list_commands(CONTEXT)

#: Packages that take a tenth of a second and more, and those that lead to them.
HEAVY = {
    "configargparse",
    "cookiecutter",
    "flask",
    "gevent",
    "gunicorn",
    "IPython",
    "kombu",
    "pydantic",
    "redis",
    "requests",
    "urllib3",
    "watchfiles",
    "werkzeug",
}

#: Their help is written by what they run, or by it too.
OTHERS_HELP = {"registry", "run", "config"}


# Help


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command_and_the_exit_codes(words: tuple[str, ...]) -> None:
    done = run(*words)

    assert (done.code, done.stderr) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name}  +[A-Z].*\.", done.stdout, re.M), name
    assert "0 fine, 1 the remote said no, 2 usage, 3 cannot" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_its_options(name: str) -> None:
    done = run(name, "--help", env={"COLUMNS": "100"})

    assert (done.code, done.stderr) == (0, "")
    assert f"gemstone {name}" in done.stdout.splitlines()[0]
    assert max(map(len, done.stdout.splitlines())) <= 100
    command = gemstone.get_command(CONTEXT, name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert set(parameter.opts) <= set(re.split(r"[\s,/]+", done.stdout))
            assert parameter.help, f"{parameter.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_does_what_the_table_says(name: str) -> None:
    """The help of all commands is written without importing one: it must not get out of step."""
    command = gemstone.get_command(CONTEXT, name)

    assert command is not None
    assert command.help, "no docstring"
    assert command.name == name


def test_another_spelling_is_the_same_command() -> None:
    assert gemstone.get_command(CONTEXT, "call-raw") is gemstone.get_command(CONTEXT, "call_raw")
    assert run("call-raw", "--help").code == 0
    assert "call-raw" not in run("--help").stdout


# Names and version


@pytest.mark.parametrize(
    "command",
    [
        [GEMSTONE],
        [GEMSTONE.with_name("gemstone-sync")],
        [sys.executable, "-m", "gemstone_sync"],
    ],
    ids=["gemstone", "gemstone-sync", "python -m"],
)
def test_each_name_is_the_command(command: list[str | Path]) -> None:
    for word, start in (
        ("--version", f"gemstone_sync {gemstone_sync.__version__}\n"),
        ("--help", "Usage: gemstone "),
    ):
        done = subprocess.run(
            [*command, word], env=environment(), capture_output=True, text=True, timeout=LIMIT
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(start)


# Wrong words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("caal",), "gemstone: no such command: caal; did you mean call?"),
        (("call-rw",), "gemstone: no such command: call-rw; did you mean call-raw?"),
        (("lisen", "a.*"), "gemstone: no such command: lisen; did you mean listen?"),
        (("qqq",), "gemstone: no such command: qqq; see gemstone --help"),
        (("--versoin",), "--versoin"),
        (("-x",), "-x"),
        (("bench",), "URL"),
        (("bench", "http://a/api"), "METHOD"),
        (("bench", "http://a/api", "m", "--clals", "1"), "--calls"),
        (("call_raw", "http://a/api", "m", "--timeuot", "1"), "--timeout"),
        (("call_raw", "http://a/api", "m", "--timeout"), "--timeout"),
        (("listen", "--cuont", "1"), "--count"),
        (("completion", "csh"), "csh"),
        (("completion", "bash", "zsh"), "zsh"),
    ],
)
def test_a_wrong_word_is_one_line(words: tuple[str, ...], told: str) -> None:
    line = line_of(run(*words), 2)

    assert line.startswith("gemstone")
    assert told in line


def test_a_wrong_word_for_machines() -> None:
    line = line_of(run("bench", "http://a/api", "m", "--clals", "1", "--json"), 2)

    assert "--calls" in json.loads(line)["error"]["message"]


# What is imported


def imported(*words: str) -> set[str]:
    """The packages that a command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gemstone_sync", *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", done.stderr, re.M)
    assert "gemstone_sync.cli.main" in names, "the pattern finds nothing"
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_nothing_heavy_is_imported_for(word: str) -> None:
    assert imported(word) & HEAVY == set()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OTHERS_HELP])
def test_nothing_heavy_is_imported_for_the_help_of(name: str) -> None:
    assert imported(name, "--help") & HEAVY == set()


def test_what_is_found_heavy_would_be_seen() -> None:
    """The check above can fail: a command at work does import."""
    source = "import gemstone_sync.cli.main, gemstone_sync; gemstone_sync.MicroService"
    done = subprocess.run(
        [sys.executable, "-c", f"{source}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert {"gevent", "flask", "werkzeug"} <= set(done.stdout.split()) & HEAVY


# Pipes


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("completion", "bash")])
def test_a_reader_who_has_gone_is_no_reason_to_complain(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [GEMSTONE, *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            timeout=LIMIT,
        )
    finally:
        os.close(writing)

    assert done.stderr == ""
    assert done.returncode == 0


# Streams that are of no use


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--help",), ("--version",), ("completion", "bash")])
def test_a_full_disk_is_one_line(words: tuple[str, ...], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [GEMSTONE, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment({"PYTHONUNBUFFERED": unbuffered}),
            text=True,
            timeout=LIMIT,
        )

    (line,) = done.stderr.splitlines()
    assert line.endswith(": cannot write: No space left on device")
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version",), 0),
        (("emit", "said_hello", "--body", "-", "--transport", "events.db"), 0),
        (("lst",), 2),
    ],
)
def test_streams_may_be_closed(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&- >&-', GEMSTONE, *words],
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
        text=True,
        timeout=LIMIT,
    )

    assert (done.returncode, done.stderr.count("\n")) == (code, int(code != 0)), done.stderr


@pytest.mark.parametrize(
    "closing", ["2>&-", "2>/dev/full", "2>&1 >&- | true; exit ${PIPESTATUS[0]}"]
)
def test_the_exit_code_tells_of_a_failure_that_nobody_can_read(closing: str) -> None:
    script = f'"$0" lst {closing}'
    done = subprocess.run(["bash", "-c", script, GEMSTONE], env=environment(), timeout=LIMIT)

    assert done.returncode == 2
