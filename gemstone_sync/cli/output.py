"""Results on stdout: pretty and coloured on a terminal, plain JSON in a pipe."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from ..protocol import encode_json

__all__ = ["json_line", "show", "show_time"]

#: What JSON may hold as it is, and a terminal obeys: DEL, the C1 controls (U+009B begins a control
#: sequence in xterm), and what turns the order of characters round (Unicode TR 36, section 2.5).
_STEERING = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: The parts of JSON text: a text (a key when a colon follows), a number, a word.
_PARTS = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")(?P<colon>:)?|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)'
)


def show(value: Any, *, as_json: bool = False) -> None:
    """Write a result: indented and in colours on a terminal, otherwise as one line of JSON.

    :param as_json: one line of JSON on a terminal too.
    """
    if as_json or not sys.stdout.isatty():
        click.echo(json_line(value).encode())
    else:
        click.echo(_coloured(_harmless(json.dumps(value, indent=2, ensure_ascii=False))))


def json_line(value: Any) -> str:
    """JSON in one line, which steers no terminal."""
    return _harmless(encode_json(value).decode())


def show_time(what: str, seconds: float) -> None:
    """Write ``[!] Method call: 0.01701 seconds`` to stderr, as gemstone 0.10.1 did."""
    click.echo(f"[!] {what}: {seconds:.5f} seconds", err=True)


def _harmless(text: str) -> str:
    """The same JSON, with escapes for what would steer a terminal."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _coloured(text: str) -> str:
    return _PARTS.sub(_style, text)


def _style(part: re.Match[str]) -> str:
    if part["text"]:
        colour = "blue" if part["colon"] else "green"
        return click.style(part["text"], fg=colour) + (part["colon"] or "")
    return click.style(part[0], fg="cyan" if part["number"] else "magenta")
