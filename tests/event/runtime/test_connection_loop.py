"""ConnectionLoop: connecting for ever, what the log says, stopping, programs without a hub."""

import gc
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gemstone_sync.event.link import Link
from gemstone_sync.event.runtime import connection_loop
from gemstone_sync.event.runtime.connection_loop import ConnectionLoop
from tests.event.scripted_link import Broker
from tests.support.programs import REPOSITORY
from tests.support.waiting import LIMIT, wait_until

LOGGER = "gemstone_sync.event"


class Sitter(ConnectionLoop):
    """Holds its connection, and does nothing with it."""

    fault: BaseException | None = None
    busy = False
    at_end = 0

    def _run_with_link(self, link: Link) -> None:
        assert self.signal is not None
        self._mark_ready()
        while not (self.stopping and not self.busy):
            self.signal.clear()
            if self.fault is not None:
                fault, self.fault = self.fault, None
                raise fault
            link.pump()
            link.wait(self.signal, 1.0)

    def _is_idle(self) -> bool:
        return not self.busy

    def _at_end(self) -> None:
        self.at_end += 1

    @property
    def ready(self) -> bool:
        return self.why_not_ready() is None

    def start_and_wait(self) -> None:
        self.start()
        wait_until(lambda: self.ready, "a connection")


@pytest.fixture(params=[False, True], ids=["hub", "thread"])
def sitter(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Sitter]:
    loop = Sitter(broker.link, name="sitter", threaded=request.param)
    yield loop
    loop.busy = broker.hangs = False
    loop.stop(LIMIT)
    assert not broker.links


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.name == LOGGER]


def test_a_broker_that_is_away_at_first_or_later_is_looked_for_with_one_warning(
    broker: Broker, sitter: Sitter, quick: None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, LOGGER)
    for number, why in enumerate(["connection refused", "reset by peer"], 1):
        caplog.clear()
        broker.go_away(why)
        if number == 1:
            sitter.start()
        wait_until(lambda: len(records(caplog, logging.DEBUG)) > 5, "attempts")
        assert why in (sitter.why_not_ready() or "")
        broker.away = None
        wait_until(lambda: sitter.ready, "a connection")

        assert broker.opened == number
        [warning] = records(caplog, logging.WARNING)
        assert "sitter" in warning
        assert why in warning
        wait_until(lambda: records(caplog, logging.INFO), "its line in the log, which comes next")
        assert len(records(caplog, logging.INFO)) == 1
        assert not records(caplog, logging.ERROR)


def test_another_reason_is_said_as_well(
    broker: Broker, sitter: Sitter, quick: None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, LOGGER)
    broker.go_away("reset by peer")
    sitter.start()
    for why in ("reset by peer", "no answer in time", "reset by peer"):
        before = len(records(caplog, logging.DEBUG))
        broker.away = why
        wait_until(lambda n=before: len(records(caplog, logging.DEBUG)) > n + 5, "attempts")
    first, second = records(caplog, logging.WARNING)
    assert "reset by peer" in first
    assert "no answer in time" in second


def test_each_refusal_is_an_error_once(
    broker: Broker, sitter: Sitter, quick: None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, LOGGER)
    broker.refuses = "wrong password"
    sitter.start()
    wait_until(lambda: len(records(caplog, logging.DEBUG)) > 5, "attempts")
    broker.refuses = "no such vhost"
    wait_until(lambda: len(records(caplog, logging.ERROR)) > 1, "the other refusal")
    first, second = records(caplog, logging.ERROR)
    assert "wrong password" in first
    assert "no such vhost" in second


@pytest.mark.parametrize("fault", [KeyError("garbage"), gevent.Timeout(1)], ids=["bug", "Timeout"])
def test_an_unexpected_fault_does_not_end_the_loop(
    broker: Broker, sitter: Sitter, quick: None, fault: Any, caplog: pytest.LogCaptureFixture
):
    sitter.start_and_wait()
    sitter.fault = fault
    sitter.wake()
    wait_until(lambda: broker.opened == 2 and sitter.ready, "a new connection")
    assert "Traceback" in caplog.text


