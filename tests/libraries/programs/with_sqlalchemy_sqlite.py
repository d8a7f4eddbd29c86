"""SQLAlchemy over sqlite3: two transactions that write at once."""

import os
import tempfile
import time

from sqlalchemy import create_engine, text

engine = create_engine(f"sqlite:///{os.path.join(tempfile.mkdtemp(), 'sql.db')}")


def work(n):
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS t (n int)"))
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": n})
        time.sleep(0.3)
        return connection.execute(text("SELECT n FROM t WHERE n = :n"), {"n": n}).scalar_one()
