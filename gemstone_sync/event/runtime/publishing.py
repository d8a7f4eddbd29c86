"""The owner of a publisher's connection: a queue in order, and the broker's confirms in a window.

What callers see belongs to `publisher`.

Hot path: `_take`, `Message.settle` and `add` run for every event. Nothing is made per message but
the `Message` itself, and an owner that is awake is not woken.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import monkey

from ..envelope import Envelope
from ..link import Link, LinkLost, Outgoing
from ..topology import Address, Publication, Topology
from ..wakeups import Receipt, seconds_until
from .connection_loop import Owner

__all__ = ["Call", "Handover", "PublishingOwner", "Question"]

_native_lock = monkey.get_original("_thread", "RLock")

#: How many messages go to the link in one go: 64 take py-amqp 2 ms.
_BATCH = 64
#: Bytes of bodies that the broker may have to confirm at once. Each caller waits for what it emits,
#: so that nothing else waits here behind anybody's back; but what was sent stays until it is
#: confirmed, also when its caller waits no longer.
_UNCONFIRMED_SIZE = 32_000_000
#: Seconds without the oldest message's confirm, while the broker is not blocked, after which the
#: connection counts as broken: a broker that answers heartbeats but confirms nothing.
_CONFIRM_LIMIT = 60.0


class Call(Receipt):
    """One call of `Publisher.publish`, until everything in it is settled or its time is over."""

    __slots__ = ("ahead", "confirmed", "gone", "messages", "refused", "taken")

    def __init__(self, messages: Sequence[Publication]) -> None:
        Receipt.__init__(self, len(messages))
        self.messages = messages
        #: How many were handed to a link.
        self.taken = 0
        #: Those that the broker has, and those that it does not take with the reasons.
        self.confirmed: list[Envelope] = []
        self.refused: list[tuple[Envelope, str]] = []
        #: The caller waits no longer.
        self.gone = False
        #: How many waited when it came.
        self.ahead = 0


class Handover(Call):
    """A message that nobody waits for: what becomes of it is told, whenever that is.

    :param told: called once, in the owner's thread: with None when the broker has it, else with the
        reason why it has not.
    """

    __slots__ = ("_owner", "_told")

    def __init__(
        self,
        message: Publication,
        told: Callable[[str | None], None],
        owner: PublishingOwner,
    ) -> None:
        Call.__init__(self, [message])
        self._told = told
        self._owner = owner

    def wake(self) -> None:
        if self.refused:
            self._told(self.refused[0][1])
        else:
            self._told("the publisher was stopped" if self.left else None)

    def withdraw(self) -> None:
        """Do not send it, if it is not sent yet."""
        self._owner.withdraw(self)


class Message(Outgoing):
    """A message that was handed to a link."""

    __slots__ = ("call", "owner", "settled")

    def __init__(
        self,
        envelope: Envelope,
        address: Address,
        delay: float,
        call: Call,
        owner: PublishingOwner,
    ) -> None:
        self.envelope = envelope
        self.address = address
        self.delay = delay
        self.call = call
        self.owner = owner
        self.settled = False

    # A method in the place of the attribute: no closure for each message.
    def settle(self, error: str | None) -> None:
        if self.settled:
            return
        self.settled = True
        self.owner.unconfirmed -= 1
        self.owner.unconfirmed_size -= len(self.envelope.body)
        call = self.call
        if error is not None:
            call.refused.append((self.envelope, error))
        else:
            call.confirmed.append(self.envelope)
        call.left -= 1
        if call.left == 0:
            call.wake()

    def again(self) -> Message:
        """The same for another link; this one hears no more of what becomes of it."""
        self.settled = True
        return Message(self.envelope, self.address, self.delay, self.call, self.owner)


class Question(Receipt):
    """A function to be run with the link."""

    __slots__ = ("answer", "error", "function")

    def __init__(self, function: Callable[[Link], Any]) -> None:
        super().__init__()
        #: None once nobody wants to know any more.
        self.function: Callable[[Link], Any] | None = function
        self.answer: Any = None
        self.error: Exception | None = None


class PublishingOwner(Owner):
    """The owner of one publisher's connection in one process.

    The lock guards what callers of other threads touch; nothing switches greenlets under it.
    """

    def __init__(self, make_link: Callable[[], Link], topology: Topology, **options: Any) -> None:
        super().__init__(make_link, **options)
        self._topology = topology
        self._lock = _native_lock()
        #: Calls with messages that no link has got yet, in order, and some that are gone; and how
        #: many messages those are.
        self._waiting: deque[Call] = deque()
        self._queued = 0
        self._withdrawn = 0
        #: What went to the link, in order, the unsettled and some of the settled.
        self._sent: deque[Message] = deque()
        #: How many of them are not settled, and the bytes of their bodies.
        self.unconfirmed = self.unconfirmed_size = 0
        #: What a lost link has left unsettled: goes out before all else.
        self._again: deque[Message] = deque()
        self._questions: deque[Question] = deque()
        self._drains: list[Receipt] = []
        # True once nobody takes anything out of the queue any more.
        self._closed = False
        self._oldest: Message | None = None
        self._oldest_since = 0.0

    # From callers, in any thread

    def add(self, call: Call) -> bool:
        """Queue the messages of a call; False when it is too late for that."""
        with self._lock:
            if self.stopping or self._closed:
                return False
            call.ahead = self._queued
            self._queued += call.left
            self._waiting.append(call)
        self.wake()
        return True

    def withdraw(self, call: Call) -> None:
        """Forget what was not sent yet of a call, and who is to be told of the rest."""
        with self._lock:
            call.gone = True
            left = len(call.messages) - call.taken
            if left and not self._closed:
                self._queued -= left
                self._withdrawn += 1
                # Not looked for one by one: thousands may give up while the broker is away.
                if self._withdrawn * 2 > len(self._waiting):
                    self._waiting = deque(call for call in self._waiting if not call.gone)
                    self._withdrawn = 0
        self._tell_drained()
        self.interrupt()

    def ask(self, question: Question) -> None:
        """Have a question answered as soon as there is a link."""
        self._questions.append(question)
        if self._closed:
            self._fail_questions()
        self.wake()

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is left to publish; False when so many seconds were not enough."""
        end = time.monotonic() + timeout
        # Again: between the wake-up and here somebody may have published.
        while self._wait_drained(seconds_until(end)):
            if not self._has_work():
                return True
        return False

    def _wait_drained(self, timeout: float) -> bool:
        drained = Receipt()
        self._drains.append(drained)
        self._tell_drained()
        try:
            return drained.wait(timeout)
        finally:
            self._drains = [other for other in self._drains if other is not drained]

    def give_up(self) -> None:
        """Tell everybody who waits that nothing comes any more."""
        with self._lock:
            self._closed = True
            calls = {message.call for message in (*self._again, *self._sent)}
            calls.update(self._waiting)
            self._waiting.clear()
            self._again.clear()
            self._sent.clear()
            self._queued = self.unconfirmed = self.unconfirmed_size = 0
        for call in calls:
            if call.left:
                call.wake()
        self._fail_questions()
        self._tell_drained()

    def why_not_ready(self) -> str | None:
        """None while it can publish; otherwise why not."""
        why = super().why_not_ready()
        link = self.link
        if why is None and link is not None and link.blocked:
            return f"blocked by the broker: {link.blocked_reason or 'no reason given'}"
        return why or (link.without_queue if link is not None else "") or None

    # The owner's greenlet

    def _use(self, link: Link) -> None:
        try:
            link.declare(self._topology)
            self._is_ready()
            self._publish_over(link)
        finally:
            self._collect_unsettled()

    def _publish_over(self, link: Link) -> None:
        assert self.signal is not None
        while True:
            self.signal.clear()
            link.pump()
            self._forget_settled()
            if not link.blocked:
                self._answer(link)
                self._hand_over(link)
            self._check_confirms(link)
            self._tell_drained()
            if self.stopping and not self._has_work():
                return
            self._breathe()
            link.wait(self.signal, min(1.0, max(0.01, seconds_until(self.deadline))))

    def _hand_over(self, link: Link) -> None:
        """Publish what waits, as far as the window goes."""
        while not link.blocked:
            batch = self._take(min(_BATCH, link.window - self.unconfirmed))
            if not batch:
                return
            self._sent.extend(batch)
            self.unconfirmed += len(batch)
            link.publish(batch)
            if self._breathe():
                link.pump()
                self._forget_settled()

    def _take(self, most: int) -> list[Message]:
        batch: list[Message] = []
        with self._lock:
            size = self.unconfirmed_size
            while self._again and len(batch) < most:
                message = self._again.popleft()
                if not message.call.gone:
                    batch.append(message)
                    size += len(message.envelope.body)
            while self._waiting and len(batch) < most and size < _UNCONFIRMED_SIZE:
                call = self._waiting[0]
                messages, first = call.messages, call.taken
                if call.gone:
                    self._waiting.popleft()
                    self._withdrawn -= 1
                    continue
                if first or len(messages) > most - len(batch):
                    messages = messages[first : first + most - len(batch)]
                taken = 0
                for envelope, address, delay in messages:
                    if delay and envelope.due is not None:  # it may have waited here for long
                        delay = max(0.0, envelope.due - time.time())
                    batch.append(Message(envelope, address, delay, call, self))
                    taken += 1
                    size += len(envelope.body)
                    if size >= _UNCONFIRMED_SIZE:
                        break
                call.taken = first + taken
                self._queued -= taken
                if call.taken == len(call.messages):
                    self._waiting.popleft()
            self.unconfirmed_size = size
        return batch

    def _forget_settled(self) -> None:
        sent = self._sent
        while sent and sent[0].settled:
            sent.popleft()
        # Confirms come in any order: an old one that is missing must not keep all later ones here.
        if len(sent) > 1000 and len(sent) > 2 * self.unconfirmed:
            self._sent = deque(message for message in sent if not message.settled)

    def _collect_unsettled(self) -> None:
        """What the link has left unsettled goes out over the next one, first and in order.

        Except for what nobody waits for: its caller was told that it failed.
        """
        with self._lock:
            left = [message for message in (*self._sent, *self._again) if not message.settled]
            again = [message.again() for message in left]
            self._again = deque(message for message in again if not message.call.gone)
            self._sent.clear()
            self.unconfirmed = self.unconfirmed_size = 0
        self._oldest = None

    def _check_confirms(self, link: Link) -> None:
        oldest = self._sent[0] if self._sent else None
        now = time.monotonic()
        if oldest is not self._oldest or link.blocked:
            self._oldest, self._oldest_since = oldest, now
        elif oldest is not None and now - self._oldest_since > _CONFIRM_LIMIT:
            raise LinkLost(f"the broker has not confirmed an event for {_CONFIRM_LIMIT:g} s")

    def _answer(self, link: Link) -> None:
        while self._questions:
            question = self._questions.popleft()
            function = question.function
            if function is None:
                continue
            try:
                question.answer = function(link)
                question.settle()
            except LinkLost as error:
                question.error = error
                question.wake()
                raise
            except (Exception, gevent.Timeout) as error:
                question.error = (
                    error if isinstance(error, Exception) else LinkLost(f"timed out: {error}")
                )
                question.wake()

    def _has_work(self) -> bool:
        with self._lock:
            again = any(not message.call.gone for message in self._again)
            return bool(self._queued or again or self.unconfirmed)

    def _may_end(self) -> bool:
        return not self._has_work()

    def _tell_drained(self) -> None:
        if self._drains and not self._has_work():
            for drained in self._drains:
                drained.wake()

    def _fail_questions(self) -> None:
        while self._questions:
            question = self._questions.popleft()
            question.error = LinkLost(f"{self.name}: stopped")
            question.wake()

    def _at_end(self) -> None:
        self.give_up()
