"""Run a service again after each change of a file, on watchfiles: ``gemstone run --reload``.

A parent watches files, and a child serves. The parent imports nothing of the user's and is not
patched, so whatever is wrong with a file, it is there to start the service again when it is mended.
watchfiles' own `run_process` is not used: it does not tell how a child ended, and kills a parent of
workers before these have ended.

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

import click

from ..exit_codes import USAGE
from .options import require_extra

__all__ = ["join", "run_again_and_again"]

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


def run_again_and_again(target: str, words: Sequence[str]) -> int:
    """Serve `target` in a child process, again after each change, until SIGTERM or Ctrl-C.

    :param words: the options of the service.
    :returns: the exit code: 0; that of a child that ended with a usage error before any change.
    :raises click.UsageError: when watchfiles is not installed, or the files cannot be watched.
    """
    signals = _Signals()
    changes = _watch(target, words, signals)
    next(changes, None)  # watched from here on: a change while the service starts counts too
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: signals.append(received))
    with socket.socket() as keeper:
        # A free port that nobody else gets, for a service that wants any: the same after each
        # change. The service can bind it too, because both set SO_REUSEADDR and this one does not
        # listen.
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("", 0))
        child = _Child([target, *words], keeper.getsockname()[1])
        changed_before = False
        try:
            for changed in changes:
                if changed:
                    names = ", ".join(map(os.path.relpath, changed[:3]))
                    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                    _say(f"{names}{more} changed, the service starts again")
                    changed_before = True
                    child.start()
                elif (code := child.ended()) is not None:
                    if code == 0 or (code == USAGE and not changed_before):
                        return code  # stopped, or a wrong command line, which no change mends
                    how = f"exit code {code}" if code > 0 else f"signal {-code}"
                    _say(f"the service ended with {how}; it starts again when a file changes")
        finally:
            child.stop(gently=signals == [signal.SIGINT])
    return 0


class _Signals(list[int]):
    """The signals received; what watchfiles asks to know when to end."""

    def is_set(self) -> bool:
        return bool(self)


class _Child:
    """The process that serves, started as often as needed."""

    def __init__(self, words: Sequence[str], port: int) -> None:
        # -B: Python takes a compiled file for that of a source file of the same size and second, so
        # that a second change within the second would not count.
        self._command = [sys.executable, "-B", "-m", "gemstone_sync", "run", *words]
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe, _ = os.pipe()  # the other end is closed when this process is gone
        self._environment = {**os.environ, _VARIABLE: f"{self._pipe} {port}"}
        self.start()

    def start(self) -> None:
        """Start it in the place of the one that runs."""
        self.stop()
        self._process = subprocess.Popen(
            self._command, env=self._environment, pass_fds=[self._pipe]
        )

    def ended(self) -> int | None:
        """Give the exit code when it has ended by itself, once."""
        if self._process is None or self._process.poll() is None:
            return None
        code, self._process = self._process.returncode, None
        return code

    def stop(self, *, gently: bool = False) -> None:
        """Wait for its end, at most about five seconds.

        :param gently: it knows already that it has to end.
        """
        process, self._process = self._process, None
        for number, seconds in ((0, _AFTER_CTRL_C), *_STOPPING) if gently else _STOPPING:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process is not None:
                    process.send_signal(number)  # 0 is none
                    process.wait(seconds)
                return


def _say(text: str) -> None:
    click.echo(f"gemstone run: {text}", err=True)


# What is watched


def _stamp(file: str) -> tuple[int, ...]:
    """Give what differs when a file was written, replaced, or removed."""
    try:
        found = os.stat(file)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _watch(target: str, words: Sequence[str], signals: _Signals) -> Iterator[list[str]]:
    """Yield the paths that have changed since the last yield; an empty list every now and then.

    The working directory and the target's folder are watched, with all below, for the names that
    matter. Files given by ``--config FILE`` matter whatever their names. They are compared at each
    yield instead of being watched: their folder may be large, and a link may be replaced by
    another. Changes between two yields are not lost.
    """
    require_extra("reload", "watchfiles", "watchfiles")
    import watchfiles

    folders, file = [str(Path.cwd())], Path(target.partition(":")[0]).resolve()
    if file.is_file() and not file.is_relative_to(folders[0]):
        folders.append(str(file.parent))
    given = [file for word, file in itertools.pairwise(words) if word == "--config"]
    given += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    files = [os.path.abspath(file) for file in given]

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
        raise click.UsageError(f"cannot watch {', '.join(folders)}: {error}") from None


# The child


def join() -> int | None:
    """End with the parent, in a child of `run_again_and_again`; None in any other process.

    Called when the process is patched, or not to be.

    :returns: the port for a service that wants any.
    """
    told = os.environ.pop(_VARIABLE, None)
    if told is None:
        return None
    pipe, port = map(int, told.split())
    os.set_inheritable(pipe, False)
    from gevent import monkey

    sleep = monkey.get_original("time", "sleep")

    def leave_with_parent() -> None:
        while os.read(pipe, 1):
            pass
        for number, seconds in _STOPPING:
            os.kill(os.getpid(), number)
            sleep(seconds)

    # A thread of its own, and no greenlet: a module that is being imported, or a parent of workers,
    # runs no event loop. Signals are not for it: the parent of workers takes them one by one.
    # Workers are forked beside this thread, which holds no lock: it waits in read().
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        monkey.get_original("_thread", "start_new_thread")(leave_with_parent, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return port
