"""mysqlclient."""

import MySQLdb
from places import MARIADB


def work(n):
    connection = MySQLdb.connect(**MARIADB)
    cursor = connection.cursor()
    cursor.execute("SELECT sleep(0.3), %s", (n,))
    found = cursor.fetchone()[1]
    connection.close()
    return found
