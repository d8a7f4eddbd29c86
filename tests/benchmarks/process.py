"""Child processes: started on chosen cores, their CPU read exactly, none left behind. Linux only.

Each child leads a session of its own (Ctrl-C reaches the benchmark alone, which then stops them)
and is stopped even when the benchmark is killed (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
#: Seconds from SIGTERM to SIGKILL.
STOP_LIMIT = 5.0

_libc = ctypes.CDLL(None, use_errno=True)


class ServerFault(Exception):
    """A server did not start, or died."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(
    command: list[str],
    *,
    cores: Iterable[int],
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
    output: IO[bytes] | None = None,
    pipes: bool = False,
) -> subprocess.Popen[str]:
    """Start a command on the given cores; its children inherit them.

    :param output: where its stdout and stderr go; None: nowhere
    :param pipes: talk to it over stdin and stdout instead (text, by lines)
    """
    core_set = set(cores)

    def prepare() -> None:
        os.sched_setaffinity(0, core_set)
        # SIGTERM, so that a master process still stops its workers
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    sink = output if output is not None else subprocess.DEVNULL
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
        stdout=subprocess.PIPE if pipes else sink,
        stderr=sink,
        env=environment,
        cwd=folder,
        text=True,
        bufsize=1,
        start_new_session=True,
        preexec_fn=prepare,
    )


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
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return members


def cpu_seconds(pid: int) -> float:
    """Return a process's user + system CPU, all its threads, ended ones too.

    From its CPU clock (clock_getcpuclockid(3): nanoseconds), since /proc/PID/stat counts in ticks
    of 10 ms, which is 1,000 calls of the fastest server.
    """
    return time.clock_gettime((~pid << 3) | 2)


def tree_cpu(pids: Iterable[int]) -> float:
    """Return the CPU of several processes, added up.

    :raises ServerFault: one of them has ended, so its CPU can no longer be read
    """
    try:
        return sum(cpu_seconds(pid) for pid in pids)
    except OSError:
        raise ServerFault("a process of the server ended while it was measured") from None


def stop(*children: subprocess.Popen[str]) -> None:
    """SIGTERM to all, then wait, then SIGKILL to whatever is left of their process trees."""
    left = {child.pid: tree(child.pid) for child in children}
    for child in children:
        if child.poll() is None:
            child.terminate()
    end = time.monotonic() + STOP_LIMIT
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, end - time.monotonic()))
        # Only what still belongs to the child's session: a number in `left` may be reused by now.
        for pid in tree(child.pid) & left[child.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
