"""``gemstone deadletters``: list dead letters, look at one, put them back, throw them away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import EventNotDelivered
from ..exit_codes import USAGE, CommandFailed, json_line
from .brokers import BrokerLog, transport_of, transport_option
from .options import json_option, utf8
from .output import moment, show, table

if TYPE_CHECKING:
    from ..event.deadletters import DeadLetterEntry

__all__ = ["command"]

_DONE = {"replay": "replayed", "purge": "purged"}


@click.command("deadletters")
@click.argument(
    "action", type=click.Choice(["list", "show", *_DONE]), default="list", required=False
)
@click.argument("id", required=False, type=utf8)
@transport_option
@click.option(
    "--outbox",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="What the broker refuses of this outbox, in place of the broker's dead letters.",
)
@click.option(
    "--event", metavar="PATTERN", type=utf8, help="Those of an event: its name, or orders.*."
)
@click.option("--all", "everything", is_flag=True, help="Replay or purge all of them.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="List so many at most, those that the broker gives first.",
)
@json_option
def command(
    action: str,
    id: str | None,
    transport: str | None,
    outbox: str | None,
    event: str | None,
    everything: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, show one, put them back or throw them away.

    replay puts those with ID, those of --event, or --all back to the handler that failed, which
    handles them as if for the first time; purge throws them away.

    \b
    gemstone deadletters --transport redis://127.0.0.1
    gemstone deadletters show 0a1b2c
    gemstone deadletters replay --event 'orders.*'
    """
    from ..event import Outbox, SqliteEventTransport, deadletters

    _check_choice(action, id, event, everything)
    BrokerLog().command = "gemstone deadletters"
    place = transport_of(transport) if outbox is None else Outbox(outbox)
    if isinstance(place, SqliteEventTransport) and not os.path.exists(place.path):
        raise CommandFailed(f"there is no file {place.path}", USAGE)
    try:
        if action == "list":
            _list(deadletters.list(place, event, limit=limit), as_json)
        elif action == "show":
            show(_record(deadletters.show(place, str(id))), as_json=as_json)
        else:
            work = deadletters.replay if action == "replay" else deadletters.purge
            done, number = _DONE[action], work(place, id, event=event)
            click.echo(json_line({done: number}) if as_json else f"{done}: {number}")
    except ValueError as error:
        if id is None:  # the pattern is none
            raise click.UsageError(str(error)) from None
        raise CommandFailed(
            f"no dead letter has the id {id}: gemstone deadletters tells which there are"
        ) from None
    except EventNotDelivered as error:
        raise CommandFailed(str(error)) from error


def _check_choice(action: str, id: str | None, event: str | None, everything: bool) -> None:
    """Check that an action is told which dead letters, in one way.

    :raises click.UsageError: when it is not.
    """
    given = [
        what
        for what, is_given in (
            ("an id", id is not None),
            ("--event", event is not None),
            ("--all", everything),
        )
        if is_given
    ]
    takes = {"list": ["--event"], "show": ["an id"]}.get(action, ["an id", "--event", "--all"])
    if any(what not in takes for what in given) or len(given) > 1:
        raise click.UsageError(f"{action} and {' and '.join(given)} do not go together")
    if action != "list" and not given:
        raise click.UsageError(f"{action} which? Give {' or '.join(takes)}")


def _list(entries: list[DeadLetterEntry], as_json: bool) -> None:
    if as_json:
        for entry in entries:
            show(_record(entry), as_json=True)
    elif entries:
        rows = [
            (
                moment(entry.died, local=True) or "-",
                entry.name,
                entry.key or "-",
                entry.handler or "-",
                entry.reason,
                str(entry.attempts),
                entry.id,
                entry.error,
            )
            for entry in entries
        ]
        head = ("DIED", "EVENT", "KEY", "HANDLER", "REASON", "ATTEMPTS", "ID", "ERROR")
        click.echo(table([head, *rows]))
    else:
        click.echo("[!] There are no dead letters", err=True)


def _record(entry: DeadLetterEntry) -> Mapping[str, Any]:
    record = asdict(entry)
    emitted, died, body = record.pop("emitted"), record.pop("died"), record["body"]
    if isinstance(body, bytes):
        record |= {"body": body.decode("utf-8", "backslashreplace"), "body_is_text": True}
    return {**record, "emitted_at": moment(emitted), "died_at": moment(died)}
