"""Metrics of several workers: whoever answers, all of them are told, and no count goes back."""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from gemstone_sync import GemstoneError, RemoteService
from tests.support.http import call, result_of
from tests.support.programs import Program, children_of, gunicorn, program
from tests.support.waiting import LIMIT, wait_until

from .processes import OURS

pytestmark = pytest.mark.slow  # programs with workers that are killed and start again

SERVICE = """
import os
import gemstone_sync
from prometheus_client import Counter, Gauge, Histogram, Info, Summary

SOLD = Counter("sold", "Sold.", ["item"])
STOCK = Gauge("stock", "Stock.", multiprocess_mode="max")
ASKED = Gauge("asked", "Asked.", multiprocess_mode="livesum")
ASKED.set_function(lambda: 5)
SIZES = Histogram("sizes", "Sizes.", buckets=[1, 2])
WEIGHT = Summary("weight", "Weight.")
ABOUT = Info("about", "About.")
ABOUT.info({"version": "7"})

class Shop(gemstone_sync.MicroService):
    name = "shop"
    metrics = True
    port = 0
    skip_configuration = True
    drain_grace = 0

    def on_service_start(self):
        self.started = Counter("started", "Made in the start hook.")
        self.started.inc()

    @gemstone_sync.exposed_method()
    def buy(self) -> int:
        SOLD.labels("tea").inc()
        STOCK.set(3)
        SIZES.observe(1.5)
        WEIGHT.observe(2)
        return os.getpid()

service = Shop()
if __name__ == "__main__":
    service.start(workers=2)
"""


