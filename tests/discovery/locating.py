"""Strategies that answer as a test tells them, for the tests of what asks them."""

from typing import Any

from gevent.event import Event

from gemstone_sync.concurrency import current_call
from tests.support.waiting import LIMIT

A, B = "http://10.0.0.1:8000/api", "http://10.0.0.2:8000/api"
LONG = 1000.0


class Strategy:
    """Answers with what it has been given: URLs, or an exception.

    :ivar asked: the names that it was asked for.
    :ivar may_answer: cleared, it hangs.
    """

    def __init__(self, found: Any = ()) -> None:
        self.found = found
        self.asked: list[str] = []
        self.calls: list[Any] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.closed = 0

    def locate(self, name: str) -> Any:
        self.asked.append(name)
        self.calls.append(current_call.get())
        assert self.may_answer.wait(LIMIT), "a test did not set its event"
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found

    def close(self) -> None:
        self.closed += 1

    def __str__(self) -> str:
        return "the strategy"


class OtherStrategy(Strategy):
    """Of another class: asked after or before, never beside."""

    def __str__(self) -> str:
        return "the other one"
