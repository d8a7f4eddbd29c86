"""psycopg2's pool, made when the program is imported."""

from places import POSTGRESQL
from psycopg2.pool import ThreadedConnectionPool

pool = ThreadedConnectionPool(1, 5, **POSTGRESQL)


def work(n):
    connection = pool.getconn()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.3), %s", (n,))
            return cursor.fetchone()[1]
    finally:
        pool.putconn(connection)
