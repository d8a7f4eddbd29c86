"""The command line that a service makes of itself: ``MicroService.get_cli``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..exit_codes import run_reported

if TYPE_CHECKING:
    from ..config import CommandLineConfigurator, Configurable

__all__ = ["make_cli"]

_HELP_NAMES = {"help_option_names": ["-h", "--help"]}

_CONFIG = click.Option(
    ["--config"],
    metavar="FILE",
    multiple=True,
    type=click.Path(),
    help="A configuration file; may be repeated.",
)


def make_cli(service_class: type[Any], settings: CommandLineConfigurator | None) -> click.Group:
    """Make the command line of a service: a group with ``start``.

    :param service_class: a `MicroService` class.
    :param settings: what reads the service's options; None when it takes none.
    """
    about = (service_class.__doc__ or f"The service {service_class.name}.").strip()
    group = _Cli("cli", help=about, context_settings=_HELP_NAMES)
    group.add_command(_Start(service_class, settings))
    return group


class _Cli(click.Group):
    """Ends as the gemstone command does: errors in one line, its exit codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        program = prog_name or os.path.basename(sys.argv[0])

        def work() -> Any:
            return super(_Cli, self).main(words, program, complete_var, False, **extra)

        return run_reported(work, command=program) if standalone_mode else work()


class _Start(click.Command):
    """``start``: every setting of the service is an option.

    The words are read by the service's configurators, so that names, types, precedence and errors
    are the same however it is started; the options here are what click shows and completes.
    """

    def __init__(self, service_class: type[Any], settings: CommandLineConfigurator | None) -> None:
        super().__init__("start", help=f"Start {service_class.name}.", context_settings=_HELP_NAMES)
        self.service_class = service_class
        self.settings = settings

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.params and self.settings is not None:
            explain = self.settings.explain
            options = [_option_of(each, explain(each)) for each in self.settings.configurables]
            self.params = [_CONFIG, *options]
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        if ctx.resilient_parsing:  # a shell asks for completions: nothing is said or refused
            return args
        if any(word in ctx.help_option_names for word in args):
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        if args and self.settings is None:
            ctx.fail(f"{self.service_class.name} reads no command line: its configurators do not")
        return args

    def invoke(self, ctx: click.Context) -> None:
        service = self.service_class()
        service.configure(ctx.args)
        service.start()


def _option_of(setting: Configurable, help: str) -> click.Option:
    if setting.setting_type is not None and setting.setting_type.is_switch:
        return click.Option([f"--{setting.name}/--no-{setting.name}"], help=help)
    metavar = None if setting.setting_type is None else setting.setting_type.metavar
    return click.Option([f"--{setting.name}"], help=help, metavar=metavar)
