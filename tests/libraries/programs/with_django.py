"""Django's ORM over SQLite, and settings that nobody has configured at the import."""

import os
import tempfile
import time

import django
from django.conf import settings
from django.db import connection, models, transaction

ready = []


def prepare():
    if not ready:
        name = os.path.join(tempfile.mkdtemp(), "django.db")
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
        settings.configure(DATABASES={"default": database}, DEFAULT_AUTO_FIELD="t.T", USE_TZ=True)
        django.setup()
        ready.append(True)


def work(n):
    prepare()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS t (n int)")
        cursor.execute("INSERT INTO t VALUES (%s)", [n])
        time.sleep(0.3)
        cursor.execute("SELECT n FROM t WHERE n = %s", [n])
        found = cursor.fetchone()[0]
    connection.close()
    return found + models.Value(0).value
