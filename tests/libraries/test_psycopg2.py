"""psycopg2 in a patched process: what else works, and what a wait callback would take away."""

import io
import socket

import gevent
import pytest
from gevent.threadpool import ThreadPool

from tests.support.machine import absent
from tests.support.waiting import LIMIT

from .programs.places import POSTGRESQL
from .rows import Row

pytestmark = pytest.mark.slow


@pytest.fixture
def psycopg2():
    if missing := Row("", "", ("psycopg2",), "PostgreSQL").missing():
        absent(missing)
    import psycopg2
    import psycopg2.extras

    return psycopg2


@pytest.fixture
def connection(psycopg2):
    connection = psycopg2.connect(**POSTGRESQL)
    yield connection
    connection.close()


def test_copy_and_large_objects(psycopg2, connection):
    """A callback forbids them; they work, with every kind of cursor."""
    extras = psycopg2.extras
    for kind in (None, extras.DictCursor, extras.RealDictCursor):
        with connection.cursor(cursor_factory=kind) as cursor:
            cursor.execute("CREATE TEMPORARY TABLE t (n int)")
            cursor.copy_from(io.StringIO("1\n2\n"), "t")
            cursor.copy_expert("COPY t FROM STDIN", io.StringIO("3\n"))
            copied = io.StringIO()
            cursor.copy_to(copied, "t")
            assert copied.getvalue() == "1\n2\n3\n"
            cursor.execute("DROP TABLE t")
            assert isinstance(cursor, kind or psycopg2.extensions.cursor)

    large = connection.lobject(0, "wb")
    large.write(b"much")
    large.seek(0)
    assert large.tell() == 0
    large.close()
    assert connection.lobject(large.oid, "rb").read() == b"much"
    connection.lobject(large.oid).unlink()


def test_connections_and_cursors_of_all_kinds(psycopg2):
    extras = psycopg2.extras
    with psycopg2.connect(**POSTGRESQL, connection_factory=extras.RealDictConnection) as connection:
        assert isinstance(connection, extras.RealDictConnection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 7 AS n")
            assert cursor.fetchall() == [{"n": 7}]
            cursor.copy_expert("COPY (SELECT 1) TO STDOUT", io.StringIO())
    connection.close()
    dsn = " ".join(f"{name}={value}" for name, value in POSTGRESQL.items())
    connection = psycopg2.connect(dsn, None, extras.DictCursor)
    with connection, connection.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 3) AS n")
        assert [row["n"] for row in cursor] == [1, 2, 3]
    connection.close()


def test_time_outs(psycopg2, connection):
    """libpq leaves the one for connecting to whoever waits; a deadline closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {"host": "127.0.0.1", "port": silent.getsockname()[1], "connect_timeout": 2}
        with gevent.Timeout(LIMIT), pytest.raises(psycopg2.OperationalError, match="timeout"):
            psycopg2.connect(user="root", **place)

    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")
    assert connection.closed


def test_in_native_threads(psycopg2):
    """They wait natively, without hubs of their own."""

    def ask(n):
        from gevent._hub_local import get_hub_if_exists

        with psycopg2.connect(**POSTGRESQL) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT %s", (n,))
            return cursor.fetchone()[0], get_hub_if_exists()

    pool = ThreadPool(3)
    asked = [pool.spawn(ask, n) for n in range(3)]
    assert [one.get(timeout=LIMIT) for one in asked] == [(0, None), (1, None), (2, None)]


OWN_CALLBACK = """
import psycopg2
from psycopg2 import extensions

def mine(connection):
    raise SystemExit("mine")

extensions.set_wait_callback(mine)
import gemstone_sync
gemstone_sync.MicroService
print(extensions.get_wait_callback() is mine)
"""


def test_a_callback_of_the_programs_own_stays(psycopg2, run_python):
    assert run_python(OWN_CALLBACK).stdout == "True\n"
