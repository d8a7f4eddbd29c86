"""Child processes: started on chosen cores, their CPU read exactly, none left behind. Linux only.

Each child leads a session of its own (Ctrl-C reaches the benchmark alone, which then stops them)
and is stopped even when the benchmark is killed (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from loadgen import Fault
from venvs import Subject

RUNNER = Path(__file__).with_name("runner.py")
PR_SET_PDEATHSIG = 1
#: Seconds from SIGTERM to SIGKILL.
STOP_LIMIT = 5.0

_libc = ctypes.CDLL(None, use_errno=True)


def tree(root: int) -> set[int]:
    """Return the live processes of a child's session, and the descendants of any of them."""
    parents: dict[int, int] = {}
    members: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # gone in between
        state, parent, _group, session = stat.rpartition(")")[2].split()[:4]
        if state == "Z":
            continue
        pid = int(entry.name)
        parents[pid] = int(parent)
        if int(session) == root or pid == root:
            members.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return members


def cpu_seconds(pid: int) -> float:
    """Return a process's user + system CPU, all its threads, ended ones too.

    From its CPU clock (clock_getcpuclockid(3): nanoseconds), since /proc/PID/stat counts in ticks
    of 10 ms, which is 1,000 calls of the fastest server.

    :raises Fault: it has ended, so its CPU can no longer be read
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        raise Fault("a process ended while it was measured") from None


def stop(child: subprocess.Popen[str]) -> None:
    """SIGTERM, then wait, then SIGKILL to whatever is left of its process tree."""
    left = tree(child.pid)
    if child.poll() is None:
        child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_LIMIT)
    # Only what still belongs to the child's session: a number in `left` may be reused by now.
    for pid in tree(child.pid) & left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


class Child:
    """A process on the given cores, which its children inherit; within a ``with``.

    :param pipes: talk to it by lines of JSON over stdin and stdout
    """

    def __init__(
        self,
        command: list[str],
        cores: Iterable[int],
        environment: dict[str, str],
        folder: Path,
        pipes: bool = False,
    ) -> None:
        self._command, self._cores = command, set(cores)
        self._environment, self._folder, self._pipes = environment, folder, pipes

    def __enter__(self) -> Any:
        def prepare() -> None:
            os.sched_setaffinity(0, self._cores)
            # SIGTERM, so that a master process still stops its workers
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        self._output: IO[bytes] = TemporaryFile()
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE if self._pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if self._pipes else self._output,
            stderr=self._output,
            env=self._environment,
            cwd=self._folder,
            text=True,
            bufsize=1,
            start_new_session=True,
            preexec_fn=prepare,
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        stop(self._child)
        self._output.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_for(self, what: str, condition: Callable[[], Any], limit: float = 30.0) -> Any:
        """The first true value of `condition`, whose OSErrors and Faults are not yet an answer.

        :raises Fault: it ended, or waited too long; with the tail of its output
        """
        end, problem = time.monotonic() + limit, ""
        while time.monotonic() < end:
            if (code := self._child.poll()) is not None:
                raise Fault(f"ended with exit code {code}: {self.tail()}")
            try:
                if value := condition():
                    return value
            except (OSError, Fault) as fault:
                problem = f" ({fault})"
            time.sleep(0.05)
        raise Fault(f"waited {limit:.0f} s for {what}{problem}: {self.tail()}")

    def tail(self) -> str:
        """Return the end of what it printed, as one line."""
        self._output.seek(0)
        printed = self._output.read().decode(errors="replace")
        lines = [line.strip() for line in printed.splitlines() if line.strip(" ^~")]
        return " | ".join(lines)[-300:] or "(printed nothing)"

    def cpu_clock(self) -> Callable[[], float]:
        """Return a function that reads the CPU of the processes that it has now."""
        pids = tree(self.pid)
        return lambda: sum(map(cpu_seconds, pids))

    def say(self, message: object) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{message}\n")
            self._child.stdin.flush()
        except OSError:
            raise Fault(f"its process ended: {self.tail()}") from None

    def hear(self, limit: float = 180.0) -> dict[str, Any]:
        """Wait for the next line that it says.

        :raises Fault: it failed, ended or hangs
        """
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], limit)
        line = self._child.stdout.readline() if ready else ""
        if not line:
            raise Fault("its process ended" if ready else f"no end within {limit:.0f} s")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Fault(answer["error"])
        return answer


@dataclass(frozen=True)
class Peer(Subject):
    """What runs in a process of its own, by runner.py.

    :param module: its file in the folder of its kind
    :param patched: by what its process is: gevent, eventlet, or nothing
    """

    module: str
    patched: str = field(default="", kw_only=True)


class Runner(Child):
    """The running process of a peer, which does one job after the other."""

    def __init__(self, peer: Peer, folder: Path, cores: Iterable[int]) -> None:
        patched = [f"--{peer.patched}"] if peer.patched else []
        command = [peer.python(), str(RUNNER), peer.module, *patched]
        super().__init__(command, cores, peer.environment(), folder, pipes=True)

    def begin(self, function: str, job: dict[str, Any]) -> None:
        self.say(json.dumps({"function": function, **job}))

    def run(self, function: str, job: dict[str, Any]) -> dict[str, Any]:
        """Run a function of the peer to its end; what it returned.

        :raises Fault: it failed, ended or hangs
        """
        self.begin(function, job)
        return self.hear()
