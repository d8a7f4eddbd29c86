"""``gemstone registry``: ``python -m gemstone_sync.registry`` under another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .service_command import ServiceCommand

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["command"]


class _RegistryCommand(ServiceCommand):
    def service_class(self) -> type[MicroService]:
        from ..registry import ServiceRegistry

        return ServiceRegistry


@click.command("registry", cls=_RegistryCommand, add_help_option=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Run a service registry."""
    from ..concurrency import patch

    patch()
    from ..registry.command import main

    main(words, program="gemstone registry")
