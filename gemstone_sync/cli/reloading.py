"""``gemstone run --reload``: a parent that watches files, and a child that serves.

The parent imports nothing of the user's and is not patched, so whatever is wrong with a file, it is
there to start the service again when the file is mended.

The child holds the reading end of a pipe whose other end is the parent's: when the parent is gone,
however it went, the pipe ends, and so does the child.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .faults import USAGE, CommandFailed

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["Reloader", "join", "run"]

#: What the parent tells the child: the number of the pipe, and the port for ``--port random``.
_VARIABLE = "_GEMSTONE_RELOADER"

#: Not .json: programs keep what they write in such files.
_SUFFIXES = (".py", ".toml", ".yaml", ".yml", ".ini", ".cfg")

#: How a process is stopped: the signal, and the seconds that it has to end. The second SIGTERM says
#: to a service, or to a parent of workers, that calls in flight are to be cut off now.
_STOPPING = ((signal.SIGTERM, 4.0), (signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0))

#: Seconds for the child to end by itself after Ctrl-C, which a terminal sends to it too: a signal
#: on top of that would be its second.
_AFTER_CTRL_C = 1.0

#: Milliseconds between two looks at the child.
_LOOK = 200


# The parent


def run(target: str, words: Sequence[str]) -> int:
    """Serve `target` in a child process, again after each change, until SIGTERM or Ctrl-C.

    :param words: the options of the service.
    :returns: the exit code: 0; that of a child that ended with a usage error before any change.
    :raises CommandFailed: when watchfiles is not installed, or the files cannot be watched.
    """
    folders, files = _folders(target), _files(words)
    signals = _Signals()
    with signals, _kept_port() as port, _Child([target, *words], port) as child:
        changes = _watch(folders, files, signals)
        next(changes, None)  # watched from here on: a change while the service starts counts too
        child.start()
        code = _serve(child, changes)
        child.stop(gently=signals.received == [signal.SIGINT])
    return code


def _serve(child: _Child, changes: Iterator[list[str]]) -> int:
    """Start the child again after each change, until `changes` end or there is no reason to go on.

    :returns: the exit code.
    """
    changed_before = False
    for changed in changes:
        if changed:
            _say(f"{_names(changed)} changed, the service starts again")
            changed_before = True
            child.stop()
            child.start()
        elif (code := child.ended()) is not None:
            if code == 0 or (code == USAGE and not changed_before):
                return code  # it was stopped, or the command line is wrong: no change mends that
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            _say(f"the service ended with {how}; it starts again when a file changes")
    return 0


class _Signals:
    """Collects SIGTERM and SIGINT in place of their default effects."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._before: dict[signal.Signals, Any] = {}

    def is_set(self) -> bool:
        """What watchfiles asks, to know when to end."""
        return bool(self.received)

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._take)

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: object) -> None:
        self.received.append(number)


class _Child:
    """The process that serves, started as often as needed."""

    def __init__(self, words: Sequence[str], port: int) -> None:
        # -B: Python takes a compiled file for that of a source file of the same size and second, so
        # that a second change within the second would not count.
        self._command = [sys.executable, "-B", "-m", "gemstone_sync", "run", *words]
        self._process: subprocess.Popen[bytes] | None = None
        self._reading, self._writing = os.pipe()
        self._environment = {**os.environ, _VARIABLE: f"{self._reading} {port}"}

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        os.close(self._reading)
        os.close(self._writing)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, pass_fds=[self._reading]
        )

    def ended(self) -> int | None:
        """The exit code when it has ended by itself; told once."""
        if self._process is None or self._process.poll() is None:
            return None
        code, self._process = self._process.returncode, None
        return code

    def stop(self, *, gently: bool = False) -> None:
        """Wait for its end, at most about five seconds.

        :param gently: it knows already that it has to end.
        """
        process, self._process = self._process, None
        if process is None or (gently and _has_ended(process, _AFTER_CTRL_C)):
            return
        for number, seconds in _STOPPING:
            process.send_signal(number)
            if _has_ended(process, seconds):
                return


