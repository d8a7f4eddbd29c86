"""The publisher's loop: a queue in order, and the broker's confirms in a window.

What callers see belongs to `publisher`.

Hot path: `_next_batch`, `Message.settle` and `add` run for every event. Nothing is made per message
but the `Message` itself, and a loop that is awake is not woken.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import monkey

from ..envelope import Envelope
from ..link import Link, LinkLost, Outgoing
from ..topology import Address, Publication, Topology
from ..wakeups import Receipt, seconds_until
from .connection_loop import ConnectionLoop

__all__ = ["Handover", "PublisherLoop", "Question", "Submission"]

_native_lock = monkey.get_original("_thread", "RLock")

#: How many messages go to the link in one go: 64 take py-amqp 2 ms.
_BATCH = 64
#: Bytes of bodies that the broker may have to confirm at once. Each caller waits for what it emits,
#: so that nothing else waits here behind anybody's back; but what was sent stays until it is
#: confirmed, also when its caller waits no longer.
_UNCONFIRMED_SIZE = 32_000_000
#: Seconds between two looks whether everything is published.
_LOOK = 0.01
#: Seconds without the oldest message's confirm, while the broker is not blocked, after which the
#: connection counts as broken: a broker that answers heartbeats but confirms nothing.
_CONFIRM_LIMIT = 60.0


class Submission(Receipt):
    """The messages of a call of `Publisher.publish`, until all are settled or its time is over."""

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


class Handover(Submission):
    """A message that nobody waits for; its outcome is told, whenever that is.

    :param on_settled: called once, in the loop's thread: with None when the broker has it, else
        with the reason why it has not.
    """

    __slots__ = ("_loop", "_on_settled")

    def __init__(
        self,
        message: Publication,
        on_settled: Callable[[str | None], None],
        loop: PublisherLoop,
    ) -> None:
        Submission.__init__(self, [message])
        self._on_settled = on_settled
        self._loop = loop

    def wake(self) -> None:
        if self.refused:
            self._on_settled(self.refused[0][1])
        else:
            self._on_settled("the publisher was stopped" if self.left else None)

    def withdraw(self) -> None:
        """Do not send it, if it is not sent yet."""
        self._loop.withdraw(self)


class Message(Outgoing):
    """A message that was handed to a link."""

    __slots__ = ("call", "loop")

    def __init__(
        self,
        envelope: Envelope,
        address: Address,
        delay: float,
        call: Submission,
        loop: PublisherLoop,
    ) -> None:
        self.envelope = envelope
        self.address = address
        self.delay = delay
        self.call = call
        self.loop = loop

    # A method in the place of the attribute: no closure for each message.
    def settle(self, error: str | None) -> None:
        loop, call = self.loop, self.call
        if self not in loop.sent:
            return  # its link is gone: it went out again, or nobody waits for it
        del loop.sent[self]
        loop.unconfirmed_size -= len(self.envelope.body)
        if error is not None:
            call.refused.append((self.envelope, error))
        else:
            call.confirmed.append(self.envelope)
        call.left -= 1
        if call.left == 0:
            call.wake()

    def for_next_link(self) -> Message:
        """Make the same for another link."""
        return Message(self.envelope, self.address, self.delay, self.call, self.loop)


class Question(Receipt):
    """A function to be run with the link."""

    __slots__ = ("answer", "error", "function")

    def __init__(self, function: Callable[[Link], Any]) -> None:
        super().__init__()
        #: None once nobody wants to know any more.
        self.function: Callable[[Link], Any] | None = function
        self.answer: Any = None
        self.error: Exception | None = None


class PublisherLoop(ConnectionLoop):
    """The loop of one publisher's connection in one process.

    The lock guards what callers of other threads touch; nothing switches greenlets under it.
    """

    def __init__(self, make_link: Callable[[], Link], topology: Topology, **options: Any) -> None:
        super().__init__(make_link, **options)
        self._topology = topology
        self._lock = _native_lock()
        #: Calls with messages that no link has got yet, in order; and how many messages those are.
        #: (A plain dict would look through the places of all that left before the first one.)
        self._waiting: OrderedDict[Submission, None] = OrderedDict()
        self._queued = 0
        #: What went to the link and is not settled, in order, and the bytes of the bodies.
        self.sent: dict[Message, None] = {}
        self.unconfirmed_size = 0
        #: What a lost link has left unsettled: goes out before all else.
        self._to_resend: deque[Message] = deque()
        self._questions: deque[Question] = deque()
        # True once nobody takes anything out of the queue any more.
        self._closed = False
        self._oldest: Message | None = None
        self._oldest_since = 0.0

    # From callers, in any thread

    def add(self, call: Submission) -> bool:
        """Queue the messages of a call; False when it is too late for that."""
        with self._lock:
            if self.stopping or self._closed:
                return False
            call.ahead = self._queued
            self._queued += call.left
            self._waiting[call] = None
        self.wake()
        return True

    def withdraw(self, call: Submission) -> None:
        """Forget what was not sent yet of a call, and who is to be told of the rest."""
        with self._lock:
            call.gone = True
            if call in self._waiting:
                del self._waiting[call]
                self._queued -= len(call.messages) - call.taken
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
        while not self._is_idle():
            if time.monotonic() >= end:
                return False
            Receipt().wait(min(_LOOK, seconds_until(end)))
        return True

    def give_up(self) -> None:
        """Tell everybody who waits that nothing comes any more."""
        with self._lock:
            self._closed = True
            calls = {message.call for message in (*self._to_resend, *self.sent)}
            calls.update(self._waiting)
            self._waiting.clear()
            self._to_resend.clear()
            self.sent.clear()
            self._queued = self.unconfirmed_size = 0
        for call in calls:
            if call.left:
                call.wake()
        self._fail_questions()

    def why_not_ready(self) -> str | None:
        """Return None while it can publish; otherwise why not."""
        why = super().why_not_ready()
        link = self.link
        if why is None and link is not None and link.blocked:
            return f"blocked by the broker: {link.blocked_reason or 'no reason given'}"
        return why or (link.without_queue if link is not None else "") or None

    # The loop's greenlet

    def _run_with_link(self, link: Link) -> None:
        try:
            link.declare(self._topology)
            self._mark_ready()
            self._publish_over(link)
        finally:
            self._collect_unsettled()

    def _publish_over(self, link: Link) -> None:
        assert self.signal is not None
        while True:
            self.signal.clear()
            link.pump()
            if not link.blocked:
                self._answer_questions(link)
                self._publish_waiting(link)
            self._check_confirms(link)
            if self.stopping and self._is_idle():
                return
            self._let_others_run()
            link.wait(self.signal, min(1.0, max(0.01, seconds_until(self.deadline))))

    def _publish_waiting(self, link: Link) -> None:
        """Publish what waits, as far as the window goes."""
        while not link.blocked:
            batch = self._next_batch(min(_BATCH, link.window - len(self.sent)))
            if not batch:
                return
            self.sent.update(dict.fromkeys(batch))
            link.publish(batch)
            if self._let_others_run():
                link.pump()

    def _next_batch(self, most: int) -> list[Message]:
        batch: list[Message] = []
        with self._lock:
            size = self.unconfirmed_size
            while self._to_resend and len(batch) < most:
                message = self._to_resend.popleft()
                if not message.call.gone:
                    batch.append(message)
                    size += len(message.envelope.body)
            while self._waiting and len(batch) < most and size < _UNCONFIRMED_SIZE:
                call = next(iter(self._waiting))
                messages, first = call.messages, call.taken
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
                    del self._waiting[call]
            self.unconfirmed_size = size
        return batch

    def _collect_unsettled(self) -> None:
        """Have what the link has left unsettled go out over the next one, first and in order.

        Except for what nobody waits for: its caller was told that it failed.
        """
        with self._lock:
            unsettled = [message.for_next_link() for message in (*self.sent, *self._to_resend)]
            self._to_resend = deque(message for message in unsettled if not message.call.gone)
            self.sent.clear()
            self.unconfirmed_size = 0
        self._oldest = None

    def _check_confirms(self, link: Link) -> None:
        oldest = next(iter(self.sent), None)
        now = time.monotonic()
        if oldest is not self._oldest or link.blocked:
            self._oldest, self._oldest_since = oldest, now
        elif oldest is not None and now - self._oldest_since > _CONFIRM_LIMIT:
            raise LinkLost(f"the broker has not confirmed an event for {_CONFIRM_LIMIT:g} s")

    def _answer_questions(self, link: Link) -> None:
        while self._questions:
            question = self._questions.popleft()
            function = question.function
            if function is None:
                continue
            try:
                question.answer = function(link)
                question.left = 0
            except (Exception, gevent.Timeout) as error:
                question.error = (
                    error if isinstance(error, Exception) else LinkLost(f"timed out: {error}")
                )
                if isinstance(error, LinkLost):
                    raise
            finally:
                question.wake()

    def _is_idle(self) -> bool:
        with self._lock:
            again = any(not message.call.gone for message in self._to_resend)
            return not (self._queued or again or self.sent)

    def _fail_questions(self) -> None:
        while self._questions:
            question = self._questions.popleft()
            question.error = LinkLost(f"{self.name}: stopped")
            question.wake()

    def _at_end(self) -> None:
        self.give_up()
