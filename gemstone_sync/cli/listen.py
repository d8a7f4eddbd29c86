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
import queue
import select
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ..errors import GemstoneError, ParseError
from ..exit_codes import UNREACHABLE, CommandFailed, printable
from ..protocol import decode_json
from .brokers import BrokerLog, broker_options, stop_in_time, transport_of, wait_until_ready
from .options import json_option, seconds, utf8
from .output import moment, show

if TYPE_CHECKING:
    from ..event import Envelope
    from ..event.link import Delivery
    from ..event.topology import Queue
    from ..event.transport import BrokerEventTransport

__all__ = ["command"]

#: Seconds between two looks whether somebody still reads what is printed.
_INTERVAL = 0.25
#: Ids that are remembered: what is delivered again after a lost connection is printed once.
_REMEMBERED = 10_000
#: Seconds for an orderly goodbye.
_PARTING = 2.0
#: Events that wait to be printed before further ones are left with the broker, and the seconds
#: between two looks whether that is so.
_WAITING = 100
_LOOK = 0.01


@click.command("listen")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, type=utf8)
@broker_options
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--for", "duration", type=seconds(), metavar="DURATION", help="End after 30s, 5m, 2h."
)
@json_option
def command(
    patterns: tuple[str, ...],
    transport: str | None,
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
    from ..event.runtime.consumer import Consumer

    broker = transport_of(transport)
    own_queue = _queue_for(broker, patterns or ("#",))
    log, inbox = BrokerLog(), _Inbox()
    # Not transport.receive(): what it cannot handle it lays with the dead letters.
    consumer = Consumer(
        lambda: broker.make_link("listener"),
        broker.topology,
        [own_queue],
        inbox.receive,
        name=str(broker),
    )
    for number in (signal.SIGTERM, signal.SIGHUP):  # the latter: the end of the terminal
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    seen = 0
    try:
        consumer.start()
        wait_until_ready(consumer.why_not_ready, log, timeout)
        log.command = "gemstone listen"
        click.echo(f"listening on {broker} for {', '.join(patterns or ('#',))}", err=True)
        until = None if duration is None else time.monotonic() + duration
        for seen, envelope in enumerate(inbox.events(until), 1):
            _print(envelope, as_json=as_json)
            if seen == count:
                break
    except KeyboardInterrupt:
        # That is how listening ends.
        return
    finally:
        log.command = None
        inbox.is_closed = True
        was_ready = consumer.why_not_ready() is None
        # Not at any price: the queue expires anyway.
        if stop_in_time(consumer.stop, _PARTING) and was_ready:
            with contextlib.suppress(GemstoneError), broker.link() as link:
                link.remove(own_queue.name)
    if count is not None and seen < count:
        raise CommandFailed(f"{seen} of {count} events came in {duration:g} s", UNREACHABLE)


# Receiving


def _queue_for(broker: BrokerEventTransport, patterns: Sequence[str]) -> Queue:
    """Choose the queue of this listener.

    :raises click.UsageError: for a pattern that is none.
    """
    from ..event.handlers import Handler, Subscriber

    try:
        handlers = tuple(
            Handler(pattern=pattern, function=print, name="listen", scope="instance")
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


class _Inbox:
    """Keep events that have arrived and are not printed yet."""

    def __init__(self) -> None:
        self.is_closed = False
        self._arrivals: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._known: dict[str, None] = {}

    def receive(self, delivery: Delivery, own_queue: Queue) -> None:
        """Take a delivery; acknowledge it when few others wait. The consumer calls this."""
        import gevent

        self._arrivals.put(delivery)
        while not self.is_closed and self._arrivals.qsize() > _WAITING:
            gevent.sleep(_LOOK)

    def events(self, until: float | None) -> Iterator[Envelope]:
        """Give events as they come, each once.

        :param until: a moment of ``time.monotonic()``.
        :raises BrokenPipeError: when nobody reads stdout any more.
        """
        # Else one would notice with the next event only that nobody reads any more, and `| head -1`
        # may wait for that for ever.
        reader = select.poll()
        reader.register(sys.stdout.fileno(), 0)
        while True:
            left = _INTERVAL if until is None else until - time.monotonic()
            if left <= 0:
                return
            try:
                delivery = self._arrivals.get(timeout=min(left, _INTERVAL))
            except queue.Empty:
                if any(event & select.POLLERR for _, event in reader.poll(0)):
                    raise BrokenPipeError from None
                continue
            # One whose connection was lost may come again.
            if delivery.envelope.id not in self._known:
                self._known[delivery.envelope.id] = None
                if len(self._known) > _REMEMBERED:
                    del self._known[next(iter(self._known))]
                yield delivery.envelope


# Printing


def _print(envelope: Envelope, *, as_json: bool) -> None:
    is_text = {}
    try:
        body = decode_json(envelope.body)
    except ParseError:  # other programs publish what they like
        body, is_text = envelope.body.decode("utf-8", "backslashreplace"), {"body_is_text": True}
    if as_json or not sys.stdout.isatty():
        record = {
            "id": envelope.id,
            "name": envelope.name,
            "body": body,
            "emitter": envelope.emitter,
            "key": envelope.key,
            "emitted_at": moment(envelope.time),
            "expires_at": moment(envelope.deadline),
            "request_id": envelope.request_id,
            "traceparent": envelope.traceparent,
        }
        show({**record, **is_text}, as_json=True)
    else:
        click.echo(_heading(envelope))
        show(body)


def _heading(envelope: Envelope) -> str:
    # A name from elsewhere must not command the terminal.
    parts = [click.style(printable(envelope.name), bold=True)]
    if envelope.key is not None:
        parts.append(f"key {printable(envelope.key)}")
    if envelope.emitter is not None:
        parts.append(f"from {printable(envelope.emitter)}")
    emitted = moment(envelope.time, local=True)
    parts.append(click.style(f"{emitted or 'at no time'}  {printable(envelope.id)}", dim=True))
    return "  ".join(parts)
