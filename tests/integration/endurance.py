"""Events while everything goes wrong: python -m tests.integration.endurance --minutes 30

Three workers and an emitter on a broker of their own, and at random: workers killed or stopped in
order, the broker killed, stopped in order or frozen, connections cut or stalled. Afterwards every
confirmed event was handled, those with one key in their order, only what was meant to be is a dead
letter, and memory and descriptors of the processes that nobody killed are what they were.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.event import Event

import gemstone_sync.patch  # noqa: F401  # the proxy is a greenlet of this process
from gemstone_sync import (
    EventEmitter,
    MicroService,
    Reject,
    current_event,
    event_handler,
    transport_from_url,
)
from gemstone_sync.event import deadletters
from tests.support.programs import REPOSITORY, Program
from tests.support.proxy import Proxy
from tests.support.rabbitmq import private_rabbitmq
from tests.support.redis import private_redis
from tests.support.waiting import wait_until

#: What is emitted in turn: to all, to one worker, in order by key, later.
KINDS = ("plain", "work", "keyed", "delayed")
KEYS = 20
DELAY = 2.0
#: Events a second, and the greenlets that emit them.
RATE, EMITTERS = 60, 10
#: One of so many fails at its first attempt, or is rejected, which makes it a dead letter.
FAILS, REJECTED = 37, 997
#: Seconds for everything to be handled, once nothing goes wrong any more.
PATIENCE = 180.0


# The processes


class Record:
    """A file that many processes append whole lines to, and which a kill does not tear."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


def emit(url: str, options: dict[str, Any], path: str) -> None:
    """Emit until SIGTERM, and write down each event that was confirmed.

    A greenlet has keys of its own and waits for each confirm, so that the order of a key is known.
    """
    ending, confirmed, numbers = Event(), Record(path), itertools.count()
    gevent.signal_handler(signal.SIGTERM, ending.set)
    with EventEmitter(url, name="emitter", timeout=120, **options) as emitter:

        def run(first: int) -> None:
            for turn in itertools.count():
                if ending.wait(EMITTERS / RATE):
                    return
                number, kind = next(numbers), KINDS[turn % len(KINDS)]
                given = {
                    "keyed": {"key": f"{(first + EMITTERS * turn) % KEYS}"},
                    "delayed": {"delay": DELAY},
                }.get(kind, {})
                emitter.emit_event(kind, number, broadcast=kind != "work", **given)
                confirmed.add(f"{kind} {number} {given.get('key', '-')}")

        gevent.joinall([gevent.spawn(run, first) for first in range(EMITTERS)], raise_error=True)
    print("done", flush=True)


def work(url: str, options: dict[str, Any], path: str) -> None:
    """Handle each kind, now and then not at the first attempt."""
    done = Record(path)

    class Worker(MicroService):
        name = "worker"
        port = 0
        skip_configuration = True
        event_transports = [transport_from_url(url, **options)]

        def on_service_start(self) -> None:
            print(self.url, flush=True)

        @event_handler("plain", backoff=0.2)
        def on_plain(self, number: int) -> None:
            self.do(number)

        @event_handler("work", backoff=0.2)
        def on_work(self, number: int) -> None:
            self.do(number)

        @event_handler("keyed", backoff=0.2)
        def on_keyed(self, number: int) -> None:
            self.do(number)

        @event_handler("delayed", backoff=0.2)
        def on_delayed(self, number: int) -> None:
            self.do(number)

        def do(self, number: int) -> None:
            event = current_event()
            time.sleep(0.005)
            if number % REJECTED == REJECTED - 1:
                raise Reject("as it is meant to be")
            if number % FAILS == 0 and event.attempts == 0:
                raise OSError("the first attempt fails")
            done.add(f"{event.name} {number} {event.key or '-'}")

    Worker().start()


# What goes wrong


