"""What the stores of handled events raise."""

from __future__ import annotations

__all__ = ["ProcessedEventsFault"]


class ProcessedEventsFault(OSError):
    """The store cannot be reached, read or written; the text says why. Trying again may help."""
