"""Logging for a service: shown where it is its own program, kept where logging.config hushes it."""

from __future__ import annotations

import logging
import sys

__all__ = ["restore_loggers", "show_logs"]

_NAME = __name__.partition(".")[0]


def restore_loggers() -> None:
    """Enable our loggers where logging.config has disabled all that there were by then.

    ``dictConfig`` and ``fileConfig`` do so by default (``disable_existing_loggers``). What somebody
    has disabled by itself stays so: nobody disables the one above them all, which hushes no other.
    """
    if logging.getLogger(_NAME).disabled:
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if name.partition(".")[0] == _NAME and isinstance(logger, logging.Logger):
                logger.disabled = False


def show_logs() -> None:
    """Send logs from INFO up to stderr, unless the program has set up logging itself."""
    if logging.getLogger(_NAME).hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Formatter(logging.Formatter):
    """Begins one line for each record; what else a record has, as a traceback's lines, is indented.

    What a caller sent may stand in the text of any exception, and in what Flask says of a path: it
    must neither look like a record nor control a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_ESCAPES).replace("\n", "\n  ")


class _Escapes(dict[int, str]):
    """Writes as escapes, by code point, what has no look of its own."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = character.isprintable() or character in "\n\t"
        return character if shown else ascii(character)[1:-1]


_ESCAPES = _Escapes()
