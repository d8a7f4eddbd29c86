"""Measuring: running servers, the load generator's handle, and the interleaved rounds."""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

import loadgen
import process
from servers import PEERS, Server

START_LIMIT = 30.0
#: Seconds for the calls of one phase of one round.
PHASE_LIMIT = 60.0
CONNECTIONS = 32
BATCH = 100

SINGLE_CALL = {"jsonrpc": "2.0", "method": "add", "params": {"a": 1, "b": 2}, "id": 1}
BURN_CALL = {"jsonrpc": "2.0", "method": "burn", "id": 1}


@dataclass(frozen=True)
class Phase:
    """What one phase of a round asks for; `items` of a batch, 0 for single calls."""

    name: str
    body: bytes
    connections: int
    calls: int
    items: int = 0


@dataclass(frozen=True)
class Sample:
    """One phase of one round: server CPU per item (µs), items/s, latency of a call (µs)."""

    cpu: float
    rate: float
    p50: float
    p99: float


@dataclass
class Measured:
    """All samples of one server by phase; `fault` tells why it has none, or no more."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    fault: str | None = None

    def values(self, phase: str, quantity: str) -> list[float]:
        return [getattr(sample, quantity) for sample in self.samples.get(phase, [])]

    def median(self, phase: str, quantity: str) -> float | None:
        values = self.values(phase, quantity)
        return median(values) if values else None


def compact(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def phases_for(server: str, calls: int) -> list[Phase]:
    """Return a round's phases: CPU over one connection, load over 32, for ours batches of 100."""
    body = compact(SINGLE_CALL)
    phases = [Phase("cpu", body, 1, calls), Phase("load", body, CONNECTIONS, calls)]
    if server == "ours":
        batch = compact([{**SINGLE_CALL, "id": number} for number in range(1, BATCH + 1)])
        phases.append(Phase("batch", batch, 1, max(50, calls // 50), BATCH))
    return phases


class RunningServer:
    """A started server: a context manager that leaves nothing behind.

    :raises process.ServerFault: on entering, when it does not answer its first call; with the
        tail of its output
    """

    def __init__(
        self, server: Server, python: str, cores: Iterable[int], call: bytes, **environment: str
    ):
        self.port = process.free_port()
        self._request = loadgen.http_request(self.port, call)
        self._command = server.command(python, self.port)
        self._environment = server.environment(self.port, **environment)
        self._cores = list(cores)

    def __enter__(self) -> RunningServer:
        self._output: IO[bytes] = TemporaryFile()
        self._child = process.spawn(
            self._command,
            cores=self._cores,
            environment=self._environment,
            folder=PEERS,
            output=self._output,
        )
        try:
            self._wait_for_answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process.stop(self._child)
        self._output.close()

    def _wait_for_answer(self) -> None:
        problem = "no answer"
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end:
            code = self._child.poll()
            if code is not None:
                raise process.ServerFault(f"ended with exit code {code}: {self.tail()}")
            try:
                loadgen.call_once(self.port, self._request)
            except OSError:
                time.sleep(0.05)
            except loadgen.BadAnswer as error:
                # gunicorn's master listens before its worker is up, and resets what came too early
                problem = str(error)
                time.sleep(0.05)
            else:
                return
        raise process.ServerFault(
            f"did not answer within {START_LIMIT:.0f} s ({problem}): {self.tail()}"
        )

    def terminate(self) -> None:
        """Ask it to stop without waiting, so that several stop at the same time."""
        if self._child.poll() is None:
            self._child.terminate()

    def tail(self) -> str:
        """Return the end of what the server printed, as one line."""
        self._output.seek(0)
        printed = self._output.read().decode(errors="replace")
        lines = [line.strip() for line in printed.splitlines() if line.strip(" ^~")]
        return " | ".join(lines)[-300:] or "(printed nothing)"

    def cpu_clock(self) -> Callable[[], float]:
        """Return a function that reads the CPU of the processes the server has now."""
        pids = process.tree(self._child.pid)
        return lambda: process.tree_cpu(pids)


class LoadGenerator:
    """The load generator's process, on the given cores; a context manager."""

    def __init__(self, cores: Iterable[int]):
        self._cores = list(cores)

    def __enter__(self) -> LoadGenerator:
        command = [sys.executable, "-S", "-E", str(Path(loadgen.__file__).resolve())]
        self._child = process.spawn(command, cores=self._cores, pipes=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process.stop(self._child)

    def measure(self, server: RunningServer, phase: Phase) -> Sample:
        """Warm up, then measure one phase; the server's CPU is read between the two and at the end.

        :raises process.ServerFault: a wrong answer, a time-out, or the server died
        """
        job = loadgen.Job(
            port=server.port,
            request=loadgen.http_request(server.port, phase.body).decode("latin-1"),
            items=phase.items,
            connections=phase.connections,
            warm=max(phase.calls // 10, 200 // (phase.items or 1), 2 * phase.connections),
            calls=phase.calls,
            limit=PHASE_LIMIT,
        )
        self._say(json.dumps(asdict(job)))
        self._hear()
        try:
            clock = server.cpu_clock()
            before = clock()
        except process.ServerFault:
            self._say("cancel")
            with suppress(process.ServerFault):
                self._hear()
            raise
        self._say("go")
        result = loadgen.Result(**self._hear())
        cpu = clock() - before
        items = result.calls * (phase.items or 1)
        return Sample(cpu / items * 1e6, items / result.seconds, result.p50 * 1e6, result.p99 * 1e6)

    def _say(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], 2 * PHASE_LIMIT)
        line = self._child.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(
                "the load generator ended or hangs"
            )  # not the server's fault: stop the benchmark
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise process.ServerFault(str(message["error"]))
        return message


def interleaved(
    running: dict[str, RunningServer],
    results: dict[str, Measured],
    load: LoadGenerator,
    rounds: int,
    calls: int,
) -> None:
    """Measure every server once per round, so that a slow minute hits all alike; the order rotates.

    A server that fails drops out with its fault noted; the others go on.
    """
    names = list(running)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        shift = number * len(names) // rounds
        for name in names[shift:] + names[:shift]:
            measured = results[name]
            try:
                for phase in phases_for(name, calls):
                    if measured.fault is None:
                        sample = load.measure(running[name], phase)
                        measured.samples.setdefault(phase.name, []).append(sample)
            except process.ServerFault as fault:
                measured.fault = f"{fault} ({running[name].tail()})"


def scaling(
    server: Server, python: str, cores: set[int], rounds: int, calls: int
) -> tuple[float, float]:
    """Return calls/s of the burn method with one worker and with two, medians; nothing is pinned.

    :raises process.ServerFault: one of the two did not start or did not answer
    """
    phase = Phase("burn", compact(BURN_CALL), CONNECTIONS, calls)
    rates: dict[str, list[float]] = {"1": [], "2": []}
    with ExitStack() as stack:
        load = stack.enter_context(LoadGenerator(cores))
        both = {
            workers: stack.enter_context(
                RunningServer(server, python, cores, compact(SINGLE_CALL), BENCH_WORKERS=workers)
            )
            for workers in rates
        }
        for _ in range(rounds):
            for workers, running in both.items():
                rates[workers].append(load.measure(running, phase).rate)
    return median(rates["1"]), median(rates["2"])
