"""How many files the process may have open: each connection is one."""

from __future__ import annotations

import logging
import resource

__all__ = ["raise_file_limit"]

logger = logging.getLogger("gemstone_sync.server")

#: Open files beside connections: those of methods, their databases and calls.
FILES_FOR_METHODS = 512


def raise_file_limit(connections: int) -> tuple[int, int]:
    """Let the process open as many files as `connections` and its methods need, and as many again
    for connections that are handed over.

    :returns: how many connections there can be, and how many handed over beside them.
    """
    files = wanted = 2 * connections + FILES_FOR_METHODS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if files < connections + FILES_FOR_METHODS:
        connections = max(files // 2, files - FILES_FOR_METHODS)
        logger.warning("the limit of %d open files allows %d connections", files, connections)
    return connections, max(connections // 4, files - connections - FILES_FOR_METHODS)
