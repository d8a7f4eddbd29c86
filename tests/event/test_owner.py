"""Owner: connecting for ever, what the log says of it, stopping, threads and forks."""

import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gemstone_sync.event import owner as owner_module
from gemstone_sync.event.link import Link
from gemstone_sync.event.owner import Owner
from tests.event.scripted_link import Broker
from tests.support.programs import fork
from tests.support.waiting import LIMIT, wait_until

LOGGER = "gemstone_sync.event"


class Sitter(Owner):
    """Holds its connection, and does nothing with it."""

    fault: BaseException | None = None
    busy = False
    at_end = 0

    def _use(self, link: Link) -> None:
        assert self.signal is not None
        self._is_ready()
        while not (self.stopping and not self.busy):
            self.signal.clear()
            if self.fault is not None:
                fault, self.fault = self.fault, None
                raise fault
            link.pump()
            link.wait(self.signal, 1.0)

    def _may_end(self) -> bool:
        return not self.busy

    def _at_end(self) -> None:
        self.at_end += 1

    @property
    def ready(self) -> bool:
        return self.why_not_ready() is None


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture(params=[False, True], ids=["hub", "thread"])
def sitter(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Sitter]:
    owner = Sitter(broker.link, name="sitter", threaded=request.param)
    yield owner
    owner.busy = broker.hangs = False
    owner.stop(LIMIT)
    assert not broker.links


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """New attempts every few milliseconds."""
    monkeypatch.setattr(owner_module, "_LONGEST_PAUSE", 0.005)


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.name == LOGGER]


