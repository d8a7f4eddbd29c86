"""What is tried: a row for each library or kind of object."""

import importlib.util
import socket
from typing import NamedTuple

#: What the machine offers, by name; the rest are peers of the tests' own.
SERVERS = {"PostgreSQL": 5432, "MariaDB": 3306, "Redis": 6379}


class Row(NamedTuple):
    """A program of ``programs/`` and what it needs.

    :ivar modules: what must be importable.
    :ivar server: one of `SERVERS`.
    :ivar told: a part of the one warning with which it runs, or of the line that refuses it.
    :ivar is_alone: not in one process with other programs: its children would have a part of them.
    """

    program: str
    title: str
    modules: tuple[str, ...] = ()
    server: str = ""
    told: str = ""
    is_alone: bool = False

    def missing(self) -> str:
        """What it needs and is not there; an empty text when all is."""
        for module in self.modules:
            if not _is_installed(module):
                return f"{module} is not installed: pip install '.[libraries]'"
        if self.server and not _listens(SERVERS[self.server]):
            return f"{self.server} does not run at port {SERVERS[self.server]}"
        return ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it is in
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


ROWS = (
    # databases
    Row("psycopg2", "psycopg2", ("psycopg2",), "PostgreSQL"),
    Row("psycopg2_pool", "psycopg2's pool", ("psycopg2",), "PostgreSQL"),
    Row("psycopg", "psycopg 3", ("psycopg",), "PostgreSQL"),
    Row("pymysql", "PyMySQL", ("pymysql",), "MariaDB"),
    Row("mysql_connector", "MySQL Connector/Python", ("mysql.connector",), "MariaDB"),
    Row("mysqlclient", "mysqlclient", ("MySQLdb",), "MariaDB", "MySQLdb (mysqlclient)"),
    Row("sqlalchemy_psycopg2", "SQLAlchemy, psycopg2", ("sqlalchemy", "psycopg2"), "PostgreSQL"),
    Row("sqlalchemy_psycopg", "SQLAlchemy, psycopg 3", ("sqlalchemy", "psycopg"), "PostgreSQL"),
    Row("sqlalchemy_pymysql", "SQLAlchemy, PyMySQL", ("sqlalchemy", "pymysql"), "MariaDB"),
    Row("sqlalchemy_sqlite", "SQLAlchemy, sqlite3", ("sqlalchemy",)),
    Row("scoped_session", "SQLAlchemy's scoped_session", ("sqlalchemy",)),
    Row("sqlite3", "sqlite3"),
    Row("django", "Django's ORM and settings", ("django",)),
    Row("redis", "redis", ("redis",), "Redis"),
    Row("pymongo", "pymongo", ("pymongo",)),
    Row("elasticsearch", "elasticsearch", ("elasticsearch",)),
    # other services
    Row("requests", "requests"),
    Row("urllib3", "urllib3"),
    Row("urllib", "urllib"),
    Row("httpx", "httpx", ("httpx",)),
    Row("httpx_async", "httpx's AsyncClient", ("httpx",)),
    Row("aiohttp", "aiohttp", ("aiohttp",)),
    Row("boto3", "boto3", ("boto3",)),
    Row("grpc", "grpc", ("grpc",), is_alone=True),
    Row("celery", "Celery as a client", ("celery", "redis"), "Redis"),
    # seeing what happens
    Row("sentry", "sentry-sdk", ("sentry_sdk",)),
    Row("opentelemetry", "OpenTelemetry's SDK", ("opentelemetry.sdk",)),
    Row("prometheus", "prometheus_client", ("prometheus_client",)),
    Row("structlog", "structlog", ("structlog",)),
    Row("logging", "logging through a queue"),
    # processes and threads
    Row("multiprocessing_pool", "multiprocessing.Pool", is_alone=True),
    Row("multiprocessing_process", "multiprocessing.Process", is_alone=True),
    Row("process_pool", "ProcessPoolExecutor", is_alone=True),
    Row("asyncio", "asyncio.run"),
    Row("subprocess", "subprocess"),
    Row("executor_subprocess", "subprocess in get_executor()"),
    Row("executor_requests", "requests in get_executor()"),
    Row("threads", "threads with I/O"),
    Row("thread_at_import", "a thread begun at import"),
    Row("thread_pool", "ThreadPoolExecutor"),
    # objects that a module makes
    Row("thread_local", "threading.local"),
    Row("contextvars", "context variables"),
    Row("locks", "locks"),
    Row("simple_queue", "queue.SimpleQueue"),
    Row("flask", "flask's request, session, g"),
    Row("werkzeug", "werkzeug's locals"),
    Row("mock", "mocks, hostile objects"),
    Row("numpy", "numpy", ("numpy",)),
)
