"""For how long handled events are remembered."""

from __future__ import annotations

import math

from ...errors import ServiceConfigurationError

__all__ = ["DAY", "check_window"]

#: Seconds; longer than any retry or redelivery should take.
DAY = 86400.0


def check_window(window: float) -> float:
    """:raises ServiceConfigurationError: when it is no number of seconds above 0."""
    is_number = isinstance(window, (int, float)) and not isinstance(window, bool)
    if not is_number or not 0 < window < math.inf:
        raise ServiceConfigurationError(f"window is a number of seconds above 0, not {window!r}")
    return float(window)
