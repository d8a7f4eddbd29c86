"""``gemstone config``: every setting of a service, its value and where it comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .output import show, table
from .service_command import ServiceCommand, target_arguments

if TYPE_CHECKING:
    from ..service.settings import Setting

__all__ = ["command"]


@click.command("config", cls=ServiceCommand, options_metavar="[--changed] [--json]")
@click.option("--changed", is_flag=True, help="Leave out what has its default.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@target_arguments
def command(target: str, words: tuple[str, ...], changed: bool, as_json: bool) -> None:
    """Show the settings that TARGET would run with here and now, and where each comes from.

    TARGET and the options after it are those of gemstone run. Nothing is started. Secrets are
    masked.
    """
    from .target import make, users_faults

    sys.argv[0] = "gemstone config"  # what the service's configurators begin their messages with
    service = make(target)
    with users_faults():
        if not service.skip_configuration:
            service.configure(words)
        settings = service.get_settings()
    if changed:
        settings = [setting for setting in settings if setting.source != "default"]
    if as_json:
        show([_sendable(setting) for setting in settings], as_json=True)
    elif settings:
        click.echo(table(map(_row, settings)))


def _sendable(setting: Setting) -> dict[str, str]:
    """Escape what is not UTF-8 in a command line or the environment: JSON cannot hold it."""
    texts = setting._asdict().items()
    return {key: text.encode(errors="backslashreplace").decode() for key, text in texts}


def _row(setting: Setting) -> tuple[str, str, str]:
    """Write what is not printable, or empty, as Python does."""
    name, value, source = setting
    return name, value if value.isprintable() and value else repr(value), source
