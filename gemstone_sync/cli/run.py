"""``gemstone run``: serve a service that is named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .faults import USAGE, CommandFailed
from .target_arguments import TargetCommand, target_arguments

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["run"]

_HELP = ("-h", "--help")


class _RunCommand(TargetCommand):
    """Its own options stand anywhere; every word after TARGET that is none is the service's.

    Which options the service has, and which of them take a value, is known once it is loaded: so
    TARGET comes before them.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.option_name} before TARGET: options of the service come after it, "
                "gemstone run module:Class --port 8000",
                ctx,
            ) from None


@click.command(
    cls=_RunCommand,
    options_metavar="[--reload]",
    context_settings={"allow_interspersed_args": False, "help_option_names": list(_HELP)},
)
@click.option("--reload", is_flag=True, help="Start again when a file of the program changes.")
@target_arguments
def run(target: str, words: tuple[str, ...], reload: bool) -> None:
    """Serve TARGET until SIGTERM or Ctrl-C.

    \b
    TARGET is one of
      module:Class        a MicroService class of a module, or the one object of it there
      module:object       a MicroService object
      module              when the module has one service only
      service.py:Class    a file in place of the module

    The working directory comes first on Python's path, and the process is patched by gevent before
    the module is imported.

    Every setting of the service is an option after TARGET: --port 8000, --workers 4. To see all of
    them, with their defaults and environment variables: gemstone run TARGET --help.

    With --reload the service starts again when a file in the working directory changes: *.py,
    *.toml, *.yaml, *.yml, *.ini, *.cfg and .env; or a file that is given with --config,
    wherever it is. It needs the extra gemstone_sync[reload].
    """
    rest = [word for word in words if word != "--reload"]
    if any(word in _HELP for word in rest):
        _show_help(target)
    elif reload or len(rest) < len(words):
        from . import reloading

        raise SystemExit(reloading.run(target, rest))
    else:
        _serve(target, rest)


def _serve(target: str, words: Sequence[str]) -> None:
    import gevent

    from ..concurrency import patch
    from . import reloading
    from .target import make, users_faults

    patch()
    hub = gevent.get_hub()
    # Ctrl-C before the service runs, in a module that waits for something, is nothing to print.
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
    reloader = reloading.join()
    sys.argv[0] = "gemstone run"  # what the service's configurators begin their messages with
    service = make(target)
    with users_faults():
        _configure(service, words)
        if reloader is not None:
            reloader.adapt(service)
        service.start()


def _configure(service: MicroService, words: Sequence[str]) -> None:
    from ..config import CommandLineConfigurator

    reason = ""
    if service.skip_configuration:
        reason = "it has skip_configuration"
    elif not any(isinstance(c, CommandLineConfigurator) for c in service.configurators):
        reason = "none of its configurators is a CommandLineConfigurator"
    if words and reason:
        raise CommandFailed(
            f"{service.name} takes no options, because {reason}: {words[0].partition('=')[0]}",
            USAGE,
        )
    if not service.skip_configuration:
        service.configure(words)


def _show_help(target: str) -> None:
    from .target import make

    service = make(target)
    click.echo(click.get_current_context().get_help())
    # Without the usage, which argparse puts into the first paragraph: click's is above.
    _, _, options = service.configuration_help().partition("\n\n")
    if options:
        options = options.removeprefix("options:\n")
        click.echo(f"\nOptions of {service.name}:\n{options}")
    else:
        click.echo(f"\n{service.name} takes no options: no configurator reads a command line.")
