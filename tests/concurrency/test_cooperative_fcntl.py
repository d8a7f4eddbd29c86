"""Locks of files: who waits for one lets other greenlets run."""

import fcntl
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPoolExecutor

from ..support.waiting import gather


def test_greenlets_wait_for_each_other(tmp_path: Path) -> None:
    inside: list[int] = []

    def hold(number: int) -> int:
        with (tmp_path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            inside.append(number)
            gevent.sleep(0.01)
            assert inside == [number]
            inside.clear()
        return number

    assert gather([functools.partial(hold, number) for number in range(3)]) == [0, 1, 2]


#: Holds a lock until it hears something.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.{name}(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["flock", "lockf"])
def test_other_greenlets_run_while_another_process_holds_it(tmp_path: Path, name: str) -> None:
    lock: Any = getattr(fcntl, name)
    command = [sys.executable, "-c", HOLDER.format(name=name), str(tmp_path / "lock")]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder,
        (tmp_path / "lock").open("w") as file,
    ):
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waiting = gevent.spawn(lock, file, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as threads:
            natively = threads.submit(lock, file, fcntl.LOCK_EX)
            gevent.sleep(0.05)
            assert not waiting.ready()
            assert not natively.done()
            holder.stdin.close()
            waiting.get(timeout=20)
            natively.result(timeout=20)
        lock(file, fcntl.LOCK_UN)
