"""``gemstone registry``: ``python -m gemstone_sync.registry`` under another name."""

from __future__ import annotations

import click

__all__ = ["registry"]


class _RegistryCommand(click.Command):
    """Its words are the registry's to read. Only for a shell that completes it has options."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        if not ctx.resilient_parsing:
            return params
        from ..registry import ServiceRegistry

        return ServiceRegistry.get_cli().commands["start"].get_params(ctx) + params


@click.command(
    cls=_RegistryCommand,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def registry(words: tuple[str, ...]) -> None:
    """Run a service registry."""
    from ..concurrency import patch

    patch()
    from ..registry.command import main

    main(words, program="gemstone registry")
