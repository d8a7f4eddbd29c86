"""Pings and goodbyes: what registries and strategies are told of a service, and what the log is."""

import logging

import gevent
import pytest

from gemstone_sync.concurrency import Call, current_call
from gemstone_sync.discovery import HttpDiscoveryStrategy, announcer
from gemstone_sync.discovery.announcer import Announcer
from gemstone_sync.errors import CircuitOpen
from tests.support.faulty_server import FaultyServer, hang
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, wait_until

from .support import A as HERE
from .support import Strategy, Stuck, patient_http

NAME = "users"
LOGGER = logging.getLogger("test.announcer")


@pytest.fixture
def announce():
    """``announce(strategy, …, interval=…)``: one that has begun, and ends with the test."""
    begun = []

    def start(*strategies, interval=0.01):
        made = Announcer(
            NAME, HERE, instance="i1", strategies=strategies, interval=interval, logger=LOGGER
        )
        begun.append(made)
        made.start()
        return made

    yield start
    for one in begun:
        one.stop(patience=0.1)


def has_begun(strategy, count):
    wait_until(lambda: strategy.begun >= count, f"{count} pings")


def told_in_log(caplog, level):
    return [r.message for r in caplog.records if r.name == LOGGER.name and r.levelno == level]


def test_a_ping_at_the_start_and_at_every_interval_whatever_others_do(announce):
    hanging, failing = Strategy(), Strategy(fault=OSError("it is down"))
    well, seldom = Strategy(), Strategy()
    hanging.may_answer.clear()
    announce(seldom, interval=1000)
    announce(hanging, failing, well)
    assert hanging.begun == 0, "the start waits"
    has_begun(well, 10)

    assert well.given[:5] == [(NAME, HERE, {"instance": "i1", "interval": 0.01})] * 5
    assert seldom.told == ["ping"]
    assert hanging.begun == 1
    assert failing.begun >= 1
    hanging.may_answer.set()
    has_begun(hanging, 2)


def test_pings_have_no_callers_deadline(announce):
    strategy = Strategy()

    def start():
        current_call.set(Call())
        announce(strategy)

    gevent.spawn(start).get(timeout=LIMIT)
    has_begun(strategy, 1)

    assert strategy.calls[0] is None


def test_strategies_that_take_none_or_some_of_the_keywords(announce):
    told = []

    class Old:
        """A discovery strategy as those of 0.10.1: without a goodbye."""

        def ping(self, name, location):
            told.append(("old ping", name, location))

    class Some:
        def ping(self, name, location, instance=""):
            told.append(("ping", instance))

        def goodbye(self, name, location):
            told.append(("goodbye",))

    announced = announce(Old(), Some(), interval=1000)
    wait_until(lambda: len(told) == 2, "two pings")
    announced.stop()

    assert told == [("old ping", NAME, HERE), ("ping", "i1"), ("goodbye",)]


def test_a_failure_is_logged_once_and_so_is_its_end(announce, caplog):
    caplog.set_level(logging.INFO, LOGGER.name)
    strategy = Strategy(fault=OSError("it is down"))
    announce(strategy)
    has_begun(strategy, 10)
    assert told_in_log(caplog, logging.WARNING) == [
        "the strategy cannot be told of users; it is tried again: it is down"
    ]
    assert told_in_log(caplog, logging.INFO) == []

    strategy.fault = None
    wait_until(lambda: len(strategy.told) >= 10, "ten pings that work")
    assert told_in_log(caplog, logging.INFO) == ["the strategy is told of users again"]
    assert len(told_in_log(caplog, logging.WARNING)) == 1

    strategy.fault = OSError("it is down again")
    wait_until(lambda: len(told_in_log(caplog, logging.WARNING)) == 2, "the next failure's log")


@pytest.mark.parametrize(
    "fault",
    [KeyError(), SystemExit(3), gevent.Timeout(1), RecursionError("deep"), "no function"],
    ids=["KeyError", "SystemExit", "Timeout", "RecursionError", "no function"],
)
def test_pings_go_on_whatever_a_strategy_raises(announce, caplog, fault):
    strategy, well = Strategy(fault=fault), Strategy()
    if fault == "no function":
        strategy.ping = fault
    announce(strategy, well)
    has_begun(well if fault == "no function" else strategy, 3)

    (told,) = told_in_log(caplog, logging.WARNING)
    assert not told.endswith(": "), "the log has no reason"


