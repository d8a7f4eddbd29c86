"""The private directory that the processes of one service share, and which of them still run.

Metrics are kept there, and the sockets by which workers ask each other how they do. A process is
told by its number and its start, which the system does not give to another one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile

__all__ = [
    "directory_of",
    "identity_of",
    "is_alive",
    "is_first",
    "members",
    "pid_of",
    "remove_directory",
]

_PREFIX = "gemstone_sync-workers-"
_IDENTITY = re.compile(r"[0-9a-f]+-[0-9]+-[0-9]+(?=\.)")


def _namespace() -> int:
    """Return what tells containers apart that share a directory: their processes' numbers mix."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        return 0


def _started(pid: int) -> int | None:
    """Return what tells a process from a later one of the same number; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return None
    except OSError:  # it ended while it was read
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def identity_of(pid: int) -> str:
    """Return what tells a process from every other one, of other containers too."""
    return f"{_namespace():x}-{pid}-{_started(pid) or 0}"


def pid_of(identity: str) -> int:
    """Return the number of a process."""
    return int(identity.split("-")[1])


def is_alive(identity: str) -> bool:
    """Tell whether a process runs; of one in another container that is not known: it does."""
    try:
        namespace, pid, started = identity.split("-")
        return int(namespace, 16) != _namespace() or _started(int(pid)) == int(started)
    except ValueError:
        return True


def _beginning() -> str:
    return os.path.join(tempfile.gettempdir(), f"{_PREFIX}{os.geteuid()}-")


def directory_of(owner: int) -> str:
    """Return the private directory of all processes that belong to one parent; make it.

    What a process keeps there has a name that begins with its `identity_of` and a dot.

    :param owner: the parent's number: its files of an earlier service, and directories of parents
        that have ended, are removed.
    :raises OSError: when it cannot be made, or is not this user's own.
    """
    _remove_old(*os.path.split(_beginning()))
    path = _beginning() + identity_of(owner)
    if path not in _made:
        if owner == os.getpid():
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
        mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not mine or found.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "it is not this user's own", path)
        _made.add(path)
    return path


def is_first(path: str, owner: int) -> bool:
    """Tell the first of a parent's processes that asks, and it alone, that it is.

    :raises OSError: when nothing can be written.
    """
    try:
        with open(os.path.join(path, f"{identity_of(owner)}.asked"), "x"):
            return True
    except FileExistsError:
        return False


def remove_directory(owner: int) -> None:
    """Remove the private directory of a parent, if there is one."""
    path = _beginning() + identity_of(owner)
    _made.discard(path)
    shutil.rmtree(path, ignore_errors=True)


#: Directories that this process, or the parent that has forked it, has made.
_made: set[str] = set()


def members(path: str) -> list[str]:
    """List the processes that have something in a directory."""
    found = {match[0] for name in os.listdir(path) if (match := _IDENTITY.match(name))}
    return sorted(found)


def _remove_old(base: str, prefix: str) -> None:
    for name in os.listdir(base):
        if name.startswith(prefix) and not is_alive(name.removeprefix(prefix)):
            path = os.path.join(base, name)
            with contextlib.suppress(OSError):
                if not any(is_alive(each) for each in members(path)):
                    shutil.rmtree(path, ignore_errors=True)
