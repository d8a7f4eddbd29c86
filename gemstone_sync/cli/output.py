"""Write results: pretty and coloured on a terminal, plain JSON in a pipe."""

from __future__ import annotations

import datetime
import difflib
import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from ..exit_codes import USAGE, CommandFailed, harmless, json_line, printable

__all__ = ["document_options", "moment", "show", "table"]

#: Lines of a difference that are shown.
_MOST_LINES = 200
#: Characters of a table's column at most.
_WIDEST = 60

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
        text = harmless(json.dumps(value, indent=2, ensure_ascii=False))
        click.echo(_PARTS.sub(_style, text))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Write columns that are as wide as they must be, two spaces apart; no row steers a terminal.

    A cell that is longer than others ever should be shifts its own line only.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max((len(cell) for cell in column if len(cell) <= _WIDEST), default=0)
        for column in zip(*cells, strict=True)
    ]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def moment(seconds: float | None, *, local: bool = False) -> str | None:
    """Write ISO 8601 with milliseconds; None for what is no moment."""
    if seconds is None:
        return None
    try:
        found = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        if local:
            return found.astimezone().isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):
        return None  # of another program, far from now
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def document_options(function: Callable[..., str]) -> Callable[..., None]:
    """Add ``--output`` and ``--check`` to a command that returns a document; write or compare it.

    The document goes to stdout without either. Nothing is made for options that do not go together.
    """

    @click.option(
        "-o", "--output", "file", type=click.Path(dir_okay=False), help="Write this file."
    )
    @click.option(
        "--check",
        is_flag=True,
        help="Write nothing; exit 1 when FILE is not what would be written.",
    )
    @functools.wraps(function)
    def command(file: str | None, check: bool, **rest: Any) -> None:
        if check and file is None:
            raise click.UsageError("--check compares with a file: give -o FILE too")
        text = function(**rest)
        if file is None:
            click.echo(text.encode(), nl=False)
        elif check:
            _compare(Path(file), text)
        else:
            try:
                Path(file).write_bytes(text.encode())
            except OSError as error:
                raise CommandFailed(f"cannot write {file}: {error.strerror}", USAGE) from None

    return command


def _compare(path: Path, text: str) -> None:
    """:raises CommandFailed: when the file is not the text, after the difference on stdout."""
    try:
        found = path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    if found == text.encode():
        return
    old = found.decode(errors="backslashreplace")
    lines = difflib.unified_diff(
        old.splitlines(), text.splitlines(), str(path), "what would be written", lineterm=""
    )
    for line in itertools.islice(lines, _MOST_LINES):
        click.echo(printable(line, keep="\t"))
    raise CommandFailed(f"{path} is not what would be written")


def _style(part: re.Match[str]) -> str:
    if part["text"]:
        colour = "blue" if part["colon"] else "green"
        return click.style(part["text"], fg=colour) + (part["colon"] or "")
    return click.style(part[0], fg="cyan" if part["number"] else "magenta")
