"""Events while everything goes wrong: python -m tests.integration.endurance --minutes 30

Three workers and an emitter on a broker of their own, and at random: workers killed or stopped in
order, the broker killed, stopped in order or frozen, connections cut or stalled. Afterwards every
confirmed event was handled, those with one key in their order, only what was meant to be is a dead
letter, and memory and descriptors of the processes that nobody killed are what they were.

Of a key that was not in order it prints what became of its events, and what went wrong then.
``--only stop_worker,freeze`` has nothing else go wrong.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

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

from .growth import Sample, growth, sample

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
    """A file that many processes append whole lines to, and which a kill does not tear.

    A line is of three words, followed by the moment and the process.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, line: str) -> None:
        os.write(self._file, f"{line} {time.time():.3f} {os.getpid()}\n".encode())


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
                    "keyed": {"key": f"{(first + EMITTERS * (turn // len(KINDS))) % KEYS}"},
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
        #: When what went wrong.
        self.moments: list[tuple[float, str]] = []
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
        # A RabbitMQ that is killed just as it makes a queue leaves one that works no more
        # (rabbitmq-server#10070): wait until all are made.
        wait_until(lambda: {line[0] for line in self.lines("done")} == {*KINDS}, "all", PATIENCE)

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

    def go_wrong(self, only: Collection[str] = ()) -> None:
        """Have one thing go wrong, and end.

        :param only: one of these; none for all.
        """
        ways: dict[Callable[[], None], int] = {self._kill_worker: 4, self._stop_worker: 3}
        if self._proxy is not None:
            ways |= {self._cut: 4, self._stall: 2, self._freeze: 2, self._kill_broker: 1}
        if hasattr(self.broker, "stop"):
            ways[self._stop_broker] = 1
        weights = {way.__name__.strip("_"): (way, weight) for way, weight in ways.items()}
        wanted = {name: each for name, each in weights.items() if not only or name in only}
        (name,) = self.random.choices([*wanted], [weight for _, weight in wanted.values()])
        self.happened[name] += 1
        self.moments.append((time.time(), f"{name} begins"))
        wanted[name][0]()
        self.moments.append((time.time(), f"{name} ends"))

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


def faults_of(run: Run) -> list[str]:
    """What was not as promised, once everything is quiet."""
    confirmed, done = run.lines("confirmed"), run.lines("done")
    meant = {each[1] for each in confirmed if int(each[1]) % REJECTED == REJECTED - 1}
    missing = {each[1] for each in confirmed} - {each[1] for each in done} - meant
    faults = [f"not handled: {sorted(missing, key=int)[:20]}"] * bool(missing)
    seen: dict[str, list[int]] = {}
    for kind, number, key, *_ in done:
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


def print_disorder(run: Run) -> None:
    """Print, around the first event of each key that was overtaken, what was known when."""
    latest: dict[str, int] = {}
    overtaken: dict[str, tuple[int, float]] = {}
    seen: set[str] = set()
    done = [line for line in run.lines("done") if line[0] == "keyed"]
    for _, number, key, moment, _ in done:
        if number not in seen and int(number) < latest.get(key, 0):
            overtaken.setdefault(key, (int(number), float(moment)))
        seen.add(number)
        latest[key] = max(latest.get(key, 0), int(number))
    for key, (number, late) in overtaken.items():
        told = [
            (float(moment), f"{number} {what} by {pid}")
            for what, lines in (("confirmed to", run.lines("confirmed")), ("done", done))
            for _, number, its, moment, pid in lines
            if its == key
        ]
        early = min(moment for moment, text in told if text.startswith(f"{number} "))
        print(f"key {key}: {number} was overtaken")
        for moment, text in sorted([*told, *run.moments]):
            if early - 5 <= moment <= late + 1:
                print(f"  {moment - early:8.3f} {text}")


def endure(folder: Path, kind: str, minutes: float, seed: int, only: Collection[str] = ()) -> None:
    """Run it, and print what happened.

    :param only: what may go wrong; none for everything.
    :raises AssertionError: when something was not as promised.
    """
    with contextlib.ExitStack() as stack:
        run = Run(folder, stack, kind, seed)
        steady = {"emitter": run.emitter, "worker": run.workers[0]}
        samples: dict[str, list[Sample]] = {name: [] for name in steady}
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            run.go_wrong(only)
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
        done = Counter(line[1] for line in run.lines("done"))
        print(f"{kind}, seed {seed}, {minutes:g} minutes: {count} events confirmed")
        print("  what went wrong:", dict(run.happened))
        print("  handled again:", sum(done.values()) - len(done))
        for name, found in samples.items():
            print(
                f"  {name}:", ", ".join(f"{value:.0f} {what}" for what, value in found[-1].items())
            )
            print("    more in the last third than in the second:", growth(found))
        print_disorder(run)
        assert not faults, faults
        for name, found in samples.items():
            assert max(growth(found).values()) <= 5, f"the {name} grows"


def main() -> None:
    if "ENDURANCE" in os.environ:
        {"emit": emit, "work": work}[sys.argv[1]](*json.loads(os.environ["ENDURANCE"]), sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--broker", choices=["rabbitmq", "redis", "sqlite"], default="rabbitmq")
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    parser.add_argument("--only", default="", help="what may go wrong, with commas between")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        only = [*filter(None, given.only.split(","))]
        endure(Path(folder), given.broker, given.minutes, given.seed, only)


if __name__ == "__main__":
    main()
