"""psycopg2: a connection for each call, and COPY."""

import io

import psycopg2
import psycopg2.extras
from places import POSTGRESQL


def work(n):
    connection = psycopg2.connect(**POSTGRESQL, cursor_factory=psycopg2.extras.DictCursor)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.3), %s AS n", (n,))
        found = cursor.fetchone()["n"]
        cursor.execute("CREATE TEMPORARY TABLE t (n int)")
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO(f"{found}\n"))
        cursor.execute("SELECT n FROM t")
        return cursor.fetchone()[0]
