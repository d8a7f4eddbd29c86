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

    :param env: environment variables, beside those of the tests; no ``GEMSTONE_...`` is inherited.
    """
    own = environment(env)
    encoding = own.get("PYTHONIOENCODING", "utf-8")
    with _as_a_process(own, cwd), contextlib.ExitStack() as files:
        streams = [
            io.TextIOWrapper(files.enter_context(tempfile.TemporaryFile()), encoding)
            for _ in range(3)
        ]
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.stdin.write(input)
        sys.stdin.seek(0)
        code = _exit_code(words)
        for stream in streams:
            stream.seek(0)
        return Done(code, sys.stdout.read(), sys.stderr.read())


def shown(*words: str, env: Mapping[str, str] | None = None) -> str:
    """What a command writes to a terminal, run in this process."""
    own = environment({"NO_COLOR": "", **(env or {})})
    ours, its = os.openpty()
    written = b""
    with _as_a_process(own), open(ours, "rb", 0) as screen:
        with open(its, "w", encoding=own.get("PYTHONIOENCODING", "utf-8")) as sys.stdout:
            sys.stderr = sys.stdout
            _exit_code(words)
        with contextlib.suppress(OSError):  # on Linux, EIO says that the other side is closed
            while True:
                written += screen.read(65536)
    return written.decode()


def _exit_code(words: tuple[str | bytes | Path, ...]) -> int:
    with pytest.raises(SystemExit) as ended:
        main([os.fsdecode(word) for word in words])
    return int(ended.value.code or 0)


@contextlib.contextmanager
def _as_a_process(own: Mapping[str, str], cwd: Path | None = None) -> Iterator[None]:
    """Put back what a command may change in its process: modules that it imported, too."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    modules = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(own):
            patch.delenv(name)
        for name, value in own.items():
            patch.setenv(name, value)
        patch.chdir(Path.cwd() if cwd is None else cwd)
        patch.setattr(sys, "argv", ["gemstone"])
        patch.setattr(sys, "path", [*sys.path])
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, getattr(sys, name))
        yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    for name in set(sys.modules) - modules:
        if cwd and str(getattr(sys.modules[name], "__file__", "")).startswith(str(cwd)):
            del sys.modules[name]


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
