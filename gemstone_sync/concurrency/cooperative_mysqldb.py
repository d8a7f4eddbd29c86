"""mysqlclient in a patched process: queries are waited for in the hub, the rest only in C."""

from __future__ import annotations

import importlib
import types
import warnings
from typing import Any

from .waiting import can_switch, wait_until_ready

__all__ = ["mend"]


def mend(module: types.ModuleType) -> None:
    """Have queries wait for their answer in the hub, and say what does not."""
    connections = importlib.import_module("MySQLdb.connections")
    blocking = connections.Connection.query

    def query(self: Any, query: Any) -> None:
        if not can_switch():
            blocking(self, query)
            return
        self.send_query(bytes(query) if type(query) is bytearray else query)
        try:
            wait_until_ready(self.fileno())
        except BaseException:
            self.close()  # its answer would be taken for the next one's
            raise
        self.read_query_result()

    connections.Connection.query = query
    warnings.warn(
        "MySQLdb (mysqlclient) lets other calls run while a query works; it connects, commits and "
        "fetches in C, where every other call of this process waits too: use PyMySQL "
        "(pymysql.install_as_MySQLdb()) if that takes long.",
        RuntimeWarning,
        stacklevel=4,
    )