def test_a_broker_that_is_away_at_the_start_is_found_later(
    broker: Broker, sitter: Sitter, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    broker.away = "connection refused"
    sitter.start()
    wait_until(lambda: len(records(caplog, logging.DEBUG)) > 5, "attempts")
    assert "connection refused" in (sitter.why_not_ready() or "")
    broker.away = None
    wait_until(lambda: sitter.ready, "a connection")

    assert len(records(caplog, logging.WARNING)) == 1
    assert len(records(caplog, logging.INFO)) == 1
    assert not records(caplog, logging.ERROR)


def test_a_lost_connection_is_made_again_with_one_warning(
    broker: Broker, sitter: Sitter, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    sitter.start()
    wait_until(lambda: sitter.ready, "a connection")
    broker.go_away("reset by peer")
    wait_until(lambda: len(records(caplog, logging.DEBUG)) > 5, "attempts")
    broker.away = None
    wait_until(lambda: sitter.ready, "a connection")

    assert broker.opened == 2
    [warning] = records(caplog, logging.WARNING)
    assert "sitter" in warning
    assert "reset by peer" in warning
    assert len(records(caplog, logging.INFO)) == 1


def test_each_refusal_is_an_error_once(
    broker: Broker, sitter: Sitter, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    broker.refuses = "wrong password"
    sitter.start()
    wait_until(lambda: len(records(caplog, logging.DEBUG)) > 5, "attempts")
    broker.refuses = "no such vhost"
    wait_until(lambda: len(records(caplog, logging.ERROR)) > 1, "the other refusal")

    first, second = records(caplog, logging.ERROR)
    assert "wrong password" in first
    assert "no such vhost" in second


@pytest.mark.parametrize("fault", [KeyError("garbage"), gevent.Timeout(1), ZeroDivisionError()])
def test_an_unexpected_fault_does_not_end_the_owner(
    broker: Broker,
    sitter: Sitter,
    quick: None,
    fault: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sitter.start()
    wait_until(lambda: sitter.ready, "a connection")
    sitter.fault = fault
    sitter.wake()
    wait_until(lambda: broker.opened == 2 and sitter.ready, "a new connection")

    assert "Traceback" in caplog.text or caplog.records[-1].exc_info


def test_pauses_double_with_jitter_and_start_anew_after_a_connection_that_held(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    owner = Sitter(broker.link, name="sitter", threaded=False)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            broker.away = None
        real_sleep(0)

    real_sleep = gevent.sleep
    monkeypatch.setattr(owner_module.gevent, "sleep", sleep)
    monkeypatch.setattr(owner_module, "_HELD", 0.0)
    broker.away = "no"
    owner.start()
    end = time.monotonic() + LIMIT
    while not owner.ready:
        assert time.monotonic() < end
        real_sleep(0.001)
    broker.cut()
    while broker.opened < 2:
        assert time.monotonic() < end
        real_sleep(0.001)
    owner.stop(LIMIT)

    for pause, ceiling in zip(pauses[:12], [0.1 * 2**n for n in range(12)], strict=True):
        assert min(ceiling, 30) / 2 <= pause <= min(ceiling, 30)
    assert len({round(pause / 15, 6) for pause in pauses[9:12]}) == 3, "no jitter"
    assert pauses[12] <= 0.1


def test_stop_ends_a_connection_and_closes_it(broker: Broker, sitter: Sitter) -> None:
    sitter.start()
    wait_until(lambda: sitter.ready, "a connection")

    assert sitter.stop(LIMIT) is True
    assert sitter.ended
    assert sitter.at_end == 1
    assert not broker.links


def test_stop_right_after_start(sitter: Sitter) -> None:
    sitter.start()
    assert sitter.stop(LIMIT) is True


def test_stop_while_the_broker_is_away_is_quick(
    broker: Broker, sitter: Sitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "_FIRST_PAUSE", 2 * LIMIT)
    broker.away = "connection refused"
    sitter.start()
    wait_until(lambda: "refused" in (sitter.why_not_ready() or ""), "an attempt")
    began = time.monotonic()

    assert sitter.stop(LIMIT) is True
    assert time.monotonic() - began < LIMIT / 2


def test_stop_while_opening_hangs_is_quick(broker: Broker, sitter: Sitter) -> None:
    broker.hangs = True
    sitter.start()
    wait_until(lambda: "hangs" in broker.log, "an attempt")

    assert sitter.stop(LIMIT) is True
    assert sitter.at_end == 1


def test_stop_cuts_off_what_does_not_end(broker: Broker, sitter: Sitter) -> None:
    sitter.busy = True
    sitter.start()
    wait_until(lambda: sitter.ready, "a connection")

    assert sitter.stop(0.05) is False
    assert sitter.ended
    assert sitter.at_end == 1
    assert not broker.links


def test_two_may_stop_it_at_once(sitter: Sitter) -> None:
    sitter.start()
    wait_until(lambda: sitter.ready, "a connection")
    stops = [gevent.spawn(sitter.stop, LIMIT) for _ in range(3)]

    assert [stop.get(timeout=LIMIT) for stop in stops] == [True] * 3


def test_a_link_that_is_gone_is_not_kept(broker: Broker, sitter: Sitter) -> None:
    import weakref

    sitter.start()
    wait_until(lambda: sitter.ready, "a connection")
    link = weakref.ref(broker.links[0])
    broker.go_away()
    wait_until(lambda: not sitter.ready, "the loss")
    gc.collect()

    assert link() is None


@pytest.mark.parametrize("threaded", [False, True], ids=["hub", "thread"])
def test_a_forked_child_leaves_the_connection_alone(broker: Broker, threaded: bool) -> None:
    owner = Sitter(broker.link, name="sitter", threaded=threaded)
    owner.start()
    wait_until(lambda: owner.ready, "a connection")
    [link] = broker.links

    def child() -> bool:
        owner.wake()
        broker.poke()
        gevent.sleep(0.05)  # the hub turns: what would use the link does so now
        alive = owner._greenlet is not None and not owner._greenlet.dead and not threaded
        return owner.inherited and link.abandoned and not link.closed and not alive

    assert in_child(child)
    assert owner.ready
    assert not link.abandoned
    assert owner.stop(LIMIT) is True


def in_child(check: Any) -> bool:
    """Whether a function is true in a forked child; it ends without cleaning up."""
    pid = fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(2)
    end = time.monotonic() + LIMIT
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        gevent.sleep(0.01)
