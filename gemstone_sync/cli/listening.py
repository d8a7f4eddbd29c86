"""``gemstone listen``: print events as they come.

A listener has a queue of its own, as each instance of a service has for handlers with
``scope="instance"``: it takes nothing from anybody, and above all no work. The queue goes when the
listener ends; if it is killed, the broker removes it after a minute.

The thread that receives is not the one that prints: a reader who has stopped reading holds up the
printing, and not what keeps the connection to the broker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import queue
import select
import signal
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import GemstoneError, ParseError
from ..protocol import decode_json
from .brokers import (
    BrokerLog,
    broker_options,
    stop_in_time,
    transport_of,
    wait_until_ready,
)
from .faults import UNREACHABLE, CommandFailed, printable
from .output import show
from .parameters import TEXT, Duration, json_option

if TYPE_CHECKING:
    from ..event import Envelope
    from ..event.link import Delivery
    from ..event.runtime.consumer import Consumer
    from ..event.topology import Queue
    from ..event.transport import BrokerEventTransport
    from ..event.wakeups import Receipt

__all__ = ["listen"]

#: Seconds between two looks whether somebody still reads what is printed.
_INTERVAL = 0.25
#: Ids that are remembered: what is delivered again after a lost connection is printed once.
_REMEMBERED = 10_000
#: Seconds for an orderly goodbye.
_PARTING = 2.0
#: Seconds, longer than anybody waits.
_FOREVER = 1e6


@click.command()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, type=TEXT)
@broker_options
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--for", "duration", type=Duration(), metavar="DURATION", help="End after 30s, 5m, 2h."
)
@json_option
def listen(
    patterns: tuple[str, ...],
    transport: str,
    application: str | None,
    timeout: float,
    count: int | None,
    duration: float | None,
    as_json: bool,
) -> None:
    """Print broadcast events as they come, until Ctrl-C.

    PATTERN is the name of an event, or has * for one word and # for any number of them; all events
    when there is none. Work is not shown: it is for workers.

    In a pipe, and with --json, each event is a line of JSON. "listening on ..." on stderr says that
    nothing is missed from now on. With both --count and --for the exit code is 3 when too few came.

    \b
    gemstone listen 'orders.*' --transport redis://127.0.0.1
    gemstone listen --json --count 1 --for 30s orders.paid | jq .body
    """
    broker = transport_of(transport, application)
    own_queue = _queue_for(broker, patterns or ("#",))
    log = BrokerLog("gemstone listen")
    inbox = _Inbox()
    consumer = _consumer_of(broker, own_queue, inbox)
    _end_on_signals()
    seen = 0
    try:
        consumer.start()
        wait_until_ready(consumer, log, timeout)
        log.tell()
        click.echo(f"listening on {broker} for {', '.join(patterns or ('#',))}", err=True)
        until = None if duration is None else time.monotonic() + duration
        for envelope in inbox.events(until):
            _print(envelope, as_json=as_json)
            seen += 1
            if seen == count:
                break
    except KeyboardInterrupt:
        # That is how listening ends.
        return
    finally:
        log.tell(False)
        inbox.close()
        _leave(broker, consumer, own_queue)
    if count is not None and seen < count:
        raise CommandFailed(f"{seen} of {count} events came in {duration:g} s", UNREACHABLE)


def _end_on_signals() -> None:
    """SIGTERM, and the end of the terminal, are as Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)


# Receiving


