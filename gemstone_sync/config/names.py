"""How a setting is called: as an option, a variable, a key."""

from __future__ import annotations

__all__ = ["option_of", "plain", "variable_of"]


def plain(name: str) -> str:
    """Write the attribute's name: ``max-hops`` and ``max_hops`` are the same setting."""
    return name.replace("-", "_")


def option_of(name: str) -> str:
    """Write the option on a command line."""
    return f"--{name}"


def variable_of(name: str, prefix: str) -> str:
    """Write the environment variable.

    >>> variable_of("max_hops", "GEMSTONE_")
    'GEMSTONE_MAX_HOPS'
    """
    return prefix + name.upper().replace("-", "_").replace(".", "_")
