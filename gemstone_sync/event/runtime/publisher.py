"""Publishing: what callers hand over, in order, with the broker's confirms in a window.

A `Publisher` is what transports use; it may be started again and outlives forks. The work of one
start in one process is a `PublishingOwner`'s. What a message says belongs to `envelope`, where it
goes to `topology`.

Hot path: `Publisher.publish` runs for every event.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...errors import EventNotDelivered
from ..link import Link, LinkLost
from ..topology import Publication, Topology
from .connection_loop import starting
from .publishing import Call, Handover, PublishingOwner, Question

__all__ = ["Publisher"]

T = TypeVar("T")


#: Event names that an error lists.
_NAMED = 3


class Publisher:
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
        logger: logging.Logger | None = None,
    ) -> None:
        self._name = name
        self._make_owner = functools.partial(
            PublishingOwner, make_link, topology, name=name, threaded=threaded, logger=logger
        )
        self._owner: PublishingOwner | None = None

    # Life

    def start(self) -> None:
        """Begin; returns at once. Does nothing when it runs, or is just being stopped."""
        owner = self._owner
        if owner is None or owner.inherited or (owner.ended and not owner.stopping):
            with starting():
                if self._owner is owner:
                    self._owner = self._make_owner()
                    self._owner.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Publish what waits, then end; cut off after so many seconds (and up to 2.5 s to close).

        Whoever publishes later gets `EventNotDelivered`, until it is started again.
        """
        owner = self._owner
        if owner is None:
            return
        owner.stop(timeout)
        if not owner.inherited:  # or its lock may be one that nobody here lets go
            owner.give_up()
        if self._owner is owner:
            self._owner = None

    def drain(self, timeout: float) -> bool:
        """Wait until nothing waits to be published; False when the time was not enough."""
        owner = self._owner
        return owner is None or owner.inherited or owner.drain(timeout)

    def why_not_ready(self) -> str | None:
        """None while it can publish; otherwise why not."""
        owner = self._owner
        if owner is None or owner.inherited:
            return f"{self._name}: not started"
        why = owner.why_not_ready()
        return None if why is None else f"{self._name}: {why}"

    # Work

    def publish(self, messages: Sequence[Publication], timeout: float) -> None:
        """Publish (envelope, address, delay) triples; return when the broker has all of them.

        :param timeout: seconds. What was not sent by then is not sent any more.
        :raises EventNotDelivered: the broker has refused or not confirmed some of them; the text
            says which, why, and how many may still arrive.
        """
        if not messages:
            return
        owner = self._owner_for_use("publish")
        call = Call(messages)
        if owner is None or not owner.add(call):
            raise EventNotDelivered(f"{self._name}: {_names(messages)}: {self._not_running()}")
        try:
            in_time = call.wait(timeout)
        except BaseException:
            # The caller is killed, or its own time is over.
            owner.withdraw(call)
            raise
        if call.left or not in_time:
            owner.withdraw(call)
        if call.left or call.refused:
            refused = {envelope.id: EventNotDelivered(why) for envelope, why in [*call.refused]}
            known = {envelope.id for envelope in [*call.confirmed]} | refused.keys()
            raise EventNotDelivered(
                self._explain(owner, call, timeout),
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
        owner = self._owner_for_use("hand_over")
        if owner is not None:
            handover = Handover(message, told, owner)
            if owner.add(handover):
                return handover
        told(f"{self._name}: {self._not_running()}")
        return None

    def ask(self, function: Callable[[Link], T], timeout: float) -> T:
        """Run a function with the open link, in the owner's greenlet; return what it returns.

        :param timeout: seconds.
        :raises LinkLost: when there is no connection in that time. What the function raises is
            raised here.
        """
        owner = self._owner_for_use("ask")
        if owner is None:
            raise LinkLost(f"{self._name}: {self._not_running()}")
        question = Question(function)
        owner.ask(question)
        try:
            in_time = question.wait(timeout)
        finally:
            question.function = None
        if question.error is not None:
            raise question.error
        if question.left or not in_time:
            why = owner.why_not_ready() or "the broker does not answer"
            raise LinkLost(f"{self._name}: nothing learnt within {timeout:g} s: {why}")
        return question.answer  # type: ignore[no-any-return]

    def _owner_for_use(self, verb: str) -> PublishingOwner | None:
        """The owner that runs in this process; one that was started before a fork starts anew."""
        owner = self._owner
        if owner is not None and (owner.inherited or owner.ended):
            self.start()
            owner = self._owner
        if owner is not None and owner.is_current():
            raise RuntimeError(
                f"{self._name}: {verb} was called by the publisher's own greenlet, which would "
                "wait for itself: call it in another one (gevent.spawn)"
            )
        return owner

    def _not_running(self) -> str:
        return "not started" if self._owner is None else "being stopped"

    def _explain(self, owner: PublishingOwner, call: Call, timeout: float) -> str:
        count, unsent = len(call.messages), len(call.messages) - call.taken
        reasons = []
        if call.refused:
            reasons.append("; ".join(sorted({reason for _, reason in call.refused})))
        if call.left:
            reasons.append(self._why_unconfirmed(owner, call, timeout))
            pending = call.left - unsent
            reasons.append(
                "not sent" if not pending else f"{pending} sent already may still arrive"
            )
        failed = call.left + len(call.refused)
        names = _names(call.messages[call.taken :] if unsent else call.messages)
        if not call.left:
            names = _listed(envelope.name for envelope, _ in call.refused)
        return f"{self._name}: {failed} of {count} not delivered ({names}): {'; '.join(reasons)}"

    def _why_unconfirmed(self, owner: PublishingOwner, call: Call, timeout: float) -> str:
        if owner.stopping or owner.ended:
            return "the publisher was stopped"
        why = owner.why_not_ready()
        if why is None and call.ahead:
            why = f"{call.ahead} events were waiting before it"
        return f"not confirmed within {timeout:g} s" + (f": {why}" if why else "")


def _names(messages: Sequence[Publication]) -> str:
    return _listed(envelope.name for envelope, _, _ in messages)


def _listed(names: Any) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _NAMED} more" if len(distinct) > _NAMED else ""
    return ", ".join(distinct[:_NAMED]) + more
