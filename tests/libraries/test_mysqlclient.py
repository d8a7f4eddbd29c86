"""mysqlclient in a patched process: its queries let others run."""

import warnings

import gevent
import pytest

from tests.support.machine import absent
from tests.support.waiting import gather

from .programs.places import MARIADB
from .rows import Row

pytestmark = pytest.mark.slow


@pytest.fixture
def connect():
    if missing := Row("", "", ("MySQLdb",), "MariaDB").missing():
        absent(missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the rest of it blocks
        import MySQLdb
    return lambda: MySQLdb.connect(**MARIADB)


def test_queries_of_several_calls(connect):
    turns = []
    others = gevent.spawn(lambda: [turns.append(gevent.sleep(0.01)) for _ in range(1000)])

    def ask(n):
        connection = connect()
        cursor = connection.cursor()
        cursor.execute("SELECT sleep(0.3), %s", (n,))
        (row,) = cursor.fetchall()
        connection.close()
        return row[1]

    asked = gather([lambda n=n: ask(n) for n in range(3)])
    others.kill()
    assert asked == [0, 1, 2]
    assert len(turns) > 3


def test_a_deadline_closes_the_connection(connect):
    """Else the answer that still comes would be taken for the next query's."""
    connection = connect()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        connection.cursor().execute("SELECT sleep(60)")
    assert not connection.open
