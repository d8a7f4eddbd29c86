"""``gemstone deadletters``: list dead letters, look at one, put them back, throw them away."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
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

#: How many are listed, unless more are asked for.
_MOST = 1000
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
    type=click.IntRange(min=1),
    help="List so many at most, those that the broker gives first.  [default: 1000]",
)
@json_option
def command(
    action: str,
    id: str | None,
    transport: str | None,
    outbox: str | None,
    event: str | None,
    everything: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """List dead letters, show one, put them back or throw them away.

    replay puts those with ID, those of --event, or --all back to the handler that failed, which
    handles them as if for the first time; purge throws them away.

    \b
    gemstone deadletters --transport redis://127.0.0.1
    gemstone deadletters show c80f4b2e0a6d4f0e9b3a7d5c1e2f3a4b
    gemstone deadletters replay --event 'orders.*'
    """
    import gevent

    from ..event import Outbox, SqliteEventTransport, deadletters

    _check_choice(action, id, event, everything, limit)
    source = click.get_current_context().get_parameter_source("transport")
    if outbox is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--transport and --outbox do not go together")
    BrokerLog().command = "gemstone deadletters"
    gevent.get_hub().exception_stream = None  # it would tell of Ctrl-C
    place = transport_of(transport) if outbox is None else Outbox(outbox)
    # Looking would make the tables of either in any other file.
    if outbox is not None:
        _check_file(outbox, "gemstone_outbox_databases", "an outbox")
    elif isinstance(place, SqliteEventTransport):
        _check_file(place.path, "gemstone_messages", "a file of events")
    try:
        if action == "list":
            _list(deadletters.list(place, event, limit=limit or _MOST), limit, as_json)
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


def _check_choice(
    action: str, id: str | None, event: str | None, everything: bool, limit: int | None
) -> None:
    """Check that an action is told which dead letters, in one way.

    :raises click.UsageError: when it is not.
    """
    if id == "" or event == "":
        raise click.UsageError("an id or the name of an event is empty")
    which = {"an id": id is not None, "--event": event is not None, "--all": everything}
    given = [what for what, is_given in which.items() if is_given]
    takes = {"list": ["--event"], "show": ["an id"]}.get(action, [*which])
    if limit is not None and action != "list":
        raise click.UsageError(f"{action} and --limit do not go together")
    if any(what not in takes for what in given) or len(given) > 1:
        raise click.UsageError(f"{action} and {' and '.join(given)} do not go together")
    if action != "list" and not given:
        raise click.UsageError(f"{action} which? Give {' or '.join(takes)}")


def _check_file(path: str, table: str, what: str) -> None:
    """:raises CommandFailed: when a SQLite file is not there, or is something else."""
    if not os.path.exists(path):
        raise CommandFailed(f"there is no file {path}", USAGE)
    try:
        with contextlib.closing(
            sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
        ) as found:
            tables = found.execute("SELECT name FROM sqlite_master WHERE name = ?", (table,))
            if tables.fetchall():
                return
    except sqlite3.Error as error:
        raise CommandFailed(f"{path} is not {what}: {error}", USAGE) from None
    raise CommandFailed(f"{path} is not {what}", USAGE)


def _list(entries: list[DeadLetterEntry], limit: int | None, as_json: bool) -> None:
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
    if limit is None and len(entries) == _MOST:
        click.echo(f"[!] Only the first {_MOST}: give --limit for more", err=True)


def _record(entry: DeadLetterEntry) -> Mapping[str, Any]:
    record = asdict(entry)
    emitted, died, body = record.pop("emitted"), record.pop("died"), record["body"]
    if isinstance(body, bytes):
        record |= {"body": body.decode("utf-8", "backslashreplace"), "body_is_text": True}
    return {**record, "emitted_at": moment(emitted), "died_at": moment(died)}
