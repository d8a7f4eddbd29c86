"""What callers cause in the log: every kind is told, none floods it."""

import logging
import re

import gevent
import pytest

from gemstone_sync.concurrency import Call, Work, current_call
from gemstone_sync.dispatch import CallContext, LogThrottle
from gemstone_sync.dispatch import log_throttle as log_throttle_module
from gemstone_sync.errors import DeadlineExceeded, RpcError
from gemstone_sync.ops import CallFilter
from tests.support.waiting import wait_until

from .support import ask, call, dispatcher, method, request


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(log_throttle_module, "_LINE", 0.5)


@pytest.fixture
def logger(request):
    """One of the test's own: others may still tell what else there was."""
    return logging.getLogger(f"tests.{request.node.name}".replace(".", "_"))


@pytest.fixture
def records(logger, caplog):
    return lambda: [record for record in caplog.records if record.name == logger.name]


@pytest.fixture
def lines(records):
    return lambda: [record.getMessage() for record in records()]


def test_a_burst_is_two_lines_with_its_count_and_ids(logger, lines):
    throttle = LogThrottle(logger)
    for number in range(38):
        throttle.log(logging.WARNING, "kind", f"no {number}", f"id{number}")
    throttle.log(logging.WARNING, "other", "not of this kind")

    wait_until(lambda: len(lines()) == 3, "the rest is told")
    assert lines()[:2] == ["no 0", "not of this kind"]
    ids = " ".join(f"id{number}" for number in range(1, 38))
    assert lines()[2] == f"no 37 and 36 more like it [{ids}]"


def test_the_line_of_several_is_of_the_last_ones_call(logger, records):
    throttle = LogThrottle(logger)
    logger.addFilter(CallFilter())

    def call(number):
        work = Work("method", f"method{number}", "shop")
        current_call.set(Call(request_id=f"id{number}", work=work))
        throttle.log(logging.WARNING, "kind", f"no {number}")

    for number in range(3):
        gevent.spawn(call, number).join()
    wait_until(lambda: len(records()) == 2, "the rest is told")
    assert [(r.service, r.request_id, r.method) for r in records()] == [
        ("shop", "id0", "method0"),
        ("shop", "id2", "method2"),
    ]


def test_one_more_is_told_as_it_is(logger, lines):
    throttle = LogThrottle(logger)
    for number in range(2):
        throttle.log(logging.WARNING, "kind", f"no {number}")

    wait_until(lambda: len(lines()) == 2, "the rest is told")
    assert lines() == ["no 0", "no 1"]


def test_a_line_cannot_be_forged(logger, lines):
    LogThrottle(logger).log(logging.WARNING, "kind", "a\nb\x85c\x9bd")
    assert lines() == ["a\\nb\\x85c\\x9bd"]


def test_kinds_are_not_remembered_without_end(logger):
    throttle = LogThrottle(logger)
    for number in range(5000):
        throttle.log(logging.WARNING, number, "no")
    assert len(throttle._kinds) < 1000


def test_a_level_that_nobody_wants_costs_nothing(logger):
    throttle = LogThrottle(logger)
    throttle.log(logging.DEBUG, "kind", "no")
    assert not throttle._kinds


def test_a_broken_dependency_is_a_traceback_and_then_counts(logger, lines, records, caplog):
    """Every error id that a caller was told is found in the log, up to 50 a second."""

    def fail():
        raise ConnectionError("db away")

    def fail_otherwise():
        raise KeyError("x")

    offered = dispatcher(fail, fail_otherwise, logger=logger)
    ids = [call(offered, "fail")["data"]["error_id"] for _ in range(40)]
    call(offered, "fail_otherwise")
    wait_until(lambda: len(lines()) == 3, "the rest is told")

    assert [bool(record.exc_info) for record in records()] == [True, True, False]
    last = lines()[2]
    assert "and 38 more like it" in last
    assert "ConnectionError: 'db away'" in last
    assert all(error_id in caplog.text for error_id in ids)


def too_large():
    return "x" * 2000


def late():
    raise DeadlineExceeded


REFUSED = {
    "deadline": (request("late"), {}, "'late': Deadline exceeded"),
    "hops": (request("late"), {"hops": 99}, "'late': Too many hops"),
    "size": (request("too_large"), {}, "'too_large': Response too large"),
    "batch": ([request("late")] * 101, {}, "'a body': The batch has more than 100 items"),
    "nothing": (b"{", {}, "'a body': Parse error"),
    "brackets": (b"[" * 500_001, {}, "brackets"),
    "item": ([1, request("ok")], {}, "'an item': Invalid Request"),
    "encoding": (request("odd"), {}, "encoding the result of odd failed"),
    "overload": (request("ok"), {}, "'ok': Server overloaded"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("given", ["r-17", None], ids=["with an id", "without"])
def test_every_refusal_is_told_with_the_request_s_id(kind, given, logger, lines):
    content, about, said = REFUSED[kind]
    offered = dispatcher(
        late,
        too_large,
        method(object, name="odd"),
        method(lambda: 1, name="ok"),
        max_response_size=1000,
        max_body_size=100_000,
        max_waiting_calls=0,
        logger=logger,
    )
    if kind == "overload":
        offered.slots.in_use = offered.slots.limit
    context = CallContext(request_id=given, **about)
    ask(offered, content, context)

    (line,) = [line for line in lines() if said in line]
    assert re.search(r"request_id=(\S+)\]$", line)[1] == context.request_id
    assert context.request_id == (given or context.request_id)
    # One that the caller did not send is told to it; the transport tells it the one that it sent.
    told = [] if given else [("X-Request-Id", context.request_id)]
    assert [each for each in context.response_headers if each[0] == "X-Request-Id"] == told


def test_what_is_no_refusal_is_not_told(logger, lines):
    def sold_out():
        raise RpcError("sold out", code=7)

    offered = dispatcher(sold_out, method(lambda: 1, name="ok"), logger=logger)
    context = CallContext()
    ask(offered, request("ok"), context)
    assert not context.response_headers  # and so costs nothing
    call(offered, "sold_out")
    call(offered, "nothing")
    assert not lines()


@pytest.mark.parametrize("batch", [1, 100])
def test_unknown_notifications_write_less_than_they_send(batch, logger, lines):
    note = request("nothing", id=...)
    offered = dispatcher(logger=logger)
    for _ in range(200):
        assert ask(offered, [note] * batch if batch > 1 else note) is None
    wait_until(lambda: len(lines()) >= 2, "the rest is told")
    assert sum(map(len, lines())) < 200 * batch * len(str(note)) / 10


def test_a_failed_notification_tells_its_sender_nothing(logger, lines):
    def fail():
        raise ConnectionError("db away")

    context = CallContext()
    assert ask(dispatcher(fail, logger=logger), request("fail", id=...), context) is None
    assert not context.response_headers
    assert len(lines()) == 2


@pytest.mark.parametrize("item", ["[]", "{}", '{"a":[[]]}', '"["', "[" * 50 + "]" * 50])
def test_a_body_of_too_many_lists_and_objects_is_refused_before_they_are_made(item, logger):
    count = 500_000 // (item.count("[") + item.count("{"))
    params = ",".join([item] * count)
    many = f'{{"jsonrpc":"2.0","method":"length","params":[[{params}]],"id":1}}'.encode()
    offered = dispatcher(method(len, name="length"), logger=logger)

    refused = ask(offered, many)

    assert refused["error"]["code"] == -32600
    few = many.replace(f"{item},{item},{item},{item},".encode(), b"", 1)
    assert ask(offered, few)["result"] == count - 4