@pytest.fixture(params=["workers", "GunicornWorker", "gevent", "preload"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "shop.py").write_text(SERVICE)
    environment = {"TMPDIR": str(tmp_path)}
    if request.param == "workers":
        with program(SERVICE, tmp_path, environment=environment) as started:
            port = started.wait_until(lambda: _port_in(started.stderr), "it listens")
            started.port = int(port)
            started.wait_until_ready()
            yield started
        return
    kind = OURS if request.param in ("GunicornWorker", "preload") else "gevent"
    more = ["--preload"] if request.param == "preload" else []
    with gunicorn(
        "shop:service", tmp_path, *more, "-k", kind, "-w", "2", environment=environment
    ) as started:
        started.wait_until_ready()
        yield started


def _port_in(text: str) -> str:
    return text.partition("listens on http://127.0.0.1:")[2].partition("/")[0]


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples that only grow, and those of gauges, from whichever worker answers."""
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def scraped(port: int) -> Any:
    """A scrape; the worker that was to answer it may have been killed."""

    def one() -> Any:
        try:
            return scrape(port)
        except requests.ConnectionError:
            return None

    return wait_until(one, "a scrape")


def value(found: Any, name: str, **labels: str) -> float:
    wanted = labels.items()
    return sum(v for (n, pairs), v in found.items() if n == name and wanted <= dict(pairs).items())


def only_grows(name: str) -> bool:
    return name.endswith(("_total", "_count", "_bucket", "_sum"))


def test_no_count_goes_back_while_workers_are_killed(served, tmp_path):
    shop = RemoteService(f"http://127.0.0.1:{served.port}/api", timeout=(1, 5))
    made = {"tried": 0, "answered": 0}
    serving: list[int] = []
    stopping = False

    def load() -> None:
        while not stopping:
            made["tried"] += 1
            try:
                serving.append(shop.methods.buy())
                made["answered"] += 1
            except GemstoneError:
                gevent.sleep(0.05)

    callers = [gevent.spawn(load) for _ in range(4)]
    served.wait_until(lambda: serving, "a call")
    before: dict[Any, float] = {}
    killed = 0
    for number in range(50):
        found = scraped(served.port)
        back = {
            key: (before[key], found.get(key))
            for key in before
            if only_grows(key[0]) and not found.get(key, -1.0) >= before[key]
        }
        assert not back
        before = found
        if number % 12 == 3:
            victim = serving[-1]
            os.kill(victim, signal.SIGKILL)
            killed += 1
            served.wait_until(lambda: serving[-1] != victim, "another worker")  # noqa: B023
        gevent.sleep(0.02)
    stopping = True
    gevent.joinall(callers, raise_error=True)

    def whole() -> Any:
        """A scrape once the parent has seen each end and the new worker has begun."""
        found = scraped(served.port)
        restarts = value(found, "gemstone_worker_restarts_total")
        return found if restarts == killed and value(found, "started_total") > killed else None

    found = wait_until(whole, f"{killed} restarts")
    calls = value(found, "rpc_server_call_duration_seconds_count", rpc_method="buy")
    assert made["answered"] <= calls <= made["tried"]
    sold = value(found, "sold_total", item="tea")
    assert made["answered"] <= sold <= made["tried"]
    # A kill may come between two lines of `buy`, or of what they call.
    sizes, weights = value(found, "sizes_count"), value(found, "weight_count")
    assert value(found, "sizes_bucket", le="2.0") == sizes
    assert sold - killed <= weights <= sizes <= sold
    assert 0 <= 2 * weights - value(found, "weight_sum") <= 2 * killed
    assert value(found, "stock") == 3
    wait_until(lambda: value(scraped(served.port), "asked") in (10, 15), "both workers' answers")
    assert value(found, "about_info", version="7") == 1
    files = list(tmp_path.glob("gemstone_sync-workers-*/*.values"))
    assert len(files) <= 4  # two workers, and a parent that counts too
    pids = {dict(pairs)["pid"] for name, pairs in found if name == "gemstone_calls_in_flight"}
    assert {int(pid) for pid in pids} <= {*children_of(served.process.pid), served.process.pid}


RESTARTS, WORKERS = 200, 10


def test_what_was_counted_before_the_fork_counts_once(tmp_path):
    """Each worker that is forked, or forked again, has a copy of it."""
    (tmp_path / "shop.py").write_text(SERVICE + "SOLD.labels('before').inc(2)\n")
    environment = {"TMPDIR": str(tmp_path)}
    words = ("shop:service", tmp_path, "--preload", "-k", OURS, "-w", "2")
    with gunicorn(*words, environment=environment) as served:
        served.wait_until_ready()
        for restarts in range(2):
            wait_until(lambda n=restarts: restarted(served.port) == n, "a new worker")
            assert value(scraped(served.port), "sold_total", item="before") == 2
            os.kill(result_of(call(served.port, "buy")), signal.SIGKILL)


def restarted(port: int) -> float:
    return value(scraped(port), "gemstone_worker_restarts_total")


# Two hundred workers start; --preload has them forked from a program that has imported everything.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("worker", [OURS, "gevent"])
def test_files_do_not_grow_over_two_hundred_restarts_of_gunicorn_s_workers(tmp_path, worker):
    (tmp_path / "shop.py").write_text(SERVICE)
    arguments = ["--preload", "-k", worker, "-w", str(WORKERS)]
    environment = {"TMPDIR": str(tmp_path)}

    def files() -> dict[str, int]:
        found = {}
        for path in tmp_path.glob("gemstone_sync-workers-*/*"):
            with contextlib.suppress(FileNotFoundError):  # folded just now
                found[path.name] = path.stat().st_size
        return found

    with gunicorn("shop:service", tmp_path, *arguments, environment=environment) as started:
        gone: set[int] = set()

        def fresh() -> list[int]:
            """The workers, once all of them have begun to count."""
            names = " ".join(files())
            found = [pid for pid in children_of(started.process.pid) if pid not in gone]
            return found if sum(f"-{pid}-" in names for pid in found) == WORKERS else []

        calls, sizes = 0, []
        for number in range(RESTARTS // WORKERS):
            workers = started.wait_until(fresh, "all workers", 3 * LIMIT)
            started.wait_until_ready()
            for _ in range(3):
                result_of(call(started.port, "buy"))
                calls += 1
            sizes.append(files())
            for pid in workers:
                os.kill(pid, signal.SIGTERM if number % 2 else signal.SIGKILL)
            gone.update(workers)
        started.wait_until(fresh, "all workers", 3 * LIMIT)
        started.wait_until_ready()
        found = scraped(started.port)
        assert value(found, "gemstone_worker_restarts_total") == RESTARTS
        assert value(found, "rpc_server_call_duration_seconds_count", rpc_method="buy") == calls
        assert value(found, "sold_total") == calls
        last = files()
        # Of the workers, of the parent, what is folded, its lock, and who was the first.
        assert len(last) <= WORKERS + 4
        early = (
            sum(sizes[5].values()) * WORKERS / sum(name.endswith(".values") for name in sizes[5])
        )
        assert sum(last.values()) <= early + 4096


def test_a_directory_that_cannot_be_made_costs_no_call_and_is_told(tmp_path):
    # Not even root can make a file there.
    nowhere = "import tempfile\ntempfile.tempdir = '/proc/self'\n"
    with program(nowhere + SERVICE, tmp_path) as started:
        started.port = int(
            started.wait_until(lambda: _port_in(started.stderr), "it listens", 3 * LIMIT)
        )
        started.wait_until_ready()
        shop = RemoteService(f"http://127.0.0.1:{started.port}/api")
        for _ in range(20):
            shop.methods.buy()
        assert value(scraped(started.port), "target_info", service_name="shop") == 1
        assert started.stderr.count("metrics are of each worker by itself") == 1


def test_a_directory_of_the_users_is_used_and_nothing_in_it_is_removed(tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "theirs.txt").write_text("kept")
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(chosen)}
    with program(SERVICE, tmp_path, environment=environment) as started:
        started.port = int(
            started.wait_until(lambda: _port_in(started.stderr), "it listens", 3 * LIMIT)
        )
        started.wait_until_ready()
        shop = RemoteService(f"http://127.0.0.1:{started.port}/api")
        pids = {shop.methods.buy() for _ in range(40)}
        for _ in itertools.repeat(None, 5):
            found = scraped(started.port)
            assert value(found, "sold_total") == 40
            assert value(found, "rpc_server_call_duration_seconds_count", rpc_method="buy") == 40
        assert {f"counter_{pid}.db" for pid in pids} <= {path.name for path in chosen.iterdir()}
        chosen.rename(tmp_path / "elsewhere")  # somebody's clean-up
        for _ in itertools.repeat(None, 5):
            shop.methods.buy()
            assert value(scraped(started.port), "target_info", service_name="shop") == 1
        assert 1 <= started.stderr.count("cannot be collected") <= 2  # by each worker once
        (tmp_path / "elsewhere").rename(chosen)
        (chosen / "counter_1.db").write_bytes(b"\xff" * 100)
        assert value(scraped(started.port), "rpc_server_call_duration_seconds_count") > 40
        (chosen / "counter_1.db").unlink()
        assert started.terminate() == 0
    assert (chosen / "theirs.txt").read_text() == "kept"
