"""What stop signals do with 50 calls in flight: python -m tests.integration.signals_table

A cell tells how many calls were answered, whether every process that had them has run its stop
hook, and the exit code: after gunicorn's SIGHUP, which starts new workers, that of a SIGTERM.
"""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import gevent

import gemstone_sync.patch  # noqa: F401  # the cells wait for processes at the same time
from tests.support.http import call_message, refuses_connections, result_of
from tests.support.waiting import gather, wait_until

from .processes import OURS, connections_to, start

CALLS = 50

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Under what, and with how many workers.
SERVERS = [(under, workers) for under in (None, OURS, "gevent") for workers in (1, 2)]

#: Who is told, and how often: half a second apart, which is no repetition by a supervisor.
TARGETS = [("parent", 1), ("group", 1), ("parent", 2), ("group", 2)]


class Outcome(NamedTuple):
    answered: int
    hooks: bool
    code: int

    def __str__(self) -> str:
        hooks = "hooks" if self.hooks else "no hooks"
        return f"{self.answered}/{CALLS} {hooks} {self.code}"


def promised(under: str | None, number: int, target: str, times: int) -> Outcome:
    """What README says."""
    if times == 2 and under is None and number != signal.SIGHUP:
        return Outcome(0, False, 128 + number)
    if times == 2 and under and number == signal.SIGINT and target == "group":
        return Outcome(0, True, 0)
    return Outcome(CALLS, True, 0)


def observe(
    folder: Path, under: str | None, workers: int, number: int, target: str, times: int
) -> Outcome:
    with (
        # gunicorn waits for so long for a worker to which a signal was lost while it booted.
        start(folder, "--graceful-timeout", "8", under=under, workers=workers) as service,
        connections_to(service.port, CALLS) as busy,
    ):
        if workers > 1:
            service.wait_for_workers(workers)
        served = service.pids("started")
        for connection in busy:
            connection.send(call_message("hold"))
        service.wait_for_notes("holding", CALLS)
        tell = {"parent": os.kill, "group": os.killpg}[target]
        tell(service.parent, number)
        if times == 2:
            if not (under and number == signal.SIGHUP):
                # Heard: a process that gets both at once takes them for one.
                wait_until(lambda: refuses_connections(service.port), "the end of listening")
            gevent.sleep(0.5)
            tell(service.parent, number)
        # Calls that should be cut off must not end before that, however late it comes.
        if promised(under, number, target, times).answered == 0:
            with contextlib.suppress(AssertionError):
                service.program.wait()
        gevent.sleep(0.3)
        service.release()

        def is_answered(connection) -> bool:
            try:
                return result_of(connection.read_reply()) in served
            except (OSError, AssertionError):
                return False

        answered = sum(gather([lambda c=connection: is_answered(c) for connection in busy]))
        if under and number == signal.SIGHUP:

            def are_replaced() -> bool:
                new = service.workers()
                return len(new) == workers and new <= service.pids("started") - served

            service.program.wait_until(are_replaced, "new workers")
            code = service.program.terminate()
        else:
            code = service.program.wait()
        return Outcome(answered, served <= service.pids("stopped"), code)


def row(folder: Path, under: str | None, workers: int, number: int) -> Iterable[Outcome]:
    """A row's cells, each by a service of its own, two at once."""
    cells = [
        lambda target=target, times=times: observe(
            folder / f"{target}{times}", under, workers, number, target, times
        )
        for target, times in TARGETS
    ]
    return [*gather(cells[:2]), *gather(cells[2:])]


def lines() -> Iterator[str]:
    heads = [f"{target}, twice" if times == 2 else target for target, times in TARGETS]
    yield "".join(f"{text:26}" for text in ["", *heads])
    for under, workers in SERVERS:
        for number in SIGNALS:
            name = {None: "start()", OURS: "GunicornWorker", "gevent": "-k gevent"}[under]
            with tempfile.TemporaryDirectory() as folder:
                outcomes = list(row(Path(folder), under, workers, number))
            cells = [
                f"{outcome}{'' if outcome == promised(under, number, *target) else ' !'}"
                for outcome, target in zip(outcomes, TARGETS, strict=True)
            ]
            first = f"{name} {workers} {number.name}"
            yield "".join(f"{text:26}" for text in [first, *cells]).rstrip()


if __name__ == "__main__":
    began = time.monotonic()
    for line in lines():
        print(line, flush=True)
    print(f"{time.monotonic() - began:.0f} s; ! marks what is not as promised")
