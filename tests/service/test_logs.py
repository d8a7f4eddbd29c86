"""Our logs, where a program sets up logging and so disables the loggers that there are by then."""

import contextlib
import logging
import sys
from urllib.parse import quote

import pytest

from gemstone_sync.ops import restore_loggers
from tests.cli.support import GEMSTONE
from tests.integration.processes import OURS
from tests.support.http import call, exchange, message, result_of
from tests.support.programs import Program, gunicorn

SETTINGS = """
import logging, logging.config, os, sys
SETTINGS = {
    "version": 1,
    "formatters": {"own": {"format": "own %(name)s %(levelname)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"handlers": ["own"], "level": "INFO"},
}
"""

SERVICE = """
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"
    access_log = True
    event_transports = [gemstone_sync.MemoryEventTransport()]

    @gemstone_sync.exposed_method()
    def sell(self) -> int:
        self.emit_event("sold", {})
        return 1

    @gemstone_sync.event_handler("sold")
    def on_sold(self, body):
        raise gemstone_sync.Reject("out of stock")
"""

START = """
if __name__ == "__main__":
    Shop().start(workers=int(sys.argv.pop(1)))
"""

DICT = "logging.config.dictConfig(SETTINGS)\n"
FILE = """
import io
logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=own
[formatters]
keys=own
[logger_root]
level=INFO
handlers=own
[handler_own]
class=StreamHandler
formatter=own
args=()
[formatter_own]
format=own %(name)s %(levelname)s %(message)s
'''))
"""
IN_HOOK = "    def on_service_start(self):\n        logging.config.dictConfig(SETTINGS)\n"
NAMED = 'SETTINGS["loggers"] = {"gemstone_sync.access": {"level": "INFO"}}\n' + DICT
FIRST = "import gemstone_sync; gemstone_sync.MicroService\n"

PROGRAMS = {
    "above": SETTINGS + DICT + SERVICE,
    "below": SETTINGS + SERVICE + DICT,
    "file": SETTINGS + FIRST + FILE + SERVICE,
    "hook": SETTINGS + SERVICE + IN_HOOK,
    "another named": SETTINGS + FIRST + NAMED + SERVICE,
}


@contextlib.contextmanager
def run(way, folder):
    """Run shop.py in a folder; gives a program that answers."""
    if way == "gunicorn":
        with gunicorn("shop:Shop", folder, "-k", OURS, "-w", "1") as started:
            started.wait_until_ready()
            yield started
        return
    command = {
        "run": [str(GEMSTONE), "run", "shop", "--port", "random"],
        "python": [sys.executable, "shop.py", "1", "--port", "random"],
        "workers": [sys.executable, "shop.py", "2", "--port", "random"],
    }[way]
    started = Program(command, folder)
    try:
        said = started.wait_until(
            lambda: started.stderr.partition("listens on http://127.0.0.1:")[2], "its address"
        )
        started.port = int(said.partition("/")[0])
        started.wait_until_ready()
        yield started
    finally:
        started.kill()


@pytest.mark.parametrize(
    ("way", "program"),
    [
        ("run", "above"),
        ("run", "file"),
        ("run", "another named"),
        ("gunicorn", "above"),
        ("gunicorn", "hook"),
        ("python", "below"),
        ("workers", "above"),
        ("workers", "hook"),
    ],
)
def test_failures_of_handlers_and_requests_are_logged(tmp_path, way, program):
    (tmp_path / "shop.py").write_text(PROGRAMS[program] + START)
    with run(way, tmp_path) as started:
        assert result_of(call(started.port, "sell")) == 1
        for text in ("own gemstone_sync.access INFO", "out of stock"):
            started.wait_until(lambda text=text: text in started.stderr, text)


FRAGILE = """
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"

    @gemstone_sync.exposed_method()
    def sell(self, what):
        raise ValueError("no " + what)

    @gemstone_sync.exposed_method()
    def order(self, what):
        raise gemstone_sync.RemoteError("no " + what, code=7)

    @gemstone_sync.route("/page/<what>")
    def page(self, what):
        raise LookupError(what)
"""


def test_no_text_of_a_caller_looks_like_a_record_or_steers_the_terminal(tmp_path):
    """Exceptions and paths hold them: in a traceback's last line, and in what Flask says."""
    (tmp_path / "shop.py").write_text(FRAGILE)
    forged = "tea\n2026-01-01 00:00:00,000 ERROR FORGED \x1b[31m \x9b31m \x85 \u2028 \r"
    with run("run", tmp_path) as started:
        for method in ("sell", "order"):
            assert call(started.port, method, forged).json["error"]["code"] == -32603
        path = "/page/" + quote(forged)
        assert exchange(started.port, message("GET", path)).status == 500
        started.terminate()

    lines = [line for line in started.stderr.split("\n") if "FORGED" in line]
    assert len(lines) >= 4
    assert all(line.startswith("  2026") or "\\n2026" in line for line in lines)
    assert started.stderr.replace("\n", "").isprintable()


def test_a_level_that_was_given_counts(tmp_path):
    named = 'SETTINGS["loggers"] = {"gemstone_sync": {"level": "WARNING"}}\n' + DICT
    (tmp_path / "shop.py").write_text(SETTINGS + FIRST + named + SERVICE + START)
    with run("gunicorn", tmp_path) as started:
        assert result_of(call(started.port, "sell")) == 1
        started.wait_until(lambda: "out of stock" in started.stderr, "the handler's failure")
        assert " INFO " not in started.stderr.replace("[INFO]", "")


def test_what_was_disabled_by_itself_stays_so(make_service, caplog):
    logger = logging.getLogger("gemstone_sync.access")
    logger.disabled = True
    try:
        restore_loggers()
        service = make_service(port=0)
        service.start(block=False)
        service.stop()
        assert logger.disabled
    finally:
        logger.disabled = False
