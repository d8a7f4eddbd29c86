"""The status page of several workers: whoever answers, all of them are told."""

import os
import re
import signal
from pathlib import Path

import gevent
import pytest
import requests

from gemstone_sync import RemoteService
from tests.support.programs import gunicorn, program
from tests.support.waiting import wait_until

from .processes import OURS

pytestmark = pytest.mark.slow  # programs with workers, some of which hold their hubs for seconds

SERVICE = """
import os
import time
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"
    status_page = True
    port = 0
    skip_configuration = True

    def authenticate_request(self, handler):
        return handler.api_token == "let me in"

    @gemstone_sync.exposed_method()
    def buy(self) -> int:
        return os.getpid()

    @gemstone_sync.exposed_method(timeout=None)
    def wait(self) -> None:
        time.sleep(1000)

    @gemstone_sync.exposed_method()
    def burn(self, seconds: float) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(100))  # the line
        return os.getpid()

    @gemstone_sync.health_check("pid")
    def pid(self):
        return os.getpid()

    def tick(self):
        pass

service = Shop()
service.periodic_tasks = [(service.tick, 1000)]
if __name__ == "__main__":
    service.start(workers=2)
"""

LINE = 1 + SERVICE[: SERVICE.index("# the line")].count("\n")
KINDS = ["workers", "GunicornWorker", "gevent", "preload"]


@pytest.fixture(params=KINDS)
def served(request, tmp_path):
    (tmp_path / "shop.py").write_text(SERVICE)
    environment = {"TMPDIR": str(tmp_path)}
    if request.param == "workers":
        with program(SERVICE, tmp_path, environment=environment) as started:
            started.port = int(started.wait_until(lambda: _port_in(started.stderr), "it listens"))
            started.wait_until_ready()
            yield started
        return
    kind = "gevent" if request.param == "gevent" else OURS
    more = ["--preload"] if request.param == "preload" else []
    arguments = [*more, "-k", kind, "-w", "2"]
    with gunicorn("shop:service", tmp_path, *arguments, environment=environment) as started:
        started.wait_until_ready()
        yield started


def _port_in(text):
    found = re.search(r"listens on http://127\.0\.0\.1:(\d+)", text)
    return found and found[1]


def status(served, timeout=30):
    headers = {"Accept": "application/json", "X-Api-Token": "let me in"}
    url = f"http://127.0.0.1:{served.port}/status"
    reply = requests.get(url, headers=headers, timeout=timeout)
    assert reply.status_code == 200
    return reply.json()


def answering(served):
    """The workers that answer, once there are two."""

    def both():
        found = {each["pid"] for each in status(served)["workers"] if each["answers"]}
        return found if len(found) == 2 else None

    return wait_until(both, "two workers that answer")


def client_of(served, **options):
    return RemoteService(f"http://127.0.0.1:{served.port}/api", **options)


def test_calls_of_all_workers_are_told_whoever_answers(served):
    workers = answering(served)
    clients = [client_of(served) for _ in range(10)]  # each over a connection of its own
    served_by = {client.methods.buy() for client in clients for _ in range(5)}
    assert served_by <= workers
    for _ in range(6):
        told = told_by_all(served)
        [buy] = told["methods"]
        assert (buy["name"], buy["calls"], buy["errors"]) == ("buy", 50, 0)
        [tick] = told["periodic"]  # of one of them
        assert (tick["name"], tick["pid"] in workers) == ("Shop.tick", True)
    told = wait_until(lambda: _whole(told_by_all(served)), "the health of all")
    assert told["status"] == "pass"
    pids = [each["health"]["value"]["checks"]["pid"][0] for each in told["workers"]]
    assert {each["observedValue"] for each in pids} == workers


def told_by_all(served):
    """A page that all workers have told: one that had no processor for a second is silent."""

    def told():
        page = status(served)
        return page if all(each["answers"] for each in page["workers"]) else None

    return wait_until(told, "a page of all workers")


def _whole(told):
    return told if all(each["health"]["value"] for each in told["workers"]) else None


def test_what_holds_a_worker_is_named_with_its_line_by_another_and_afterwards(served):
    answering(served)
    client = client_of(served, timeout=60)
    burning = gevent.spawn(client.methods.burn, 12)

    def held():
        try:
            return [each for each in status(served, 3)["workers"] if each.get("held_by")]
        except requests.Timeout:  # its connection was accepted just before the worker was held
            return None

    [worker] = wait_until(held, "what holds it")
    assert worker["held_by"].startswith("method 'burn' has held the hub for ")
    assert re.search(rf"burn at \S+:({LINE}|{LINE - 1})\b", worker["held_by"])
    assert worker["held_for"] > 0
    [running] = told_by_all(served)["in_flight"]
    assert (running["method"], running["pid"]) == ("burn", worker["pid"])
    assert (running["waits_for"], len(running["stack"])) == (None, 1)
    assert re.search(rf"burn at \S+:({LINE}|{LINE - 1})$", running["stack"][0])
    assert worker["pid"] == burning.get()
    wait_until(lambda: held() == [], "the end of it")
    [block] = [each for each in told_by_all(served)["blocks"] if "'burn'" in each["text"]]
    assert block["pid"] == worker["pid"]


def test_one_that_stands_still_or_is_killed_holds_no_page_back(served):
    workers = answering(served)
    waiting = client_of(served)
    gevent.spawn(waiting.methods.wait)
    [running] = wait_until(lambda: status(served)["in_flight"], "the call")
    stopped = running["pid"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        told = wait_until(lambda: _told_without(served, stopped), "a page of the other")
        assert [w["pid"] for w in told["workers"] if w["answers"]] == [*(workers - {stopped})]
        assert told["in_flight"] == []
    finally:
        os.kill(stopped, signal.SIGKILL)
    again = answering(served)
    assert stopped not in again
    folder = Path(served._log).parent
    left = [each.name for each in folder.glob("gemstone_sync-workers-*/*")]
    assert len([name for name in left if f"-{stopped}-" in name]) == 0


def _told_without(served, stopped):
    """A page of the other worker; None where the one that stands still was asked."""
    try:
        told = status(served, timeout=5)
    except requests.Timeout:
        return None
    silent = [each["pid"] for each in told["workers"] if not each["answers"]]
    return told if silent == [stopped] else None


def test_nothing_is_left_behind(tmp_path):
    with program(SERVICE, tmp_path, environment={"TMPDIR": str(tmp_path)}) as started:
        started.port = int(started.wait_until(lambda: _port_in(started.stderr), "it listens"))
        started.wait_until_ready()
        answering(started)
        assert [*tmp_path.glob("gemstone_sync-workers-*")]
        assert started.terminate() == 0
    assert [*tmp_path.glob("gemstone_sync-workers-*")] == []


def test_a_directory_that_cannot_be_made_is_told_once_and_each_worker_tells_of_itself(tmp_path):
    nowhere = "import tempfile\ntempfile.tempdir = '/proc/self'\n"
    with program(nowhere + SERVICE, tmp_path) as started:
        started.port = int(started.wait_until(lambda: _port_in(started.stderr), "it listens"))
        started.wait_until_ready()
        assert len(status(started)["workers"]) == 1
        assert started.stderr.count("the status page is of each worker by itself") == 2