class Run:
    """One run: what it has started, and what is done to it.

    :param broker: a RabbitMQ or Redis of the tests' own; None for SQLite, which has no process.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack, kind: str, seed: int) -> None:
        self.folder = folder
        self.happened: Counter[str] = Counter()
        self.random = random.Random(seed)
        self._stack = stack
        self.broker: Any = None
        self._proxy: Proxy | None = None
        self._options: dict[str, Any] = {"application": f"endurance-{uuid.uuid4().hex}"}
        if kind == "sqlite":
            self._url = f"sqlite:///{folder}/events.db"
            self._options["lease"] = 5
        else:
            if kind == "rabbitmq":
                self.broker = stack.enter_context(private_rabbitmq(folder))
                self._options |= {"heartbeat": 3, "delivery_limit": 5}
            else:
                durable = ("--appendonly", "yes", "--appendfsync", "always")
                self.broker = stack.enter_context(private_redis(folder, *durable))
                self._options["lease"] = 5
            self._proxy = stack.enter_context(Proxy(self.broker.port))
            self._url = self.broker.url.replace(f":{self.broker.port}", f":{self._proxy.port}")
        self.transport = transport_from_url(self._url, **self._options)
        #: The first is left alone.
        self.workers = [self._start("work", folder / "done") for _ in range(3)]
        for worker in self.workers:
            worker.wait_until_ready()
        self.emitter = self._start("emit", folder / "confirmed")

    def _start(self, *arguments: object) -> Program:
        what = json.dumps([self._url, self._options])
        command = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
        started = Program(
            command, self.folder, environment={"ENDURANCE": what, "PYTHONPATH": str(REPOSITORY)}
        )
        self._stack.callback(started.kill)
        return started

    def lines(self, name: str) -> list[list[str]]:
        path = self.folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def go_wrong(self) -> None:
        """Have one thing go wrong, and end."""
        ways: dict[Callable[[], None], int] = {self._kill_worker: 4, self._stop_worker: 3}
        if self._proxy is not None:
            ways |= {self._cut: 4, self._stall: 2, self._freeze: 2, self._kill_broker: 1}
        if hasattr(self.broker, "stop"):
            ways[self._stop_broker] = 1
        (way,) = self.random.choices([*ways], [*ways.values()])
        self.happened[way.__name__.strip("_")] += 1
        way()

    def _kill_worker(self) -> None:
        self._replaced().kill()

    def _stop_worker(self) -> None:
        worker = self._replaced()
        worker.wait_for_ports()  # before, SIGTERM is not its own to handle
        code = worker.terminate(30)
        assert code == 0, f"a worker that was stopped ended with {code}"

    def _replaced(self) -> Program:
        place = self.random.randrange(1, len(self.workers))
        worker, self.workers[place] = self.workers[place], self._start("work", self.folder / "done")
        return worker

    def _cut(self) -> None:
        assert self._proxy is not None
        self._proxy.cut()

    def _stall(self) -> None:
        assert self._proxy is not None
        self._proxy.stall()
        gevent.sleep(self.random.uniform(0.5, 8))
        self._proxy.resume()

    def _freeze(self) -> None:
        with self.broker.frozen():
            gevent.sleep(self.random.uniform(0.5, 8))

    def _kill_broker(self) -> None:
        self.broker.kill()
        self.broker.start()

    def _stop_broker(self) -> None:
        self.broker.stop()
        self.broker.start()


# What is asked of it


class Sample(NamedTuple):
    megabytes: float
    descriptors: int


def sample(pid: int) -> Sample:
    (pages,) = Path(f"/proc/{pid}/statm").read_text().split()[1:2]
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors)


def growth(samples: list[Sample]) -> Sample:
    """How much more the last third has than the second, in medians: the first is warming up."""
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]
    megabytes, descriptors = (
        statistics.median(each[place] for each in after)
        - statistics.median(each[place] for each in before)
        for place in (0, 1)
    )
    return Sample(round(megabytes, 1), int(descriptors))


def faults_of(run: Run) -> list[str]:
    """What was not as promised, once everything is quiet."""
    confirmed, done = run.lines("confirmed"), run.lines("done")
    meant = {number for _, number, _ in confirmed if int(number) % REJECTED == REJECTED - 1}
    missing = {number for _, number, _ in confirmed} - {number for _, number, _ in done} - meant
    faults = [f"not handled: {sorted(missing, key=int)[:20]}"] * bool(missing)
    seen: dict[str, list[int]] = {}
    for kind, number, key in done:
        if kind == "keyed" and int(number) not in (order := seen.setdefault(key, [])):
            order.append(int(number))
    faults += [f"key {key}: out of order" for key, order in seen.items() if order != sorted(order)]
    letters = {str(letter.body): letter.reason for letter in deadletters.list(run.transport)}
    faults += [
        f"dead letter {number}: {reason}"
        for number, reason in letters.items()
        if (number not in meant) or reason != "rejected"
    ]
    faults += [f"no dead letter: {number}" for number in meant - letters.keys()]
    return faults


def endure(folder: Path, kind: str, minutes: float, seed: int) -> None:
    """Run it, and print what happened.

    :raises AssertionError: when something was not as promised.
    """
    with contextlib.ExitStack() as stack:
        run = Run(folder, stack, kind, seed)
        steady = {"emitter": run.emitter, "worker": run.workers[0]}
        samples: dict[str, list[Sample]] = {name: [] for name in steady}
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            run.go_wrong()
            for _ in range(4):
                gevent.sleep(run.random.uniform(0.2, 1.5))
                for name, program in steady.items():
                    assert program.process.poll() is None, f"the {name} ended\n{program.stderr}"
                    samples[name].append(sample(program.process.pid))
        run.emitter.send_signal(signal.SIGTERM)
        run.emitter.wait(150)
        count = len(run.lines("confirmed"))
        faults: list[str] = []

        def quiet() -> bool:
            faults[:] = faults_of(run)
            return not faults

        with contextlib.suppress(AssertionError):
            wait_until(quiet, "everything handled", PATIENCE)
        done = Counter(number for _, number, _ in run.lines("done"))
        print(f"{kind}, seed {seed}, {minutes:g} minutes: {count} events confirmed")
        print("  what went wrong:", dict(run.happened))
        print("  handled again:", sum(done.values()) - len(done))
        for name, found in samples.items():
            print(f"  {name}: {found[-1].megabytes:.0f} MB, {found[-1].descriptors} descriptors,")
            print("    more in the last third than in the second:", growth(found))
        assert not faults, faults
        for name, found in samples.items():
            more = growth(found)
            assert max(more.megabytes, more.descriptors) <= 5, f"the {name} grows"


def main() -> None:
    if "ENDURANCE" in os.environ:
        {"emit": emit, "work": work}[sys.argv[1]](*json.loads(os.environ["ENDURANCE"]), sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--broker", choices=["rabbitmq", "redis", "sqlite"], default="rabbitmq")
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        endure(Path(folder), given.broker, given.minutes, given.seed)


if __name__ == "__main__":
    main()
