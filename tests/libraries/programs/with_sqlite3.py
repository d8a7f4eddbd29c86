"""sqlite3: two calls that write at once, each over a pause."""

import os
import sqlite3
import tempfile
import time

path = os.path.join(tempfile.mkdtemp(), "busy.db")


def work(n):
    with sqlite3.connect(path, timeout=3, isolation_level=None) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?)", (n,))
        time.sleep(0.3)
        connection.execute("COMMIT")
        return connection.execute("SELECT n FROM t WHERE n = ?", (n,)).fetchone()[0]
