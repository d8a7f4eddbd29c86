"""``gemstone diff``: what changed in what a service promises, and for whom it breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..exit_codes import REFUSED, USAGE, CommandFailed, printable
from .options import Access, access_options, json_option, utf8
from .output import show

if TYPE_CHECKING:
    from ..contract.diff import Change
    from ..contract.model import Contract

__all__ = ["command"]


@click.command("diff")
@click.argument("old", type=utf8)
@click.argument("new", type=utf8)
@json_option
@access_options
@click.pass_context
def command(ctx: click.Context, old: str, new: str, as_json: bool, access: Access) -> None:
    """Tell what changed between two contracts, and for whom it breaks: for CI.

    OLD and NEW are each a file that holds an OpenRPC or AsyncAPI document, the URL of a service, or
    module:Class. Callers, emitters and handlers of events break. What a caller sends may only
    widen, what it receives may only narrow.

    Exit codes: 0 nothing breaks, 1 something does, 2 usage, 3 cannot connect.

    \b
    gemstone diff openrpc.json shop.service:Shop
    gemstone diff openrpc.json http://localhost:8000/api --json
    """
    from ..contract.diff import differences
    from ..contract.reading import BadDocument

    (before, was), (after, is_) = _read(old, access), _read(new, access)
    both = was & is_
    if not both:
        raise click.UsageError(
            f"one of {old} and {new} tells of methods only and the other of events only: there is "
            "nothing to compare"
        )
    try:
        changes = differences(before, after, methods="methods" in both, events="events" in both)
    except BadDocument as error:
        raise CommandFailed(f"{old}, {new}: {error}", USAGE) from None
    if as_json:
        rows = [{"where": c.where, "what": c.what, "breaks": c.breaks} for c in changes]
        show({"changes": rows}, as_json=True)
    else:
        _print_changes(changes)
    if any(change.breaks for change in changes):
        ctx.exit(REFUSED)


def _read(text: str, access: Access) -> tuple[Contract, set[str]]:
    """Read a source, and what it can tell of: a document has methods or events."""
    from .source import read_source

    source = read_source(text, access)
    contract = source.contract
    told = {"methods"} if contract.methods else set()
    if contract.emits or contract.handles:
        told.add("events")
    # A class or a service tells of both, though it has none; an empty document of what is asked.
    if not told or "asyncapi" in source.documents:
        told = {"methods", "events"}
    return contract, told


def _print_changes(changes: list[Change]) -> None:
    """Write a line for each change, those that break first."""
    for change in sorted(changes, key=lambda change: not change.breaks):
        parties = f"breaks {', '.join(change.breaks)}" if change.breaks else "breaks nobody"
        colour = "red" if change.breaks else None
        line = printable(f"{parties}: {change.where}: {change.what}")
        click.echo(click.style(line, fg=colour) if colour else line)
