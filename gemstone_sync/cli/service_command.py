"""A command that takes the options of a service, beside its own: `run`, `config`, `registry`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["ServiceCommand", "target_arguments"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class ServiceCommand(click.Command):
    """Hand on the words that are none of its own options: the service reads them.

    To a shell that completes them, the options that every service has are options of the command.
    Those that one service adds are not known without importing it, which may connect, start the
    service or not end; and whoever presses Tab asks for none of it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ignore_unknown_options = True

    def service_class(self) -> type[MicroService]:
        """Return the class whose options are completed."""
        from ..service import MicroService

        return MicroService

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        if not ctx.resilient_parsing:
            return params
        own = {word for param in params for word in param.opts}
        options = self.service_class().get_cli().commands["start"].get_params(ctx)
        return [*params, *(option for option in options if own.isdisjoint(option.opts))]


def target_arguments(function: _Function) -> _Function:
    """Give a command its ``target``, and the ``words`` after it, which are the service's."""
    words = click.argument(
        "words", metavar="[OPTIONS OF THE SERVICE]...", nargs=-1, type=click.UNPROCESSED
    )
    target = click.argument(
        "target",
        metavar="TARGET",
        required=False,  # or --help would ask for it
        callback=_checked,
        type=click.Path(readable=False),
    )
    return target(words(function))


def _checked(ctx: click.Context, param: click.Parameter, target: str | None) -> str | None:
    if ctx.resilient_parsing or ctx.params.get("help"):
        return target
    if target is None:
        raise click.MissingParameter(ctx=ctx, param=param)
    if target.startswith("-") and target != "-":
        raise click.UsageError(
            f"{target} before TARGET: options of the service come after it, "
            f"{ctx.command_path} module:Class --port 8000",
            ctx,
        )
    return target
