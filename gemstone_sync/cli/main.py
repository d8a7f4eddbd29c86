"""The command itself: which commands there are, and how one is found by its name."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from .faults import run_reported

__all__ = ["gemstone", "main"]

#: Name, module and attribute of each command, and what it does: the help of all of them is shown
#: without importing one.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "new": ("new", "new", "Make a new service from a template."),
    "run": ("run", "run", "Run a service: gemstone run module:Class."),
    "config": ("config", "config", "Show the settings of a service and where they come from."),
    "call": ("calling", "call", "Call a method of a service found through a registry."),
    "call_raw": ("calling", "call_raw", "Call a method at a URL."),
    "list": ("services", "list_services", "List the services that a registry knows."),
    "describe": ("services", "describe", "Show a service's methods, signatures and docs."),
    "emit": ("emitting", "emit", "Publish an event."),
    "listen": ("listening", "listen", "Print events as they come."),
    "registry": ("registry", "registry", "Run a service registry."),
    "shell": ("shell", "shell", "A Python prompt with services at hand."),
    "bench": ("bench", "bench", "Call a method many times and show how long it took."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
}

#: Other spellings, not shown in the help.
_ALIASES = {"call-raw": "call_raw"}


class LazyGroup(click.Group):
    """Imports a command when it is used."""

    def make_context(self, *words: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*words, **extra)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would end with 1; that nobody reads any more is fine, see `run_reported`.
            raise click.exceptions.Exit(0) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        found = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and args[0] not in _ALIASES:
            if args[0].startswith("-"):
                ctx.fail(f"no such option: {args[0]}")
            close = difflib.get_close_matches(args[0], [*_COMMANDS, *_ALIASES], n=1)
            hint = f"did you mean {close[0]}?" if close else "see gemstone --help"
            ctx.fail(f"no such command: {args[0]}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"gemstone_sync {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def gemstone() -> None:
    """JSON-RPC 2.0 microservices from the command line.

    Exit codes: 0 fine, 1 the remote said no, 2 usage, 3 cannot connect. Errors are one line on
    stderr.
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line.

    :param argv: the words after the program's name; those of the process when left out.
    :raises SystemExit: always, with the exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]

    # https://no-color.org; None leaves it to click, which looks for a terminal.
    color = False if os.environ.get("NO_COLOR") else None

    def work() -> Any:
        return gemstone.main(words, prog_name="gemstone", standalone_mode=False, color=color)

    # The first word that is no option is the command's name: the group has no options with values.
    name = next((word for word in words if not word.startswith("-")), "")
    own_words = words[: words.index("--")] if "--" in words else words
    run_reported(work, command=f"gemstone {name}".rstrip(), as_json="--json" in own_words)
