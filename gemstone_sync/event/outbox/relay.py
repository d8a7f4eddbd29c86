"""Sending what one database holds, in order, until it is empty, and then again."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import gevent

from ...concurrency import USER_FAULTS, is_patched
from ...concurrency.native import NativeThreads
from ...errors import StoreFault
from ..envelope import Envelope
from ..wakeups import Signal
from .asking import ask
from .box import Box, Row, Waiting
from .lane import Complaints, Event, Lane, Refusal, Send, back_off
from .tenure import Tenure

__all__ = ["Relay"]

T = TypeVar("T")

#: What a transport has answered of events, by their ids.
_Outcomes = dict[int, Refusal | None]

#: What one call of `send` gets at most: events, and bytes of them.
ROWS = 500
SIZE = 4_000_000

#: Seconds without events after which another process may send as well.
_IDLE = 1.0

#: Seconds for which a transport that has answered waits for the others. After that they have theirs
#: from where it waits for them, and the next events go out.
_PATIENCE = 1.0

#: After a transaction was left: for so many seconds look so often whether it was committed.
_EXPECTING, _EXPECTING_INTERVAL = 5.0, 0.02

#: Seconds between two looks for events that are refused.
_LOOK = 1.0


class Relay:
    """Sends the events of one box. Made and run in the thread whose hub it uses.

    New events go to every transport at once. What one of them has not got when others have, or
    refuses, waits for that one: it goes out as soon as the transport is there, before what is new,
    or when its own time has come.

    :param sends: see `Outbox.start`.
    :param owner: what tells this process's relays from those of others.
    :ivar trouble: how much is refused, and why; None when nothing is.
    """

    def __init__(
        self, box: Box, sends: Mapping[str, Send], owner: str, logger: logging.Logger
    ) -> None:
        self._box = box
        self._logger = logger
        # One reads and deletes, one beats, and in an unpatched process each transport sends.
        self._threads = NativeThreads(2 + 2 * len(sends))
        self._lanes = [
            Lane(name, functools.partial(self._send_all, send), Complaints(box.name, logger))
            for name, send in sends.items()
        ]
        self._complaints = Complaints(box.name, logger)
        self._tenure = Tenure(box, self._call, owner)
        self._wake = Signal()
        self._stopping = Signal()
        self._expecting_until = 0.0
        self._last_sent = 0.0
        self._look_at = 0.0
        self.trouble: tuple[int, str] | None = None
        self._told: str | None = None
        #: What was sent, and is not noted yet: ids, and what waits of them.
        self._answered: tuple[list[int], list[Waiting]] = ([], [])
        self._greenlets: set[gevent.Greenlet[..., None]] = set()

    # From other greenlets and threads

    def wake(self) -> None:
        """Something was stored."""
        self._wake.set()

    def expect(self) -> None:
        """Something may be committed in the next seconds."""
        self._expecting_until = time.monotonic() + _EXPECTING
        self._wake.set()

    def stop(self) -> None:
        """Send what is there, as long as that works, and end."""
        self._stopping.set()
        self._wake.set()

    # The loop

    def run(self) -> None:
        """Send until `stop` is called."""
        # What was stored before `stop` is looked for after it, once at least.
        failures, last = 0, False
        try:
            while True:
                self._wake.clear()
                if self._stopping.is_set() and not last:
                    last = True
                    for lane in self._lanes:
                        lane.ready_at = 0.0
                try:
                    busy = self._turn()
                    self._look_for_trouble()
                except USER_FAULTS as error:
                    self._complaints.complain(error)
                    if last:
                        return
                    failures += 1
                    self._stopping.wait(back_off(failures))
                    continue
                failures = 0
                self._complaints.recover()
                if busy:
                    continue
                if last and not any(lane.busy for lane in self._lanes):
                    return
                self._wake.wait(self._pause())
        finally:
            self._end()

    def _turn(self) -> bool:
        """Send one batch; False when there is nothing to send, or nothing that we may send."""
        self._note()
        if not self._tenure.held:
            if not self._call(self._box.has_events):
                return False
            self._call(self._box.prepare)
            if not self._tenure.take():
                return False
            waiting = self._call(self._box.adopt, [lane.name for lane in self._lanes])
            for lane in self._lanes:
                lane.behind, lane.look_at = lane.name in waiting, time.monotonic() + _LOOK
                lane.lines = set()
        for lane in self._lanes:
            if lane.is_ready() and (lane.behind or lane.look_at <= time.monotonic()):
                lane.busy = True
                self._spawn(self._catch_up, lane)
        free = [lane for lane in self._lanes if lane.is_ready() and not lane.behind]
        if not free:
            return False
        rows = self._call(self._box.read, ROWS, SIZE)
        if not rows:
            quiet = time.monotonic() - self._last_sent > _IDLE
            if quiet and len(free) == len(self._lanes):
                self._tenure.give_back()
            return False
        self._last_sent = time.monotonic()
        self._distribute(self._readable(rows), free)
        return True

    def _pause(self) -> float:
        now = time.monotonic()
        if now < self._expecting_until:
            return _EXPECTING_INTERVAL
        waits = [lane.ready_at - now for lane in self._lanes if not lane.busy]
        return min([self._box.poll_interval, *(wait for wait in waits if wait > 0)])

    def _end(self) -> None:
        gevent.killall([*self._greenlets])
        try:
            self._note()
            self._tenure.give_back()
            self._call(self._box.close)
        except StoreFault as error:
            self._logger.debug("outbox: %s", error)

    def _look_for_trouble(self) -> None:
        if time.monotonic() >= self._look_at:
            self.trouble = self._call(self._box.trouble)
            if self.trouble is None:
                self._told = None
            self._look_at = time.monotonic() + _LOOK

    # New events

    def _readable(self, rows: Sequence[Row]) -> list[Event]:
        events = []
        for row in rows:
            try:
                envelope = Envelope.from_json(row.event)
            except ValueError as error:
                refusal = Refusal(f"{type(error).__name__}: {error}", True)
                self._tell_set_aside("an event", refusal)
                waiting = Waiting(row.id, "", row.event, None, None, 0, refusal.reason, time.time())
                self._call(self._box.move, [row.id], [waiting])
            else:
                events.append(Event(row.id, envelope, row.event, row.attempts))
        return events

    def _distribute(self, events: Sequence[Event], free: Sequence[Lane]) -> None:
        """Give them to the transports that are free, and note what became of each at each."""
        if not events:
            return
        outcomes: dict[str, _Outcomes] = {}
        behind = {
            lane.name: {event.id for event in events if lane.lines and event.line in lane.lines}
            for lane in free
        }
        asked: dict[Lane, list[Event]] = {
            lane: [event for event in events if event.id not in behind[lane.name]] for lane in free
        }
        if len(self._lanes) == 1:
            lane = free[0]
            outcomes[lane.name] = lane.deliver(asked[lane]) if asked[lane] else {}
        else:
            self._ask_at_once(asked, outcomes)
        everything_moves = len(outcomes) < len(free)  # one that does not answer may have got it
        decided = [*outcomes.values(), *behind.values()]
        ids, waiting = [], []
        for event in events:
            if not (everything_moves or any(event.id in each for each in decided)):
                continue  # nobody has it: it stays where it is
            ids.append(event.id)
            for lane in self._lanes:
                answers = outcomes.get(lane.name, {})
                if event.id not in answers:
                    waiting.append(_waiting(event, lane.name, None, lane.why))
                elif (refusal := answers[event.id]) is not None:
                    self._tell_refused(lane, event, refusal)
                    waiting.append(_waiting(event, lane.name, refusal))
        self._answered = (ids, waiting)
        self._note()

    def _ask_at_once(
        self, asked: Mapping[Lane, Sequence[Event]], outcomes: dict[str, _Outcomes]
    ) -> None:
        """Until all have answered, or one has for a while and the others do not."""

        def deliver(lane: Lane, events: Sequence[Event]) -> None:
            answers: _Outcomes = {}
            try:
                answers = lane.deliver(events) if events else {}
            finally:
                if lane in pending:
                    pending.remove(lane)
                    outcomes[lane.name] = answers
                    lane.busy = False
                    answered.set()
                else:
                    self._late(lane, events, answers)

        pending, answered = list(asked), Signal()
        for lane, events in asked.items():
            lane.busy = True
            self._spawn(deliver, lane, events)
        end = None
        while pending:
            answered.clear()
            if end is None and any(outcomes.values()):
                end = time.monotonic() + _PATIENCE
            if not answered.wait(None if end is None else max(0.0, end - time.monotonic())):
                pending.clear()

    def _late(self, lane: Lane, events: Sequence[Event], answers: _Outcomes) -> None:
        """The events wait for it by now, and perhaps need not."""
        try:
            while self._answered[0]:  # that they do is being written down
                gevent.sleep(0.01)
            self._settle(lane, events, answers)
        except StoreFault as error:
            self._complaints.complain(error)
        finally:
            lane.busy = False
            self._wake.set()

    def _note(self) -> None:
        """Write down what became of events; when that fails, they are not sent again meanwhile."""
        ids, waiting = self._answered
        if waiting:
            self._call(self._box.move, ids, waiting)
        elif ids:
            self._call(self._box.delete, ids)
        self._answered = ([], [])
        behind = {each.transport for each in waiting if not each.refused}
        for lane in self._lanes:
            # Now that it is there: one that looks just now may not have seen it.
            lane.behind = lane.behind or lane.name in behind

    # Events that wait

    def _catch_up(self, lane: Lane) -> None:
        """Send what waits for a transport and is due, until there is nothing, or it is away."""
        try:
            while self._tenure.held:
                lane.behind, lane.look_at = False, time.monotonic() + _LOOK
                rows = self._call(self._box.read_waiting, lane.name, ROWS, SIZE)
                if not rows:
                    lane.lines = self._call(self._box.lines, lane.name)
                    if lane.behind:
                        continue
                    return
                lane.behind = True
                events = self._readable(rows)
                answers = lane.deliver(events)
                self._settle(lane, events, answers)
                self._last_sent = time.monotonic()
                if len(answers) < len(events):
                    return
        except StoreFault as error:
            self._complaints.complain(error)
            lane.ready_at = time.monotonic() + back_off(1)
        finally:
            lane.busy = False
            self._wake.set()

    def _settle(self, lane: Lane, events: Sequence[Event], answers: _Outcomes) -> None:
        done, again = [], []
        for event in events:
            if event.id in answers:
                refusal = answers[event.id]
                if refusal is None:
                    done.append(event.id)
                else:
                    self._tell_refused(lane, event, refusal)
                    again.append((event.id, refusal.due(event.attempts), refusal.reason))
        if done or again:
            self._call(self._box.settle, lane.name, done, again)

    def _tell_refused(self, lane: Lane, event: Event, refusal: Refusal) -> None:
        self._look_at = 0.0
        if refusal.never:
            self._tell_set_aside(repr(event.envelope.name), refusal)
            return
        if event.line is not None:
            lane.lines.add(event.line)
        if refusal.reason != self._told:  # of thousands with one reason the first
            self._told = refusal.reason
            self._logger.warning(
                "outbox: %r in %s waits: %s", event.envelope.name, self._box.name, refusal.reason
            )

    def _tell_set_aside(self, what: str, refusal: Refusal) -> None:
        self._logger.error(
            "outbox: %s in %s can never be sent and was set aside: %s",
            what,
            self._box.name,
            refusal.reason,
        )

    # Without blocking the hub

    def _spawn(self, function: Callable[..., None], *args: object) -> None:
        greenlet = gevent.spawn(function, *args)
        self._greenlets.add(greenlet)
        greenlet.rawlink(self._greenlets.discard)

    def _send_all(self, send: Send, envelopes: Sequence[Envelope]) -> None:
        if is_patched():
            send(envelopes)
        else:
            # It may really block the thread, and the lease must be kept meanwhile.
            self._threads.call(send, envelopes)

    def _call(self, function: Callable[..., T], *args: object) -> T:
        return ask(self._threads, self._box, function, *args)


def _waiting(event: Event, transport: str, refusal: Refusal | None, why: str = "") -> Waiting:
    """What is to be noted of an event that a transport has not got, or refuses."""
    due, attempts = (0.0, 0) if refusal is None else (refusal.due(0), 1)
    reason = why if refusal is None else refusal.reason
    return Waiting(event.id, transport, event.event, event.line, due, attempts, reason, time.time())