def test_pauses_double_with_jitter_and_start_anew_after_a_connection_that_held(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []
    loop = Sitter(broker.link, name="sitter", threaded=False)
    real_sleep = gevent.sleep

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            broker.away = None
        real_sleep(0)

    monkeypatch.setattr(connection_loop.gevent, "sleep", sleep)
    monkeypatch.setattr(connection_loop, "_HELD", 0.0)
    broker.away = "no"
    loop.start()
    with gevent.Timeout(LIMIT):
        while not loop.ready:
            real_sleep(0.001)
        broker.cut()
        while broker.opened < 2:
            real_sleep(0.001)
    loop.stop(LIMIT)
    for pause, ceiling in zip(pauses[:12], [0.1 * 2**n for n in range(12)], strict=True):
        assert min(ceiling, 1.5) / 2 <= pause <= min(ceiling, 1.5)
    assert len({round(pause, 6) for pause in pauses[9:12]}) == 3, "no jitter"
    assert pauses[12] <= 0.1


@pytest.mark.parametrize("state", ["started", "connected", "away", "hangs"])
def test_however_many_stop_it_it_ends_at_once_and_closes_its_connection(
    broker: Broker, sitter: Sitter, state: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection_loop, "_FIRST_PAUSE", 2 * LIMIT)
    broker.away = "refused" if state == "away" else None
    broker.hangs = state == "hangs"
    sitter.start()
    reached = {
        "started": lambda: True,
        "connected": lambda: sitter.ready,
        "away": lambda: "refused" in (sitter.why_not_ready() or ""),
        "hangs": lambda: "hangs" in broker.log,
    }
    wait_until(reached[state], state)
    stops = [gevent.spawn(sitter.stop, 2 * LIMIT) for _ in range(3)]
    assert [stop.get(timeout=LIMIT) for stop in stops] == [True] * 3
    assert sitter.ended
    assert sitter.at_end == 1
    assert not broker.links


def test_stop_cuts_off_what_does_not_end(broker: Broker, sitter: Sitter):
    sitter.busy = True
    sitter.start_and_wait()
    assert sitter.stop(0.05) is False
    assert sitter.ended
    assert sitter.at_end == 1
    assert not broker.links


def test_a_link_that_is_gone_is_not_kept(broker: Broker, sitter: Sitter):
    sitter.start_and_wait()
    link = weakref.ref(broker.links[0])
    broker.go_away()
    wait_until(lambda: not sitter.ready, "the loss")
    # Its thread lets go of it after it has said so.
    wait_until(lambda: gc.collect() < 0 or link() is None, "its end")


PROGRAM = f"""
import sys, threading, time
sys.path.insert(0, {str(REPOSITORY)!r})
from gemstone_sync import EventNotDelivered
from gemstone_sync.concurrency import is_patched
from gemstone_sync.event.runtime.consumer import Consumer
from gemstone_sync.event.runtime.publisher import Publisher
from tests.event.runtime.consuming import TOPOLOGY, events, queue
from tests.event.scripted_link import Broker
from gemstone_sync.event.topology import Address
import gevent

assert not is_patched()
broker, handled, threads = Broker(), [], set()

def handle(delivery, queue):
    threads.add(threading.get_ident())
    gevent.sleep(0.001)
    handled.append(int(delivery.envelope.body))

consumer = Consumer(broker.link, TOPOLOGY, [queue()], handle, name="consumer")
consumer.start()
publisher = Publisher(broker.link, TOPOLOGY, name="publisher")
publisher.start()

def publish(count, first, timeout=10):
    messages = [(event, Address("", "q"), 0.0) for event in events(count, None, first)]
    publisher.publish(messages, timeout)

while consumer.why_not_ready():
    time.sleep(0.01)
publish(100, 0)
while len(handled) < 100:
    time.sleep(0.01)
broker.go_away()
while publisher.why_not_ready() is None or consumer.why_not_ready() is None:
    time.sleep(0.01)
try:
    publish(1, 100, 0.1)
except EventNotDelivered as error:
    assert "not sent" in str(error)
else:
    raise AssertionError
broker.away = None
publish(1, 101)
while 101 not in handled:
    time.sleep(0.01)
publisher.stop(10)
assert consumer.stop(10) is True
assert not broker.queues["q"] and not broker.links
assert set(handled) == {{*range(100), 101}}
assert len(threads) == 1 and threading.get_ident() not in threads
print("done")
"""


def test_a_program_that_is_not_patched_publishes_and_handles(run_python: Any):
    result = run_python(PROGRAM, PYTHONWARNINGS="error")
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
    # Nothing but the one warning of each that the connection went.
    assert len(result.stderr.splitlines()) == 2, result.stderr
