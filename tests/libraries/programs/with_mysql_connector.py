"""MySQL Connector/Python."""

import mysql.connector
from places import MARIADB


def work(n):
    with mysql.connector.connect(**MARIADB) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT sleep(0.3), %s", (n,))
        return cursor.fetchone()[1]