def _has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextlib.contextmanager
def _kept_port() -> Iterator[int]:
    """A free port that nobody else gets, for a service that wants any: the same after each change.

    A socket that is bound and does not listen keeps it. The service can bind it beside that one,
    because both set SO_REUSEADDR.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("", 0))
        yield keeper.getsockname()[1]


def _say(text: str) -> None:
    click.echo(f"gemstone run: {text}", err=True)


def _names(paths: Sequence[str]) -> str:
    shown = [os.path.relpath(path) for path in sorted(paths)]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


# What is watched


def _folders(target: str) -> list[str]:
    """The working directory, and that of the target when it lies elsewhere."""
    here = Path.cwd()
    name = target.partition(":")[0]
    file = Path(name).resolve()
    inside = not file.is_file() or file.is_relative_to(here)
    return [str(here)] if inside else [str(here), str(file.parent)]


def _files(words: Sequence[str]) -> list[str]:
    """The files that are given by ``--config FILE``, wherever they are."""
    given = [file for word, file in itertools.pairwise(words) if word == "--config"]
    given += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    return [os.path.abspath(file) for file in given]


def _stamp(file: str) -> tuple[int, ...]:
    """What differs when a file was written, replaced, or removed."""
    try:
        found = os.stat(file)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _watch(folders: list[str], files: list[str], signals: _Signals) -> Iterator[list[str]]:
    """The paths that changed since the last time, again and again; none when time has passed.

    :param folders: all below them is watched, and counts by its name.
    :param files: these count by whatever name. They are looked at each time, rather than watched:
        the folder of one may be large, and a link may be put in the place of another.

    What changes between two times is not lost: one watcher collects it all the while.
    """
    try:
        import watchfiles
    except ImportError:
        raise CommandFailed(
            "--reload needs watchfiles: pip install 'gemstone_sync[reload]'", USAGE
        ) from None

    class Wanted(watchfiles.DefaultFilter):
        # site-packages: in a virtual environment of whatever name.
        ignore_dirs = (*watchfiles.DefaultFilter.ignore_dirs, "site-packages", ".nox", "venv")

        def __call__(self, change: watchfiles.Change, path: str) -> bool:
            counts = path.endswith(_SUFFIXES) or os.path.basename(path) == ".env"
            if not counts or path in files:
                return False
            folder = next((f for f in folders if path.startswith(f)), folders[0])
            # Relative: the folders above may be called as they like.
            return super().__call__(change, os.path.relpath(path, folder))

    found = watchfiles.watch(
        *folders,
        watch_filter=Wanted(),
        stop_event=signals,
        rust_timeout=_LOOK,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    stamps = {file: _stamp(file) for file in files}
    try:
        for changes in found:
            before, stamps = stamps, {file: _stamp(file) for file in files}
            rewritten = {file for file in files if stamps[file] != before[file]}
            yield sorted({path for _, path in changes} | rewritten)
    except (OSError, RuntimeError) as error:  # the latter: more folders than the system allows
        raise CommandFailed(f"cannot watch {', '.join(folders)}: {error}", USAGE) from None


# The child


class Reloader(NamedTuple):
    """What a service that runs with ``--reload`` is told.

    :ivar port: for a service whose port is 0.
    """

    port: int

    def adapt(self, service: MicroService) -> None:
        """Keep the port, and end at once when nothing runs."""
        if service.port == 0:
            service.port = self.port
        service.drain_grace = 0.0


def join() -> Reloader | None:
    """Called in a child of `run`: end with the parent. None in any other process.

    Called when the process is patched, or not to be.
    """
    told = os.environ.pop(_VARIABLE, None)
    if told is None:
        return None
    pipe, port = map(int, told.split())
    os.set_inheritable(pipe, False)
    _leave_with(pipe)
    return Reloader(port)


def _leave_with(pipe: int) -> None:
    """End this process when the other end of the pipe is closed.

    A thread of its own, and no greenlet: a module that is being imported, or a parent of workers,
    runs no event loop. Signals are not for it: the parent of workers takes them one by one.
    """
    from gevent import monkey

    sleep = monkey.get_original("time", "sleep")

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        for number, seconds in _STOPPING:
            os.kill(os.getpid(), number)
            sleep(seconds)

    # Workers are forked beside this thread, which holds no lock: it waits in read().
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        monkey.get_original("_thread", "start_new_thread")(watch, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
