"""SQLite files that several processes share: `SqliteFile`, and `GroupCommit` for many writers.

What is in the tables is the matter of whoever uses them: events, the outbox, the memory of handled
events, a registry's state.
"""

from .file import MEMORY, SqliteFile
from .group_commit import GroupCommit

__all__ = ["MEMORY", "GroupCommit", "SqliteFile"]
