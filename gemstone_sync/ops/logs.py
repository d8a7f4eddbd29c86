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
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
