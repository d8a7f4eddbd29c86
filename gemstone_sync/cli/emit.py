"""``gemstone emit``: publish an event, or one for each line of stdin."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ..errors import EventNotDelivered
from ..exit_codes import CommandFailed
from ..protocol import encode_json
from .brokers import BrokerLog, broker_options, stop_in_time, transport_of, wait_until_ready
from .options import json_of, json_option, params_of, seconds, utf8

if TYPE_CHECKING:
    from ..event import Envelope
    from ..event.transport import BrokerEventTransport

__all__ = ["command"]

#: Seconds: ten years, as everywhere with events.
_LONGEST_DELAY = 3650 * 86_400.0
#: Seconds for an orderly end: everything is confirmed by then.
_PARTING = 1.0
#: Bytes of stdin that are published in one go.
_CHUNK = 1 << 16


@click.command("emit")
@click.argument("event", type=utf8)
@click.argument("parameters", nargs=-1, type=utf8)
@broker_options
@click.option(
    "--body",
    metavar="JSON",
    type=utf8,
    help="The whole body, any JSON; - for one event per line of stdin.",
)
@click.option("--work", is_flag=True, help="For one worker, rather than for every subscriber.")
@click.option(
    "--key", metavar="TEXT", type=utf8, help="Events with the same key are handled in order."
)
@click.option(
    "--delay",
    metavar="DURATION",
    type=seconds(_LONGEST_DELAY, may_be_zero=True),
    help="Deliver it so much later: 90, 30s, 5m, 2h.",
)
@json_option
def command(
    event: str,
    parameters: tuple[str, ...],
    transport: str | None,
    timeout: float,
    body: str | None,
    work: bool,
    key: str | None,
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

    def make(body: Any, where: str = "") -> Envelope:
        from ..event.emission import make_envelope

        try:
            return make_envelope(
                event, body, broadcast=not work, key=key, delay=delay, emitter="gemstone emit"
            )
        except (ValueError, TypeError) as error:
            raise click.UsageError(f"{where}{error}") from None

    make(None)  # a wrong option is told whatever the body
    broker = transport_of(transport)
    if body == "-":
        batches = _batches_of_stdin(make)
    else:
        value = params_of(parameters) or {} if body is None else json_of(body, "--body")
        batches = iter([[make(value)]])
    _publish(broker, batches, timeout, as_json)


# stdin


def _batches_of_stdin(make: Callable[[Any, str], Envelope]) -> Iterator[list[Envelope]]:
    """Make events of the lines that have come, as soon as they come; of empty lines none.

    What stands before a wrong line is published first.
    """
    stdin: Any = sys.stdin.buffer
    numbers = itertools.count(1)
    rest, read = b"", b"\n"
    while read:
        # Not `for line in stdin`: a confirm for each line makes a long file slow.
        read = stdin.read1(_CHUNK)
        *lines, rest = (rest + (read or b"\n")).split(b"\n")
        envelopes: list[Envelope] = []
        for line in lines:
            where = f"line {next(numbers)} of stdin"
            try:
                if line.strip():
                    envelopes.append(make(json_of(line, where), f"{where}: "))
            except click.UsageError:
                yield envelopes
                raise
        yield envelopes


# Publishing


def _publish(
    broker: BrokerEventTransport,
    batches: Iterator[list[Envelope]],
    timeout: float,
    as_json: bool,
) -> None:
    """Publish batches, and print the ids once the broker has them.

    :param timeout: seconds, for connecting and the first events, then for the next ones.
    """
    end = time.monotonic() + timeout
    broker.start()
    try:
        wait_until_ready(broker.why_not_ready, BrokerLog(), timeout)
        left = end - time.monotonic()
        for envelopes in filter(None, batches):
            end = time.monotonic() + left
            broker.publish(envelopes, timeout=round(max(0.0, left), 2))
            for envelope in envelopes:
                click.echo(encode_json({"id": envelope.id}) if as_json else envelope.id)
            left = timeout
    except EventNotDelivered as error:
        if broker.why_not_ready() is None and time.monotonic() < end:
            # It is there, and had time: it does not want the event.
            raise CommandFailed(str(error)) from error
        raise
    finally:
        stop_in_time(broker.stop, _PARTING)
