"""``gemstone emit``: publish an event, or one for each line of stdin."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import EventNotDelivered, ParseError
from ..protocol import decode_json, encode_json
from .brokers import (
    BrokerLog,
    broker_options,
    stop_in_time,
    transport_of,
    wait_until_ready,
)
from .faults import REFUSED, CommandFailed
from .parameters import TEXT, Duration, json_option, params_of

if TYPE_CHECKING:
    from ..event import Envelope
    from ..event.transport import BrokerEventTransport

__all__ = ["emit"]

#: Seconds: ten years, as everywhere with events.
_LONGEST_DELAY = 3650 * 86_400.0
#: Seconds for an orderly end: everything is confirmed by then.
_PARTING = 1.0
#: Bytes of stdin that are published in one go.
_CHUNK = 1 << 16


@click.command()
@click.argument("event", type=TEXT)
@click.argument("parameters", nargs=-1, type=TEXT)
@broker_options
@click.option(
    "--body",
    metavar="JSON",
    type=TEXT,
    help="The whole body, any JSON; - for one event per line of stdin.",
)
@click.option("--work", is_flag=True, help="For one worker, rather than for every subscriber.")
@click.option(
    "--key", metavar="TEXT", type=TEXT, help="Events with the same key are handled in order."
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --key on RabbitMQ: over how many queues the services spread such events, when that "
    "is not the default of their RabbitMqEventTransport.",
)
@click.option(
    "--delay",
    metavar="DURATION",
    type=Duration(_LONGEST_DELAY, may_be_zero=True),
    help="Deliver it so much later: 90, 30s, 5m, 2h.",
)
@json_option
def emit(
    event: str,
    parameters: tuple[str, ...],
    transport: str,
    application: str | None,
    timeout: float,
    body: str | None,
    work: bool,
    key: str | None,
    shards: int | None,
    delay: float | None,
    as_json: bool,
) -> None:
    """Publish an event, and print its id once the broker has it.

    The body is an object of PARAMETERS, name=text or name:=JSON, or what --body says.

    \b
    gemstone emit said_hello name=world times:=3 --transport redis://127.0.0.1
    gemstone emit orders.paid --body '{"order": 4711}' --key 4711 --delay 5m
    gemstone emit readings --body - < readings.jsonl
    """
    if body is not None and parameters:
        name = parameters[0].partition("=")[0]  # not what follows: it may be a password
        raise click.UsageError(f"the parameter {name} and --body: a body is given in one way")
    kind = _Kind(event, work, key, delay)
    kind.check()
    broker = transport_of(transport, application, shards)
    if body == "-":
        batches = _batches_of_stdin(kind)
    else:
        value = params_of(parameters) or {} if body is None else _json_of(body.encode(), "--body")
        batches = iter([[kind.envelope(value)]])
    _publish(broker, batches, timeout, as_json)


@dataclass(frozen=True)
class _Kind:
    """What all events of one command have in common.

    :param delay: seconds.
    """

    name: str
    work: bool
    key: str | None
    delay: float | None

    def check(self) -> None:
        """:raises click.UsageError: when no body would make an event of it."""
        self.envelope(None)

    def envelope(self, body: Any, where: str = "") -> Envelope:
        """:raises click.UsageError: when it makes no event; `where` says which it is."""
        from ..event.emission import make_envelope

        try:
            return make_envelope(
                self.name,
                body,
                broadcast=not self.work,
                key=self.key,
                delay=self.delay,
                emitter="gemstone emit",
            )
        except (ValueError, TypeError) as error:
            raise click.UsageError(f"{where}{error}") from None


def _json_of(text: bytes, where: str) -> Any:
    try:
        return decode_json(text)
    except ParseError as error:
        fault = str(error.__cause__).removeprefix("JSON is malformed: ")
        raise click.UsageError(f"{where} is no JSON: {fault}") from None


# stdin


class _Line(NamedTuple):
    number: int
    text: bytes


def _batches_of_stdin(kind: _Kind) -> Iterator[list[Envelope]]:
    """The events of the lines that have come, as soon as they come.

    What stands before a wrong line is published first.
    """
    for lines in _chunks_of_lines():
        envelopes: list[Envelope] = []
        fault: click.UsageError | None = None
        for number, text in lines:
            where = f"line {number} of stdin"
            try:
                envelopes.append(kind.envelope(_json_of(text, where), f"{where}: "))
            except click.UsageError as error:
                fault = error
                break
        if envelopes:
            yield envelopes
        if fault is not None:
            raise fault


def _chunks_of_lines() -> Iterator[list[_Line]]:
    """What can be read without waiting for more; empty lines are left out."""
    stdin: Any = sys.stdin.buffer
    number, rest = 0, b""
    while True:
        # Not `for line in stdin`: that reads ahead, and who types or pipes slowly would wait.
        read = stdin.read1(_CHUNK)
        *whole, rest = (rest + read).split(b"\n")
        if not read:
            whole.append(rest)
        lines = [_Line(n, text) for n, text in enumerate(whole, number + 1) if text.strip()]
        number += len(whole)
        if lines:
            yield lines
        if not read:
            return


# Publishing


def _publish(
    broker: BrokerEventTransport,
    batches: Iterator[list[Envelope]],
    timeout: float,
    as_json: bool,
) -> None:
    """:param timeout: seconds, for connecting and the first events, then for the next ones."""
    log = BrokerLog("gemstone emit")
    start = time.monotonic()
    broker.start()
    try:
        wait_until_ready(broker, log, timeout)
        left = timeout - (time.monotonic() - start)
        for envelopes in batches:
            _publish_batch(broker, envelopes, left)
            for envelope in envelopes:
                click.echo(encode_json({"id": envelope.id}) if as_json else envelope.id)
            left = timeout
    finally:
        stop_in_time(broker.stop, _PARTING)


def _publish_batch(broker: BrokerEventTransport, envelopes: list[Envelope], seconds: float) -> None:
    end = time.monotonic() + seconds
    try:
        broker.publish(envelopes, timeout=round(max(0.0, seconds), 2))
    except EventNotDelivered as error:
        if broker.why_not_ready() is None and time.monotonic() < end:
            # It is there, and had time: it does not want the event.
            raise CommandFailed(str(error), REFUSED) from error
        raise