def test_pauses_after_failures_grow_up_to_the_interval(announce, monkeypatch):
    """Soon at first, and each time at another moment within the bound."""
    bounds = []

    def uniform(low, high):
        bounds.append((low, high))
        return 0.0

    monkeypatch.setattr(announcer.random, "uniform", uniform)
    announce(Strategy(fault=OSError("it is down")), interval=30)
    wait_until(lambda: len(bounds) >= 9, "nine failures")

    assert [high for _, high in bounds[:9]] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert all(low == high / 2 for low, high in bounds)


def test_a_ping_that_was_not_tried_comes_when_it_may_be(announce):
    """Else a registry that is back may wait for longer than an interval."""
    refused = CircuitOpen("not tried again yet")
    refused.retry_after = 0.001
    strategy = Strategy(fault=refused)
    announce(strategy, interval=1000)
    has_begun(strategy, 10)


def test_a_registry_that_is_started_late_is_told(announce):
    port = free_port()
    announce(HttpDiscoveryStrategy(f"http://127.0.0.1:{port}/api"), interval=0.1)
    with FaultyServer(port=port) as registry:
        wait_until(lambda: registry.received["ping"], "a ping")


def test_goodbye_comes_once_after_the_last_ping_and_the_strategies_are_closed(announce):
    strategy = Strategy()
    announced = announce(Stuck(), strategy)
    has_begun(strategy, 3)
    announced.stop()
    announced.stop()
    gevent.sleep(0)

    assert set(strategy.told[:-1]) == {"ping"}
    assert strategy.told[-1] == "goodbye"
    assert strategy.given[-1] == (NAME, HERE, {"instance": "i1"})
    assert strategy.closed == 1


def test_a_ping_in_flight_arrives_before_the_goodbye(announce):
    strategy = Strategy()
    strategy.may_answer.clear()
    announced = announce(strategy)
    has_begun(strategy, 1)
    stopping = gevent.spawn(announced.stop, LIMIT)
    gevent.sleep(0)
    assert strategy.told == []
    strategy.may_answer.set()
    stopping.get(timeout=LIMIT)

    assert strategy.told == ["ping", "goodbye"]
    assert strategy.begun == 1


def test_one_that_hangs_does_not_keep_the_others_from_their_goodbye(announce):
    hanging, well = Strategy(), Strategy()
    hanging.may_answer.clear()
    with FaultyServer(hang) as registry:
        announced = announce(hanging, patient_http(registry.url), well)
        has_begun(hanging, 1)
        wait_until(lambda: well.told and registry.received["ping"], "all pings")
        announced.stop(patience=0.01)
    hanging.may_answer.set()
    gevent.sleep(0)

    assert well.told[-1] == "goodbye"
    assert "ping" not in hanging.told, "a ping ended after the goodbye"


def test_a_goodbye_that_fails_is_told_of_unless_a_failure_was(announce, caplog):
    """A registry that is down costs one line."""
    down, broken, well = Strategy(fault=OSError("it is down")), Strategy(), Strategy()
    down.farewell_fault = broken.farewell_fault = OSError("it broke")
    announced = announce(down, broken, well)
    has_begun(down, 3)
    has_begun(broken, 1)
    announced.stop()

    assert told_in_log(caplog, logging.WARNING) == [
        "the strategy cannot be told of users; it is tried again: it is down",
        "the strategy was not told that users has ended; its entry will expire: it broke",
    ]
    assert well.told[-1] == "goodbye"


def test_one_that_was_stopped_before_it_began_never_begins():
    strategy = Strategy()
    made = Announcer(NAME, HERE, instance="i1", strategies=[strategy], interval=0.01, logger=LOGGER)
    made.stop()
    made.start()
    gevent.sleep(0)

    assert strategy.told == []
    assert strategy.begun == 0
