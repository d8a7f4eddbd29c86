"""What a service says and hears: its event transports, emitting, the memory of what was handled."""

from __future__ import annotations

import datetime
import functools
import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

from ..concurrency import current_call, is_patched, let_others_run
from ..config import Seconds
from ..errors import ServiceConfigurationError
from ..event.deduplication import ProcessedEvents
from ..event.emission import MAX_SIZE, make_envelope, make_envelopes
from ..event.envelope import Envelope
from ..event.outbox import Outbox
from ..event.transport import BaseEventTransport
from .traffic import Traffic

__all__ = ["Events"]

#: Events that are encoded in one go.
_PIECE = 500


class Events:
    """The part of `MicroService` that knows of events. Not for use by itself."""

    name: str
    logger: logging.Logger

    #: Event transports. An event goes out through all of them, and handlers listen on all.
    event_transports: Sequence[BaseEventTransport] = []
    #: Seconds that emitting may take unless the call says otherwise.
    event_timeout: Seconds = 10.0
    #: Bytes of an event's body as JSON; more is refused.
    max_event_size: int = MAX_SIZE
    #: Where ids of handled events are remembered for handlers with ``idempotent=False``: a URL, the
    #: path of a SQLite file, or a `ProcessedEvents`. None: in the transport's own store, if there
    #: is one transport and it has a store (SQLite, Redis and memory have).
    event_deduplication: str | ProcessedEvents | None = None
    # Any: mypy sees a text in a class that gives a path, whatever is said here; with an `Outbox` it
    # sees one.
    #: Where events are stored before they are sent, so that emitting works while the broker is
    #: away: the path of a SQLite file, or an `Outbox`. Methods find an `Outbox` here in any case.
    #: None: emitting waits for the broker.
    outbox: Any = None
    #: When `outbox` is a path, those of your own databases in which
    #: ``self.outbox.transaction(connection)`` stores events: paths of SQLite files, SQLAlchemy
    #: engines or URLs.
    outbox_databases: Sequence[Any] = ()

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
        :raises ValueError: for a name or an option that makes no sense, or a body over
            `max_event_size`.
        :raises TypeError: for a body that JSON cannot represent.

        May be called from methods, hooks, handlers, periodic tasks, and real threads.
        """
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
        )
        self._emit([envelope], timeout)
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
        envelopes: list[Envelope] = []
        rest = iter(events)
        # In pieces, since ten thousand bodies take 50 ms to encode: others have their turn.
        while piece := list(itertools.islice(rest, _PIECE)):
            envelopes += make_envelopes(piece, emitter=self.name, max_size=self.max_event_size)
            if len(piece) == _PIECE and is_patched():
                let_others_run()
        if envelopes:
            self._emit(envelopes, timeout)
        return [envelope.id for envelope in envelopes]

    def _emit(self, envelopes: Sequence[Envelope], timeout: float | None) -> None:
        seconds = self._patience(timeout)
        if not self.event_transports:
            raise ServiceConfigurationError(
                "no event transport is configured: set event_transports, for example to "
                "[SqliteEventTransport('events.db')]"
            )
        self._traffic.start()
        if self.outbox is None:
            self._traffic.publish(envelopes, seconds)
        elif (transaction := self.outbox.current_transaction()) is not None:
            transaction.store(envelopes, seconds)
        else:
            self.outbox.add(envelopes, seconds)

    def _patience(self, timeout: float | None) -> float:
        seconds = self.event_timeout if timeout is None else timeout
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not number or not seconds > 0:
            raise ValueError(f"a timeout is a number of seconds above 0, not {seconds!r}")
        call = current_call.get()
        left = None if call is None else call.seconds_left()
        return seconds if left is None else min(seconds, left)

    @functools.cached_property
    def _traffic(self) -> Traffic:
        return Traffic(self)

    def _make_outbox(self) -> None:
        """Have `outbox` be one, also when the path of its file was given."""
        if isinstance(self.outbox, (str, os.PathLike)):
            path = os.fspath(self.outbox)
            self.outbox = Outbox(path, databases=self.outbox_databases, logger=self.logger)
