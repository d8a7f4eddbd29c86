"""``gemstone config``: every setting of a service, its value and where it comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .output import show
from .target_arguments import TargetCommand, target_arguments

if TYPE_CHECKING:
    from ..service.settings import Setting

__all__ = ["config"]

_OWN = ("--json", "--changed")


@click.command(
    cls=TargetCommand,
    options_metavar="[--changed] [--json]",
    context_settings={"allow_interspersed_args": False},
)
@click.option("--changed", is_flag=True, help="Leave out what has its default.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@target_arguments
def config(target: str, words: tuple[str, ...], changed: bool, as_json: bool) -> None:
    """Show the settings that TARGET would run with here and now, and where each comes from.

    TARGET and the options after it are those of gemstone run. Nothing is started. Secrets are
    masked.
    """
    from .target import make, users_faults

    rest = [word for word in words if word not in _OWN]
    sys.argv[0] = "gemstone config"  # what the service's configurators begin their messages with
    service = make(target)
    with users_faults():
        if not service.skip_configuration:
            service.configure(rest)
        settings = service.get_settings()
    if changed or "--changed" in words:
        settings = [setting for setting in settings if setting.source != "default"]
    if as_json or "--json" in words:
        show([_sendable(setting) for setting in settings], as_json=True)
    else:
        _print_table([(name, _on_one_line(value), source) for name, value, source in settings])


def _sendable(setting: Setting) -> dict[str, str]:
    """What of a command line or the environment is not UTF-8 cannot be JSON."""
    texts = setting._asdict().items()
    return {key: text.encode(errors="backslashreplace").decode() for key, text in texts}


def _on_one_line(value: str) -> str:
    return value if value.isprintable() and value else repr(value)


def _print_table(settings: list[tuple[str, str, str]]) -> None:
    names = max((len(name) for name, _, _ in settings), default=0)
    values = max((len(value) for _, value, _ in settings if len(value) <= 40), default=0)
    for name, value, source in settings:
        text = click.style(value, bold=source != "default")
        click.echo(f"{name:{names}}  {text}{' ' * (values - len(value))}  {source}")
