"""Programs in processes of their own, each killed at the end of its test."""

import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest

from .http import is_ready
from .waiting import LIMIT, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


def fork() -> int:
    """Fork as `os.fork` does, once the native threads of the hub's pool have ended.

    A child has none of them, and gevent may block where it cleans up what they left.
    """
    gevent.get_hub().threadpool.size = 0
    return os.fork()


def hanging_look_ups(folder: Path) -> dict[str, str]:
    """Variables with which a program's look-up of a name without a dot never ends.

    glibc reads a file of aliases then, and opening a FIFO waits until somebody writes to it.
    """
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc's look-ups can be held up")
    aliases = folder / "aliases"
    os.mkfifo(aliases)
    return {"HOSTALIASES": str(aliases)}


class Program:
    """A program that was started; it is killed, with its children, at the end of the test.

    :ivar port: where it listens: the one given, or the last it printed as a URL on stdout.
    """

    def __init__(self, command: Sequence[str], folder: Path, **options: Any) -> None:
        self.port = 0
        self._log = folder / f"log-{time.monotonic_ns()}.txt"
        self._out = self._log.with_suffix(".out")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **options.pop("environment", {})}
        with self._log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                list(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,
                **options,
            )

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    def wait_until(self, condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
        """The first true value of `condition`; fails at once when the program has ended."""

        def check() -> Any:
            value = condition()
            assert value or self.process.poll() is None, "it ended"
            return value

        try:
            return wait_until(check, what, limit)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}\n{self.stderr}") from None

    def wait_for_ports(self, count: int = 1) -> list[int]:
        """The ports of the URLs that it prints, once it has printed that many."""

        def printed() -> list[int]:
            # Two processes may print at once, one's line into the other's.
            ports = [int(n) for n in re.findall(r"http://[^/\s]+:(\d+)(?=\S*\n)", self.stdout)]
            return ports if len(ports) >= count else []

        ports: list[int] = self.wait_until(printed, f"{count} URLs on stdout")
        self.port = ports[-1]
        return ports

    def wait_until_ready(self, limit: float = LIMIT) -> int:
        """Wait for ``/health/ready``; returns the port."""
        if not self.port:
            self.wait_for_ports()
        self.wait_until(lambda: is_ready(self.port), "/health/ready", limit)
        return self.port

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, limit: float = LIMIT) -> int:
        """The exit code."""
        try:
            return self.process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {limit} s\n{self.stderr}") from None

    def terminate(self, limit: float = LIMIT) -> int:
        """SIGTERM; the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait(limit)

    def insist(self) -> int:
        """SIGTERM again and again; the exit code as a shell tells it."""

        def told() -> bool:
            self.send_signal(signal.SIGTERM)
            return self.process.poll() is not None

        wait_until(told, "the end")
        code = self.wait()
        return code if code >= 0 else 128 - code  # one came while the interpreter ended

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def program(source: str | Path, folder: Path, *arguments: str, **options: Any) -> Iterator[Program]:
    """Run a Python program: a file, or its text, which is written to ``folder/program.py``."""
    if isinstance(source, str):
        path, new = folder / "program.py", folder / "program.new"
        new.write_text(source)
        new.replace(path)  # whole: another one may just be reading it
    else:
        path = source
    started = Program([sys.executable, str(path), *arguments], folder, **options)
    try:
        yield started
    finally:
        started.kill()


@contextlib.contextmanager
def gunicorn(
    application: str,
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run ``gunicorn -k gevent`` in `folder`, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        # Handed over rather than found free, so that nobody else can take the port.
        command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--no-control-socket"]
        command += [*arguments, "-b", f"fd://{listener.fileno()}", application]
        options = {"environment": environment or {}, "pass_fds": [listener.fileno()]}
        started = Program(command, folder, **options)
        started.port = listener.getsockname()[1]
    try:
        yield started
    finally:
        started.kill()


def children_of(pid: int) -> list[int]:
    """List the processes below a process, at any depth."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in found] + [
        below for child in found for below in children_of(int(child))
    ]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not asked for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
