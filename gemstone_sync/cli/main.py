"""Run the command line: which commands there are, and how one is found by its name."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from .. import __version__
from ..exit_codes import run_reported
from ..suggestions import did_you_mean

__all__ = ["gemstone", "main"]

#: What each command does: the help of all of them is shown without importing one.
_COMMANDS = {
    "new": "Make a new service from a template.",
    "run": "Run a service: gemstone run module:Class.",
    "config": "Show the settings of a service and where they come from.",
    "call": "Call a method of a service found through a registry.",
    "call_raw": "Call a method at a URL.",
    "list": "List the services that a registry knows.",
    "describe": "Show a service's methods, signatures and docs.",
    "contract": "Write what a service promises: OpenRPC, AsyncAPI, Markdown.",
    "client": "Write a typed client of a service, in Python or TypeScript.",
    "diff": "Tell what changed in a contract, and for whom it breaks.",
    "mcp": "Offer a service's methods as tools to an agent.",
    "emit": "Publish an event.",
    "listen": "Print events as they come.",
    "deadletters": "List, replay or purge the events that could not be handled.",
    "registry": "Run a service registry.",
    "shell": "A Python prompt with services at hand.",
    "stacks": "Show what a running service does and waits for.",
    "bench": "Call a method many times and show how long it took.",
    "completion": "Print the completion script of a shell.",
}

#: Another spelling, not shown in the help.
_ALIASES = {"call-raw": "call_raw"}


class LazyGroup(click.Group):
    """Imports a command when it is used: the attribute `command` of the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        found = importlib.import_module(f"{__package__}.{name}").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and args[0] not in _ALIASES:
            if args[0].startswith("-"):
                ctx.fail(f"no such option: {args[0]}")
            hint = did_you_mean(args[0], [*_COMMANDS, *_ALIASES]) or "; see gemstone --help"
            ctx.fail(f"no such command: {args[0]}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"gemstone_sync {__version__}")
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

    def work() -> None:
        # Not click's main, which ends with 1 when nobody reads any more.
        with gemstone.make_context("gemstone", words[:], color=color) as context:
            gemstone.invoke(context)

    # The first word that is no option is the command's name: the group has no options with values.
    name = next((word for word in words if not word.startswith("-")), "")
    own_words = words[: words.index("--")] if "--" in words else words
    run_reported(work, command=f"gemstone {name}".rstrip(), as_json="--json" in own_words)