def _queue_for(broker: BrokerEventTransport, patterns: Sequence[str]) -> Queue:
    """The queue of this listener.

    :raises click.UsageError: for a pattern that is none.
    """
    from ..event.handlers import Handler, Subscriber

    try:
        handlers = tuple(
            Handler(pattern=pattern, function=_nothing, name="listen", scope="instance")
            for pattern in patterns
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    subscriber = Subscriber(service="gemstone-listen", instance=uuid.uuid4().hex, handlers=handlers)
    # Of all queues that a service would have, the one that goes with its instance: those for work
    # are shared with workers, and would be left behind.
    (found,) = [each for each in broker.topology.queues_of(subscriber) if each.expires is not None]
    # What is shown is in the order of arrival.
    return dataclasses.replace(found, keyed=False)


def _nothing(body: object) -> None:
    """The topology asks for a function; what comes is taken by the inbox."""


def _consumer_of(broker: BrokerEventTransport, own_queue: Queue, inbox: _Inbox) -> Consumer:
    from ..event.runtime.consumer import Consumer

    # Not transport.receive(): what it cannot handle it lays with the dead letters.
    return Consumer(
        lambda: broker.make_link("listener"),
        broker.topology,
        [own_queue],
        inbox.receive,
        name=str(broker),
    )


class _Arrival(NamedTuple):
    """An event on its way from the thread that receives to the one that prints."""

    delivery: Delivery
    printed: Receipt


class _Inbox:
    """Events that have arrived and are not printed yet: as many as the consumer has places."""

    def __init__(self) -> None:
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._current: _Arrival | None = None
        self._closed = False

    def receive(self, delivery: Delivery, own_queue: Queue) -> bool:
        """Called by the consumer: wait until an event is printed. Then it is acknowledged."""
        from ..event.wakeups import Receipt

        arrival = _Arrival(delivery, Receipt())
        self._arrivals.put(arrival)
        if not self._closed:
            arrival.printed.wait(_FOREVER)
        return True

    def events(self, until: float | None) -> Iterator[Envelope]:
        """Events as they come, each once.

        :param until: a moment of ``time.monotonic()``.
        :raises BrokenPipeError: when nobody reads stdout any more.
        """
        while True:
            left = _INTERVAL if until is None else until - time.monotonic()
            if left <= 0:
                return
            try:
                arrival = self._arrivals.get(timeout=min(left, _INTERVAL))
            except queue.Empty:
                _check_that_somebody_reads()
                continue
            self._current = arrival
            # One whose connection was lost comes again.
            if not arrival.delivery.gone and self._is_new(arrival.delivery.envelope.id):
                yield arrival.delivery.envelope
            arrival.printed.settle()

    def close(self) -> None:
        """Let go of those that wait."""
        self._closed = True
        if self._current is not None:
            self._current.printed.settle()
        with contextlib.suppress(queue.Empty):
            while True:
                self._arrivals.get_nowait().printed.settle()

    def _is_new(self, id: str) -> bool:
        if id in self._known:
            return False
        self._known[id] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return True


def _leave(broker: BrokerEventTransport, consumer: Consumer, own_queue: Queue) -> None:
    """Stop receiving and remove the queue; not at any price, since it expires anyway."""
    was_ready = consumer.why_not_ready() is None
    if stop_in_time(consumer.stop, _PARTING) and was_ready:
        with contextlib.suppress(GemstoneError), broker.link() as link:
            link.remove(own_queue.name)


# Printing


def _print(envelope: Envelope, *, as_json: bool) -> None:
    body, is_json = _body_of(envelope)
    if as_json or not sys.stdout.isatty():
        record = {
            "id": envelope.id,
            "name": envelope.name,
            "body": body,
            "emitter": envelope.emitter,
            "key": envelope.key,
            "emitted_at": _moment(envelope.time),
            "expires_at": _moment(envelope.deadline),
            "request_id": envelope.request_id,
            "traceparent": envelope.traceparent,
        }
        show(record if is_json else {**record, "body_is_text": True}, as_json=True)
    else:
        click.echo(_heading(envelope))
        show(body)


def _body_of(envelope: Envelope) -> tuple[Any, bool]:
    """The body, and whether it is JSON: other programs publish what they like."""
    try:
        return decode_json(envelope.body), True
    except ParseError:
        return envelope.body.decode("utf-8", "backslashreplace"), False


def _heading(envelope: Envelope) -> str:
    # A name from elsewhere must not command the terminal.
    parts = [click.style(printable(envelope.name), bold=True)]
    if envelope.key is not None:
        parts.append(f"key {printable(envelope.key)}")
    if envelope.emitter is not None:
        parts.append(f"from {printable(envelope.emitter)}")
    moment = _moment(envelope.time, local=True)
    parts.append(click.style(f"{moment or 'at no time'}  {printable(envelope.id)}", dim=True))
    return "  ".join(parts)


def _moment(seconds: float | None, *, local: bool = False) -> str | None:
    """ISO 8601 with milliseconds; None for what is no moment."""
    if seconds is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        if local:
            return moment.astimezone().isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):
        return None  # of another program, far from now
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_that_somebody_reads() -> None:
    # Else one would notice with the next event only, and `| head -1` may wait for that for ever.
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError
