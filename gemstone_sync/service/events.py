"""Emitting events: the methods of a service that publish them."""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from ..concurrency import current_call, is_patched, let_others_run
from ..errors import ServiceConfigurationError
from ..event.emission import make_envelope, make_envelopes
from ..event.envelope import Envelope
from ..event.traced import published
from ..number_checks import is_number
from ..ops import overrides
from ..protocol import PLAIN, Encoder
from .base import ServiceBase
from .decorators import UNMARKED, marks_of
from .emitted import Emitted
from .event_runtime import EventRuntime

__all__ = ["Events"]

#: Events that are encoded in one go.
_PIECE = 500


class Events(ServiceBase):
    """The part of `MicroService` that emits events. Not for use by itself."""

    def emit_event(
        self,
        event_name: str,
        event_body: Any,
        *,
        broadcast: bool = True,
        key: str | None = None,
        delay: float | None = None,
        at: datetime.datetime | float | None = None,
        expires_in: float | None = None,
        timeout: float | None = None,
    ) -> str:
        """Publish an event; return its id once the broker has it.

        ::

            self.emit_event("orders.paid", {"order": 17}, key="customer-3")

        With an `outbox` it returns once the event is stored there; inside
        ``with self.outbox.transaction(connection):`` the event is sent if that commits.

        :param event_name: words joined by dots.
        :param event_body: what JSON can represent.
        :param broadcast: True for every service that subscribes; False for work, which one worker
            among all that handle the event does.
        :param key: events with the same key are handled one after the other, in the order in which
            they were emitted.
        :param delay: seconds until it is delivered.
        :param at: when it is delivered: an aware datetime, or seconds since 1970.
        :param expires_in: seconds after which it is not handled any more.
        :param timeout: seconds that this may take, instead of `event_timeout`; the deadline of the
            running call bounds it too.
        :raises EventNotDelivered: when the broker has not confirmed it in time; it may have it all
            the same. With several transports all are tried, and the text names those that failed.
        :raises ServiceConfigurationError: when there is no transport, or for what it cannot do.
        :raises ValueError: for a name or an option that makes no sense, a body over
            `max_event_size`, or one that is not of the type that `emits` declares.
        :raises TypeError: for a body that JSON cannot represent.

        May be called from methods, hooks, handlers, periodic tasks, and real threads.
        """
        if self.emits:
            self._emitted.check(event_name, event_body)
        with published(event_name, 1, self.name, self.event_transports) as observed:
            envelope = make_envelope(
                event_name,
                event_body,
                broadcast=broadcast,
                key=key,
                delay=delay,
                at=at,
                expires_in=expires_in,
                emitter=self.name,
                max_size=self.max_event_size,
                encoder=self._encoder,
            )
            if observed is not None:
                observed.take([envelope])
            self._store_or_publish([envelope], timeout)
        return envelope.id

    def emit_events(
        self, events: Iterable[tuple[Any, ...]], *, timeout: float | None = None
    ) -> list[str]:
        """Publish several events in this order; return their ids once the broker has all.

        ::

            self.emit_events([("a", 1), ("b", 2, {"broadcast": False, "key": "k"})])

        Much faster than one by one.

        :param events: (name, body) pairs, or (name, body, options) with a dict of `emit_event`'s
            options.
        :param timeout: seconds for all of them together.
        :raises EventNotDelivered: when not all are confirmed in time; some may be delivered.
        """
        with published(None, 0, self.name, self.event_transports) as observed:
            envelopes = self._envelopes_of(events)
            if observed is not None:
                observed.take(envelopes)
            if envelopes:
                self._store_or_publish(envelopes, timeout)
        return [envelope.id for envelope in envelopes]

    def _envelopes_of(self, events: Iterable[tuple[Any, ...]]) -> list[Envelope]:
        envelopes: list[Envelope] = []
        rest = iter(events)
        # In pieces, since ten thousand bodies take 50 ms to encode: others have their turn.
        while piece := list(itertools.islice(rest, _PIECE)):
            for event in piece if self.emits else ():
                self._emitted.check(*event[:2])
            envelopes += make_envelopes(
                piece,
                emitter=self.name,
                max_size=self.max_event_size,
                encoder=self._encoder,
            )
            if len(piece) == _PIECE and is_patched():
                let_others_run()
        return envelopes

    def _store_or_publish(self, envelopes: Sequence[Envelope], timeout: float | None) -> None:
        seconds = self._effective_timeout(timeout)
        if not self.event_transports:
            raise ServiceConfigurationError(
                "no event transport is configured: set event_transports, for example to "
                "[SqliteEventTransport('events.db')]"
            )
        self._event_runtime.start()
        if self.outbox is None:
            self._event_runtime.publish(envelopes, seconds)
        elif (transaction := self.outbox.current_transaction()) is not None:
            transaction.store(envelopes, seconds)
        else:
            self.outbox.add(envelopes, seconds)

    def _effective_timeout(self, timeout: float | None) -> float:
        seconds = self.event_timeout if timeout is None else timeout
        if not is_number(seconds) or not seconds > 0:
            raise ValueError(f"a timeout is a number of seconds above 0, not {seconds!r}")
        call = current_call.get()
        left = None if call is None else call.seconds_left()
        return seconds if left is None else min(seconds, left)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        own = overrides(self, ServiceBase, "encode") and marks_of(self.encode) is UNMARKED
        return Encoder(self.encode) if own else PLAIN

    @functools.cached_property
    def _emitted(self) -> Emitted:
        return Emitted(self.emits, type(self), self._encoder, self.logger)

    @functools.cached_property
    def _event_runtime(self) -> EventRuntime:
        return EventRuntime(self)
