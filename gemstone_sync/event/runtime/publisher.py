"""Publishing: what callers hand over, in order, with the broker's confirms in a window.

A `Publisher` is what transports use; it may be started again and outlives forks. What happens on
the connection of one start belongs to `publisher_loop`, what a message says to `envelope`, where it
goes to `topology`.

Hot path: `Publisher.publish` runs for every event.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ...errors import EventNotDelivered
from ..link import Link, LinkLost
from ..topology import Publication, Topology
from .connection_loop import Runner
from .publisher_loop import Handover, PublisherLoop, Question, Submission

__all__ = ["Publisher"]

T = TypeVar("T")

#: Event names that an error lists.
_NAMED = 3


class Publisher(Runner[PublisherLoop]):
    """Publishes over a connection of its own, in the order in which events are handed over.

    :param make_link: makes a link that is not open yet.
    :param topology: is declared on each new connection.
    :param name: what the log and errors call it.
    :param threaded: True for a native thread of its own, False for the main thread's hub, if that
        is where it is started; None to do what fits the process.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
        topology: Topology,
        *,
        name: str,
        threaded: bool | None = None,
    ) -> None:
        make_loop = functools.partial(
            PublisherLoop, make_link, topology, name=name, threaded=threaded
        )
        super().__init__(name, make_loop)

    def stop(self, timeout: float = 10.0) -> None:
        """Publish what waits, then end; cut off after so many seconds (and up to 2.5 s to close).

        Whoever publishes later gets `EventNotDelivered`, until it is started again.
        """
        loop = self._loop
        if loop is None:
            return
        try:
            self._stop_loop(loop, timeout)
        finally:
            if not loop.inherited:  # or its lock may be one that nobody here lets go
                loop.give_up()

    def drain(self, timeout: float) -> bool:
        """Wait until nothing waits to be published; False when the time was not enough."""
        loop = self._loop
        return loop is None or loop.inherited or loop.drain(timeout)

    def publish(self, messages: Sequence[Publication], timeout: float) -> None:
        """Publish (envelope, address, delay) triples; return when the broker has all of them.

        :param timeout: seconds. What was not sent by then is not sent any more.
        :raises EventNotDelivered: the broker has refused or not confirmed some of them; the text
            says which, why, and how many may still arrive.
        """
        if not messages:
            return
        loop = self._loop_for_use("publish")
        call = Submission(messages)
        if loop is None or not loop.add(call):
            raise EventNotDelivered(f"{self._name}: {_names(messages)}: {self._not_running()}")
        try:
            call.wait(timeout)
        finally:
            if call.left:  # its time is over, or the caller was killed
                loop.withdraw(call)
        if call.left or call.refused:
            refused = {envelope.id: EventNotDelivered(why) for envelope, why in [*call.refused]}
            known = {envelope.id for envelope in [*call.confirmed]} | refused.keys()
            raise EventNotDelivered(
                self._explain(loop, call, timeout),
                refused=refused,
                unconfirmed=[each.id for each, _, _ in messages if each.id not in known],
            )

    def hand_over(
        self, message: Publication, told: Callable[[str | None], None]
    ) -> Handover | None:
        """Publish a message as soon as the broker takes it; do not wait for it.

        :param told: called once, in whatever thread: with None when the broker has it, else with
            the reason why it has not.
        :returns: what can be withdrawn; None when this publisher is not running.
        """
        loop = self._loop_for_use("hand_over")
        if loop is not None:
            handover = Handover(message, told, loop)
            if loop.add(handover):
                return handover
        told(f"{self._name}: {self._not_running()}")
        return None

    def ask(self, function: Callable[[Link], T], timeout: float) -> T:
        """Run a function with the open link, in the loop's greenlet; return what it returns.

        :param timeout: seconds.
        :raises LinkLost: when there is no connection in that time. What the function raises is
            raised here.
        """
        loop = self._loop_for_use("ask")
        if loop is None:
            raise LinkLost(f"{self._name}: {self._not_running()}")
        question = Question(function)
        loop.ask(question)
        try:
            question.wait(timeout)
        finally:
            question.function = None
        if question.error is not None:
            raise question.error
        if question.left:
            why = loop.why_not_ready() or "the broker does not answer"
            raise LinkLost(f"{self._name}: nothing learnt within {timeout:g} s: {why}")
        return question.answer  # type: ignore[no-any-return]

    def _loop_for_use(self, verb: str) -> PublisherLoop | None:
        """Return the loop that runs in this process; one from before a fork is started anew."""
        loop = self._loop
        if loop is not None and (loop.inherited or loop.ended):
            self.start()
            loop = self._loop
        if loop is not None and loop.is_current():
            raise RuntimeError(
                f"{self._name}: {verb} was called by the publisher's own greenlet, which would "
                "wait for itself: call it in another one (gevent.spawn)"
            )
        return loop

    def _not_running(self) -> str:
        return "not started" if self._loop is None else "being stopped"

    def _explain(self, loop: PublisherLoop, call: Submission, timeout: float) -> str:
        count, unsent = len(call.messages), len(call.messages) - call.taken
        failed = call.left + len(call.refused)
        names = _names(call.messages[call.taken :] if unsent else call.messages)
        reasons = sorted({reason for _, reason in call.refused})
        if call.left:
            pending = call.left - unsent
            reasons.append(self._why_unconfirmed(loop, call, timeout))
            reasons.append(
                "not sent" if not pending else f"{pending} sent already may still arrive"
            )
        else:
            names = _listed(envelope.name for envelope, _ in call.refused)
        return f"{self._name}: {failed} of {count} not delivered ({names}): {'; '.join(reasons)}"

    def _why_unconfirmed(self, loop: PublisherLoop, call: Submission, timeout: float) -> str:
        if loop.stopping or loop.ended:
            return "the publisher was stopped"
        why = loop.why_not_ready()
        if why is None and call.ahead:
            why = f"{call.ahead} events were waiting before it"
        return f"not confirmed within {timeout:g} s" + (f": {why}" if why else "")


def _names(messages: Sequence[Publication]) -> str:
    return _listed(envelope.name for envelope, _, _ in messages)


def _listed(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _NAMED} more" if len(distinct) > _NAMED else ""
    return ", ".join(distinct[:_NAMED]) + more
