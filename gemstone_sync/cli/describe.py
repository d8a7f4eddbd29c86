"""``gemstone describe``: the methods of a service, with their signatures and docs."""

from __future__ import annotations

import inspect

import click

from ..broker_urls import without_passwords
from ..errors import BadResponse, InternalError, InvalidParams
from ..exit_codes import CommandFailed, printable
from ..suggestions import did_you_mean
from .options import Access, access_options, json_option, registry_option, required_registry, utf8
from .output import show

__all__ = ["command"]


@click.command("describe")
@registry_option
@click.argument("service", metavar="URL-OR-NAME", type=utf8)
@click.argument("method", required=False, type=utf8)
@access_options
@json_option
def command(
    registry: str | None, service: str, method: str | None, access: Access, as_json: bool
) -> None:
    """Show a service's methods with their signatures and docs.

    The service is at a URL, or a registry knows it by name; METHOD shows one method only.

    \b
    gemstone describe http://localhost:8000/api
    gemstone describe --registry=http://localhost:8090/api greeter say_hello
    """
    from .remote import Clock, client_of, locate

    clock = Clock(access.timeout)
    urls: str | list[str] = service
    if ":" not in service and "/" not in service:  # no URL, and a name has neither
        urls = locate(required_registry(registry), service, access, clock.left)
    with client_of(urls, access, clock.left) as client:
        try:
            specs = client.idempotent.get_service_specs(signatures=True)
        except (InvalidParams, InternalError):
            # gemstone 0.10.1, and services with a method of their own, know of none.
            specs = client.idempotent.get_service_specs()
        methods = _methods_in(specs, client.url)
        name = specs.get("name")
        # Of several that a registry knows, only the one that answered can say which it is.
        url = client.url if len(client.urls) == 1 else specs.get("accessible_at")
    if method is not None:
        if method not in methods:
            raise CommandFailed(f"{url} has no method {method}{did_you_mean(method, methods)}")
        methods = {method: methods[method]}
    if as_json:
        show({"name": name, "url": url, "methods": methods}, as_json=True)
        return
    parts = [_part_of(each, known) for each, known in methods.items()]
    if method is None:
        where = without_passwords(str(url))
        parts.insert(0, printable(where if name is None else f"{name} at {where}"))
    click.echo("\n\n".join(parts))


def _part_of(name: str, method: dict[str, str | None]) -> str:
    head = click.style(printable(method["signature"] or name), bold=True)
    lines = printable(method["doc"] or "", keep="\n").splitlines()
    return "\n".join([head, *(f"    {line}".rstrip() for line in lines)])


def _methods_in(specs: object, url: str) -> dict[str, dict[str, str | None]]:
    """Read signature and doc of each method that ``get_service_specs`` tells of.

    A signature is None when the service tells none, as gemstone 0.10.1 does not.

    :raises BadResponse: when it tells of none.
    """
    methods = specs.get("methods") if isinstance(specs, dict) else None
    if not isinstance(specs, dict) or not isinstance(methods, dict):
        raise BadResponse(f"{url}: get_service_specs gave {specs!r:.60}, which has no methods")
    signatures = specs.get("signatures")
    known = signatures if isinstance(signatures, dict) else {}
    return {
        name: {
            "signature": _text(known.get(name)),
            "doc": _text(inspect.cleandoc(_text(doc) or "")),
        }
        for name, doc in methods.items()
    }


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and given else None
