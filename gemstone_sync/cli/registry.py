"""``gemstone registry``: ``python -m gemstone_sync.registry`` under another name."""

from __future__ import annotations

import click

__all__ = ["registry"]


# No option is known here, --help neither: all of them are the registry's.
@click.command(
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
