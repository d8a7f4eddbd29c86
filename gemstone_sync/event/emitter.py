"""EventEmitter: events from scripts and from programs that are no service."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from typing import Any

from ..concurrency import current_call
from ..errors import ServiceConfigurationError
from .emission import check_emitter, make_envelope, make_envelopes
from .traced import published
from .transport import BaseEventTransport, transport_from_url

__all__ = ["EventEmitter"]


class EventEmitter:
    """Emits events. It patches nothing: in a plain program a thread of its own does the work.

    ::

        with EventEmitter("amqp://guest:guest@127.0.0.1") as emitter:
            emitter.emit_event("said_hello", {"name": "world"})

    One emitter may be used by many threads or greenlets, and is best kept for the whole program;
    what it still holds is sent when the program ends.

    :param url: as for `transport_from_url`, or a transport.
    :param name: what receivers see as the emitter; at most 255 bytes.
    :param timeout: seconds that one emit may take.
    :param options: those of the transport, such as ``application``.
    """

    def __init__(
        self,
        url: str | BaseEventTransport,
        *,
        name: str | None = None,
        timeout: float = 10.0,
        **options: Any,
    ) -> None:
        if isinstance(url, BaseEventTransport):
            if options:
                raise ServiceConfigurationError("a transport has its options already")
            self.transport = url
        else:
            self.transport = transport_from_url(url, **options)
        check_emitter(name)
        self._name = name
        self._timeout = timeout
        #: The process in which the transport was started.
        self._started_in: int | None = None

    def emit_event(
        self,
        event_name: str,
        event_body: Any,
        *,
        broadcast: bool = True,
        timeout: float | None = None,
        **options: Any,
    ) -> str:
        """Publish an event; return its id when the broker has it.

        :param broadcast: False when one worker is to get it, rather than every subscriber.
        :param timeout: seconds, instead of the emitter's.
        :param options: ``key``, ``delay``, ``at``, ``expires_in``: see `MicroService.emit_event`.
        :raises EventNotDelivered: when it is not confirmed in time.
        :raises ValueError, TypeError: for a name, a body or an option that makes no sense.
        """
        with published(event_name, 1, self._name, [self.transport]) as observed:
            envelope = make_envelope(
                event_name, event_body, broadcast=broadcast, emitter=self._name, **options
            )
            if observed is not None:
                observed.take([envelope])
            self._publish([envelope], timeout)
        return envelope.id

    def emit_events(
        self, events: Iterable[tuple[Any, ...]], *, timeout: float | None = None
    ) -> list[str]:
        """Publish several in this order; return their ids when the broker has all.

        :param events: (name, body) or (name, body, options).
        """
        with published(None, 0, self._name, [self.transport]) as observed:
            envelopes = make_envelopes(events, emitter=self._name)
            if observed is not None:
                observed.take(envelopes)
            self._publish(envelopes, timeout)
        return [envelope.id for envelope in envelopes]

    def close(self, timeout: float = 10.0) -> None:
        """Send what waits, then disconnect. An emitter that is used again connects again."""
        if self._started_in == os.getpid():
            self._started_in = None
            atexit.unregister(self.close)
            self.transport.stop(timeout)

    def _publish(self, envelopes: list[Any], timeout: float | None) -> None:
        if self._started_in != os.getpid():
            self._started_in = os.getpid()
            try:
                self.transport.start()
            except BaseException:
                self._started_in = None
                raise
            atexit.register(self.close)
        seconds = self._timeout if timeout is None else timeout
        call = current_call.get()
        left = None if call is None else call.seconds_left()
        self.transport.publish(envelopes, timeout=seconds if left is None else min(seconds, left))

    def __enter__(self) -> EventEmitter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
