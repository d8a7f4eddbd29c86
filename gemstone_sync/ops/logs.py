"""Logging for a service that runs as its own program."""

from __future__ import annotations

import logging
import sys

__all__ = ["show_logs"]


def show_logs() -> None:
    """Send the framework's log to stderr, unless the program has set up logging itself."""
    logger = logging.getLogger("gemstone_sync")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
