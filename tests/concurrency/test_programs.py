"""Programs that are started in any thread, and what is told of their end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPoolExecutor

from ..support.waiting import gather


def _exits(code: int) -> list[str]:
    return ["sh", "-c", f"exit {code}"]


def _check_output() -> Any:
    return subprocess.check_output(["echo", "hi"], text=True)


def _popen() -> Any:
    with os.popen("echo hi; exit 2") as program:
        return program.read()


def _system() -> Any:
    return os.system("exit 3"), os.system("kill -9 $$")


def _codes() -> Any:
    return [subprocess.run(_exits(code)).returncode for code in range(5)]


def _killed() -> Any:
    return subprocess.run(["sh", "-c", "kill -9 $$"]).returncode


def _too_slow() -> Any:
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "60"], timeout=0.05)
        return "it waited"
    return "expired"


def _missing() -> Any:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["/no/such/program"])
    return "missing"


def _talk() -> Any:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        return len(program.communicate(b"x" * 200_000)[0])


def _forked() -> Any:
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    return os.waitpid(pid, 0)[1] >> 8


def _spawned() -> Any:
    """As multiprocessing and joblib do it, past `subprocess`."""
    pid = util.spawnv_passfds(b"/bin/sh", [word.encode() for word in _exits(6)], [])
    return os.waitpid(pid, 0)[1] >> 8


def _posix_spawned() -> Any:
    pid = os.posix_spawnp("sh", _exits(4), {"PATH": os.defpath})
    return os.waitpid(pid, 0)[1] >> 8


def _asyncio() -> Any:
    async def run() -> Any:
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_shell("echo hi; exit 3", stdout=pipe)
        output, _ = await program.communicate()
        return output, program.returncode

    return asyncio.run(run())


STARTS: dict[Callable[[], Any], Any] = {
    _check_output: "hi\n",
    _popen: "hi\n",
    _system: (3 << 8, signal.SIGKILL),
    _codes: [0, 1, 2, 3, 4],
    _killed: -signal.SIGKILL,
    _too_slow: "expired",
    _missing: "missing",
    _talk: 200_000,
    _forked: 5,
    _spawned: 6,
    _posix_spawned: 4,
    _asyncio: (b"hi\n", 3),
}

#: Python 3.12 says so of each fork in a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__.strip("_"))
def test_programs_in_native_threads_and_greenlets_at_once(start: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(3) as threads:
        ways = [start, lambda: threads.submit(start).result()] * 3
        assert gather(ways) == [STARTS[start]] * len(ways)


def test_what_a_native_thread_closes_is_closed() -> None:
    """Not left to its loop: others are given the number, and the thread may end before."""

    def close() -> Any:
        gevent.sleep(0)  # it has a loop from here on
        files = os.pipe()
        for file in files:
            os.close(file)
        return files

    def look() -> Any:
        with contextlib.suppress(OSError):
            return [os.fstat(file) for file in close()]

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(look).result() is None


def _spawn_and_wait(command: str) -> Any:
    words = [word.encode() for word in ("sh", "-c", command)]
    return os.waitpid(util.spawnv_passfds(b"/bin/sh", words, []), 0)


@pytest.mark.parametrize("wait", [os.system, _spawn_and_wait], ids=["system", "waitpid"])
def test_other_greenlets_run_while_a_program_does(wait: Callable[[str], Any]) -> None:
    """The program ends when another greenlet closes what it reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipe")
        os.mkfifo(path)
        waiting = gevent.spawn(wait, f"cat {path}")
        gevent.sleep(0.05)
        assert not waiting.ready()
        path.write_text("")
        waiting.get(timeout=20)


@pytest.mark.skipif(sys.platform == "darwin", reason="/bin/sh says it in other words")
def test_signals_in_native_threads_are_refused_by_python() -> None:
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="only works in main"):
        threads.submit(signal.signal, signal.SIGUSR1, signal.SIG_DFL).result()
