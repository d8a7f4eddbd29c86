"""Logging for a service that runs as its own program."""

from __future__ import annotations

import logging
import sys

__all__ = ["show_logs"]


def show_logs() -> None:
    """Send logs from INFO up to stderr, unless the program has set up logging itself."""
    if logging.getLogger("gemstone_sync").hasHandlers():
        return
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
