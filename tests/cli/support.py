"""The ``gemstone`` command, run in this process or as the executable that a user runs."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from gemstone_sync.cli.main import main
from tests.support.waiting import LIMIT

GEMSTONE = Path(sys.executable).with_name("gemstone")


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


def run(
    *words: str | bytes | Path,
    input: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Done:
    """Run ``gemstone`` to its end in this process: a process of its own takes a second.

    It has streams that are no terminal, and is told by ``PYTHONIOENCODING`` how to write. What a
    command imports by its name, a service for example, needs `run_process`.
    """
    own = environment(env)
    with _as_a_process(own, cwd), contextlib.ExitStack() as files:
        streams = [
            io.TextIOWrapper(
                files.enter_context(tempfile.TemporaryFile()), own.get("PYTHONIOENCODING", "utf-8")
            )
            for _ in range(3)
        ]
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.stdin.write(input)
        sys.stdin.seek(0)
        with pytest.raises(SystemExit) as ended:
            main([os.fsdecode(word) for word in words])
        written = []
        for stream in streams[1:]:
            stream.seek(0)
            written.append(stream.read())
    return Done(ended.value.code or 0, *written)  # type: ignore[arg-type]


@contextlib.contextmanager
def _as_a_process(own: Mapping[str, str], cwd: Path | None) -> Iterator[None]:
    """Put back what a command may change in its process."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(own):
            patch.delenv(name)
        for name, value in own.items():
            patch.setenv(name, value)
        patch.chdir(Path.cwd() if cwd is None else cwd)
        patch.setattr(sys, "argv", ["gemstone"])
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, getattr(sys, name))
        yield
    for number, handler in signals.items():
        signal.signal(number, handler)


def run_process(
    *words: str | bytes | Path,
    input: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Done:
    """Run the installed ``gemstone`` to its end; stdout and stderr are pipes.

    :param env: environment variables, beside those of the tests; no ``GEMSTONE_...`` is inherited.
    """
    return run_program(GEMSTONE, *words, input=input, env=env, cwd=cwd)


def run_program(
    *command: str | bytes | Path,
    input: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = LIMIT,
) -> Done:
    """Run any program, as `run_process` does."""
    done = subprocess.run(
        command,
        input=input,
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The tests' environment, without what would set an option of the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GEMSTONE_")}
    return {**kept, **(own or {})}


def line_of(done: Done, code: int) -> str:
    """The one line of a command that failed with `code`, and wrote nothing else."""
    assert (done.code, done.stdout) == (code, ""), done
    (line,) = done.stderr.splitlines()
    return line
