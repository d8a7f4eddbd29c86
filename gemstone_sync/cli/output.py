"""Results on stdout: pretty and coloured on a terminal, plain JSON in a pipe."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from ..protocol import encode_json

__all__ = ["show", "show_time"]

#: The parts of JSON text: a text (a key when a colon follows), a number, a word.
_PARTS = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")(?P<colon>:)?|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)'
)


def show(value: Any, *, as_json: bool = False) -> None:
    """Write a result: indented and in colours on a terminal, otherwise as one line of JSON.

    :param as_json: one line of JSON on a terminal too.
    """
    if as_json or not sys.stdout.isatty():
        click.echo(encode_json(value))
    else:
        click.echo(_coloured(json.dumps(value, indent=2, ensure_ascii=False)))


def show_time(what: str, seconds: float) -> None:
    """Write ``[!] Method call: 0.01701 seconds`` to stderr, as gemstone 0.10.1 did."""
    click.echo(f"[!] {what}: {seconds:.5f} seconds", err=True)


def _coloured(text: str) -> str:
    return _PARTS.sub(_style, text)


def _style(part: re.Match[str]) -> str:
    if part["text"]:
        colour = "blue" if part["colon"] else "green"
        return click.style(part["text"], fg=colour) + (part["colon"] or "")
    return click.style(part[0], fg="cyan" if part["number"] else "magenta")
