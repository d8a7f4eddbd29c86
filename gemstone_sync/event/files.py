"""SQLite files of events: theirs alone to read, and told apart when one takes another's place."""

from __future__ import annotations

import contextlib
import os

__all__ = ["identity_of", "make_private"]


def identity_of(path: str) -> tuple[int, int] | None:
    """What tells the file at a path from one that took its place; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def make_private(path: str) -> bool:
    """Make the file, for its owner only, unless it is there; -wal and -shm get the same mode.

    :returns: False when it is there. It may be the user's: its mode and its journal stay.

    Only with O_EXCL: closing a descriptor of a file takes away every lock that this process holds
    on it (POSIX), those of its other SQLite connections too.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return True
    return False
