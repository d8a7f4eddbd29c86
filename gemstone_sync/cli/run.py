"""``gemstone run``: serve a service that is named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .service_command import ServiceCommand, target_arguments

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["command"]


@click.command("run", cls=ServiceCommand, options_metavar="[--reload]", add_help_option=False)
@click.option("--reload", is_flag=True, help="Start again when a file of the program changes.")
@click.option("-h", "--help", is_flag=True, help="Show this, and the options of TARGET.")
@target_arguments
def command(target: str, words: tuple[str, ...], reload: bool, help: bool) -> None:
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
    if help:
        _show_help(target)
    elif reload:
        from .reload import run_again_and_again

        raise SystemExit(run_again_and_again(target, words))
    else:
        _serve(target, words)


def _serve(target: str, words: Sequence[str]) -> None:
    import gevent

    from ..concurrency import patch
    from .reload import join
    from .target import make, users_faults

    patch()
    hub = gevent.get_hub()
    # Ctrl-C before the service runs, in a module that waits for something, is nothing to print.
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
    port = join()
    sys.argv[0] = "gemstone run"  # what the service's configurators begin their messages with
    service = make(target)
    with users_faults():
        _configure(service, words)
        if port is not None:  # it is started again after each change
            service.port = service.port or port
            service.drain_delay = service.drain_grace = 0.0  # end at once when nothing runs
        service.start()


def _configure(service: MicroService, words: Sequence[str]) -> None:
    from ..config import CommandLineConfigurator

    reason = ""
    if service.skip_configuration:
        reason = "it has skip_configuration"
    elif not any(isinstance(c, CommandLineConfigurator) for c in service.configurators):
        reason = "none of its configurators is a CommandLineConfigurator"
    if words and reason:
        raise click.UsageError(
            f"{service.name} takes no options, because {reason}: {words[0].partition('=')[0]}"
        )
    if not service.skip_configuration:
        service.configure(words)


def _show_help(target: str | None) -> None:
    from .target import make

    service = None if target is None else make(target)
    click.echo(click.get_current_context().get_help())
    if service is None:
        return
    # Without the usage, which argparse puts into the first paragraph: click's is above.
    _, _, options = service.configuration_help().partition("\n\n")
    if options:
        options = options.removeprefix("options:\n")
        click.echo(f"\nOptions of {service.name}:\n{options}")
    else:
        click.echo(f"\n{service.name} takes no options: no configurator reads a command line.")
