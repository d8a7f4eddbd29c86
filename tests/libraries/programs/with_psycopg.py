"""psycopg 3, with its compiled part."""

import psycopg
from places import POSTGRESQL


def work(n):
    with psycopg.connect(**POSTGRESQL) as connection:
        return connection.execute("SELECT pg_sleep(0.3), %s", (n,)).fetchone()[1]
