"""``gemstone completion``: the script that makes a shell complete the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(gemstone completion bash)"     in ~/.bashrc
    zsh:   eval "$(gemstone completion zsh)"      in ~/.zshrc
    fish:  gemstone completion fish > ~/.config/fish/completions/gemstone.fish
    """
    from .main import gemstone

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(gemstone, {}, "gemstone", "_GEMSTONE_COMPLETE").source())
