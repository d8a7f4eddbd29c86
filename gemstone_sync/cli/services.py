"""``gemstone list`` and ``gemstone describe``: which services there are, and what they can do."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..broker_urls import without_passwords
from ..errors import BadResponse, MethodNotFound, RemoteError
from .faults import CommandFailed, printable
from .output import show
from .parameters import (
    TEXT,
    Access,
    Trust,
    access_options,
    json_option,
    registry_option,
    required_registry,
    timeout_option,
    trust_options,
)

if TYPE_CHECKING:
    from ..client import RemoteService

__all__ = ["describe", "list_services"]


# list


@click.command("list")
@registry_option
@click.argument("pattern", required=False, type=TEXT)
@timeout_option
@trust_options
@json_option
def list_services(
    registry: str | None, pattern: str | None, timeout: float, trust: Trust, as_json: bool
) -> None:
    """List the services that a registry knows, with their URLs.

    PATTERN is a name, or has *, ? and [...] in it: without one all services are listed.

    \b
    gemstone list --registry=http://localhost:8090/api 'shop.*'
    """
    from .remote import Clock, listing_of, refusal, registry_client

    clock = Clock(timeout)
    with registry_client(required_registry(registry), timeout, trust) as client:
        try:
            answer = listing_of(client, pattern)
        except MethodNotFound:
            raise CommandFailed(
                f"the registry {without_passwords(client.url)} cannot list its services: it has no "
                "method list_services"
            ) from None
        except RemoteError as error:
            if as_json:
                raise
            raise refusal(error, client, clock.left) from error
        rows = _rows_of(answer, client.url)
    if as_json:
        show(answer, as_json=True)
    elif rows:
        click.echo(_table([("NAME", "URL", "INSTANCES", "STATUS", "LAST PING"), *sorted(rows)]))
    else:
        which = "no service" if pattern is None else f"no service that matches {pattern!r}"
        click.echo(f"[!] The registry knows {which}", err=True)


def _rows_of(answer: object, url: str) -> list[tuple[str, ...]]:
    """A line for each URL.

    :raises BadResponse: when the answer is no listing.
    """
    if not isinstance(answer, dict):
        raise _no_listing(answer, url)
    rows: list[tuple[str, ...]] = []
    for name, places in answer.items():
        if not isinstance(places, list):
            raise _no_listing(answer, url)
        for place in places:
            if not isinstance(place, dict) or not isinstance(place.get("url"), str):
                raise _no_listing(answer, url)
            rows.append((name, *_cells_of(place)))
    return rows


def _cells_of(place: Mapping[str, Any]) -> list[str]:
    silence = place.get("last_ping_seconds_ago")
    known = [without_passwords(place["url"]), place.get("instances", "-"), place.get("status", "-")]
    return [*map(str, known), f"{silence:.0f} s ago" if isinstance(silence, (int, float)) else "-"]


def _no_listing(answer: object, url: str) -> BadResponse:
    return BadResponse(f"{url}: list_services gave {answer!r:.60}, which is no list of services")


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns that are as wide as they must be, two spaces apart."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


# describe


class Described(NamedTuple):
    """One method, as its service tells of it.

    :param signature: None when the service tells none, as gemstone 0.10.1 does not.
    """

    signature: str | None
    doc: str | None


@click.command()
@registry_option
@click.argument("service", metavar="URL-OR-NAME", type=TEXT)
@click.argument("method", required=False, type=TEXT)
@access_options
@json_option
def describe(
    registry: str | None, service: str, method: str | None, access: Access, as_json: bool
) -> None:
    """Show a service's methods with their signatures and docs.

    The service is at a URL, or a registry knows it by name; METHOD shows one method only.

    \b
    gemstone describe http://localhost:8000/api
    gemstone describe --registry=http://localhost:8090/api greeter say_hello
    """
    from .remote import Clock, client_of, locate, refusal, specs_of

    clock = Clock(access.timeout)
    # No service is registered under a name with these characters.
    is_url = ":" in service or "/" in service
    urls: str | list[str] = service
    if not is_url:
        urls = locate(required_registry(registry), service, clock.left, access.trust)
    with client_of(urls, access, clock.left) as client:
        try:
            specs = specs_of(client)
        except RemoteError as error:
            if as_json:
                raise
            raise refusal(error, client, clock.left) from error
        _show_service(specs, client, method, as_json)


def _show_service(specs: object, client: RemoteService, method: str | None, as_json: bool) -> None:
    methods = _methods_in(specs, client.url)
    assert isinstance(specs, dict)  # it has methods
    name = specs.get("name")
    # Of several that a registry knows, only the one that answered can say which it is.
    url = client.url if len(client.urls) == 1 else specs.get("accessible_at")
    if method is not None:
        methods = {method: _one_of(methods, method, url)}
    if as_json:
        described = {each: known._asdict() for each, known in methods.items()}
        show({"name": name, "url": url, "methods": described}, as_json=True)
        return
    parts = [_part_of(each, known) for each, known in methods.items()]
    if method is None:
        where = without_passwords(str(url))
        parts.insert(0, printable(where if name is None else f"{name} at {where}"))
    click.echo("\n\n".join(parts))


def _part_of(name: str, method: Described) -> str:
    head = click.style(printable(method.signature or name), bold=True)
    if method.doc is None:
        return head
    lines = printable(method.doc, keep="\n").splitlines()
    return "\n".join([head, *(f"    {line}".rstrip() for line in lines)])


def _methods_in(specs: object, url: str) -> dict[str, Described]:
    """The methods that ``get_service_specs`` tells of.

    :raises BadResponse: when it tells of none.
    """
    methods = specs.get("methods") if isinstance(specs, dict) else None
    if not isinstance(specs, dict) or not isinstance(methods, dict):
        raise BadResponse(f"{url}: get_service_specs gave {specs!r:.60}, which has no methods")
    signatures = specs.get("signatures")
    known = signatures if isinstance(signatures, dict) else {}
    return {name: Described(_text(known.get(name)), _doc(doc)) for name, doc in methods.items()}


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and given else None


def _doc(given: object) -> str | None:
    text = _text(given)
    return None if text is None else inspect.cleandoc(text) or None


def _one_of(methods: Mapping[str, Described], method: str, url: object) -> Described:
    """:raises CommandFailed: when the service has no such method."""
    if method not in methods:
        close = difflib.get_close_matches(method, methods, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise CommandFailed(printable(f"{url} has no method {method}{hint}"))
    return methods[method]
