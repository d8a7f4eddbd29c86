"""``gemstone call`` and ``gemstone call_raw``: one call of a service's method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import RemoteError
from .output import show, show_time
from .parameters import TEXT, Call, call_arguments, registry_option, required_registry

if TYPE_CHECKING:
    from ..client import RemoteService
    from .remote import Clock

__all__ = ["call", "call_raw"]


@click.command()
@registry_option
@click.argument("name", type=TEXT)
@call_arguments
def call(registry: str | None, name: str, call: Call) -> None:
    """Call METHOD of the service NAME, which a registry knows.

    NAME may be a pattern with *, ? and [...]: any one service that it matches is called.

    \b
    PARAMS  name=world       a text
            times:=3         any JSON value: a number, true, null, '["a", "b"]'
            --args '[1, 2]'  by position

    \b
    gemstone call --registry=http://localhost:8090/api greeter say_hello name=world
    """
    from .remote import Clock, client_of, locate

    registry = required_registry(registry)
    clock = Clock(call.access.timeout)
    urls = locate(registry, name, clock.left, call.access.trust)
    with client_of(urls, call.access, clock.left) as client:
        _run(call, client, clock)


@click.command("call_raw")
@click.argument("url", type=TEXT)
@call_arguments
def call_raw(url: str, call: Call) -> None:
    """Call METHOD of the service at URL.

    \b
    PARAMS  name=world       a text
            times:=3         any JSON value: a number, true, null, '["a", "b"]'
            --args '[1, 2]'  by position

    \b
    gemstone call_raw http://localhost:8000/api say_hello name=world times:=3
    """
    from .remote import Clock, client_of

    clock = Clock(call.access.timeout)
    with client_of(url, call.access, clock.left) as client:
        _run(call, client, clock)


def _run(call: Call, client: RemoteService, clock: Clock) -> None:
    """Make the call, and write what came of it.

    :param clock: has run since the service was looked for.
    """
    from .remote import refusal

    value = None
    identification = clock.passed
    try:
        if call.notify:
            client.notify(call.method, call.params)
        else:
            value = client.call_method(call.method, call.params).value()
    except RemoteError as error:
        if call.as_json:
            raise
        raise refusal(error, client, clock.left) from error
    taken = clock.passed - identification
    if not call.as_json:
        show_time("Service identification", identification)
        show_time("Method call", taken)
    if call.notify:
        return
    if not call.as_json:
        click.echo("[!] Result:\n", err=True)
    show(value, as_json=call.as_json)
