"""``gemstone list``: the services that a registry knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ..broker_urls import without_passwords
from ..errors import MethodNotFound
from ..exit_codes import CommandFailed
from .options import Access, asking_options, json_option, registry_option, required_registry, utf8
from .output import show, table

__all__ = ["command"]


@click.command("list")
@registry_option
@click.argument("pattern", required=False, type=utf8)
@asking_options
@json_option
def command(registry: str | None, pattern: str | None, access: Access, as_json: bool) -> None:
    """List the services that a registry knows, with their URLs.

    PATTERN is a name, or has *, ? and [...] in it: without one all services are listed.

    \b
    gemstone list --registry=http://localhost:8090/api 'shop.*'
    """
    from .remote import listing_of, registry_client

    with registry_client(required_registry(registry), access) as client:
        try:
            listing = listing_of(client, pattern)
        except MethodNotFound:
            raise CommandFailed(
                f"the registry {without_passwords(client.url)} cannot list its services: it has no "
                "method list_services"
            ) from None
    rows = [(name, *_cells_of(place)) for name, places in listing.items() for place in places]
    if as_json:
        show(listing, as_json=True)
    elif rows:
        click.echo(table([("NAME", "URL", "INSTANCES", "STATUS", "LAST PING"), *sorted(rows)]))
    else:
        which = "no service" if pattern is None else f"no service that matches {pattern!r}"
        click.echo(f"[!] The registry knows {which}", err=True)


def _cells_of(place: Mapping[str, Any]) -> list[str]:
    silence = place.get("last_ping_seconds_ago")
    known = [without_passwords(place["url"]), place.get("instances", "-"), place.get("status", "-")]
    return [*map(str, known), f"{silence:.0f} s ago" if isinstance(silence, (int, float)) else "-"]
