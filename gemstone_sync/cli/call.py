"""``gemstone call``: one call of a method of a service that a registry knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .options import (
    Access,
    Params,
    access_options,
    json_option,
    method_arguments,
    registry_option,
    required_registry,
    utf8,
)
from .output import show

if TYPE_CHECKING:
    from .remote import Clock

__all__ = ["call_options", "command", "make_call"]


def call_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `make_call` wants, but where, and the time."""
    notify_option = click.option(
        "--notify", is_flag=True, help="Send a notification: the service gives no answer."
    )
    return method_arguments(notify_option(access_options(json_option(function))))


@click.command("call")
@registry_option
@click.argument("name", type=utf8)
@call_options
def command(registry: str | None, name: str, access: Access, **call: Any) -> None:
    """Call METHOD of the service NAME, which a registry knows.

    NAME may be a pattern with *, ? and [...]: any one service that it matches is called.

    \b
    PARAMS  name=world       a text
            times:=3         any JSON value: a number, true, null, '["a", "b"]'
            --args '[1, 2]'  by position

    \b
    gemstone call --registry=http://localhost:8090/api greeter say_hello name=world
    """
    from .remote import Clock, locate

    registry = required_registry(registry)
    clock = Clock(access.timeout)
    make_call(locate(registry, name, access, clock.left), clock, access, **call)


def make_call(
    urls: str | list[str],
    clock: Clock,
    access: Access,
    method: str,
    params: Params,
    notify: bool,
    as_json: bool,
) -> None:
    """Make a call, and write what came of it.

    :param clock: has run since the service was looked for.
    """
    from .remote import client_of

    with client_of(urls, access, clock.left) as client:
        value = None
        identification = clock.passed
        if notify:
            client.notify(method, params)
        else:
            value = client.call_method(method, params).value()
        call = clock.passed - identification
    if not as_json:
        # As gemstone 0.10.1 did.
        click.echo(f"[!] Service identification: {identification:.5f} seconds", err=True)
        click.echo(f"[!] Method call: {call:.5f} seconds", err=True)
        if not notify:
            click.echo("[!] Result:\n", err=True)
    if not notify:
        show(value, as_json=as_json)
