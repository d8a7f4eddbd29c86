"""Ten thousand calls from a hundred greenlets: nothing lost, mixed up or left behind."""

import contextlib
import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import MethodCall, Notification, RemoteService
from tests.support.programs import Program, program
from tests.support.waiting import gather, wait_until

from . import faults

# Endurance: tens of thousands of calls.
pytestmark = pytest.mark.slow

GREENLETS = 100
CALLS_EACH = 100

SERVICE = """
import collections
import gevent
import gemstone_sync

class Echo(gemstone_sync.MicroService):
    name = "echo"
    max_batch_size = 1000

    def __init__(self):
        super().__init__()
        self.seen = collections.Counter()

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def echo(self, number, pause=0.0):
        self.seen[number] += 1
        if pause:
            gevent.sleep(pause)
        return {"number": number, "text": str(number) * 10}

    @gemstone_sync.exposed_method()
    def counts(self):
        counts = dict(self.seen.items())
        self.seen.clear()
        return {"numbers": len(counts), "calls": sum(counts.values())}

if __name__ == "__main__":
    Echo().start()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """In a process of its own, so that what is open in this one is the client's."""
    with program(SERVICE, tmp_path_factory.mktemp("service"), "--port", "0") as running:
        running.wait_until_ready()
        yield running
        assert running.terminate() == 0
        assert "Traceback" not in running.stderr


def client_of(service: Program, **options: Any) -> RemoteService:
    return faults.client_of(f"http://127.0.0.1:{service.port}/api", **options)


def open_sockets() -> int:
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was the one that lists the directory
            count += os.readlink(descriptor).startswith("socket:")
    return count


def resident() -> int:
    """Kilobytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def expected(number: int) -> dict[str, Any]:
    return {"number": number, "text": str(number) * 10}


def make_calls(client: RemoteService) -> None:
    """Each greenlet's own hundred calls; each answer is the one to its call."""

    def calls_of(greenlet: int) -> int:
        numbers = range(greenlet * CALLS_EACH, (greenlet + 1) * CALLS_EACH)
        handles = [client.methods.echo.async_(number) for number in numbers]
        for number, handle in zip(numbers, handles, strict=True):
            assert handle.result(wait=True) == expected(number)
        return len(handles)

    done = gather([lambda greenlet=n: calls_of(greenlet) for n in range(GREENLETS)], limit=100)
    assert sum(done) == GREENLETS * CALLS_EACH


def settle(client: RemoteService, sockets: int) -> None:
    """Close the client, and wait until its sockets and threads have gone."""
    client.close()
    wait_until(lambda: open_sockets() == sockets, "the sockets' end")
    wait_until(
        lambda: not any("gemstone_sync-call" in thread.name for thread in threading.enumerate()),
        "the threads' end",
    )
    gc.collect()


def test_ten_thousand_asynchronous_calls(service: Program) -> None:
    client = client_of(service)
    before = open_sockets()
    make_calls(client)  # imports, code and pools have their places in memory now
    client.methods.counts()
    settle(client, before)
    objects = len(gc.get_objects())
    growths: list[int] = []
    # What the allocator keeps differs from run to run; what leaks leaks in each.
    while not growths or (growths[-1] >= 5_000 and len(growths) < 5):
        memory = resident()
        make_calls(client)
        assert client.methods.counts() == {"numbers": 10_000, "calls": 10_000}
        assert 0 < open_sockets() - before <= 100  # pool_size
        settle(client, before)
        growths.append(resident() - memory)

    assert growths[-1] < 5_000, growths  # half a kilobyte per call

    def nothing_is_left() -> bool:
        gc.collect()  # what the threads had goes some moments after their names
        return len(gc.get_objects()) - objects < 1000  # of 10,000 calls: not one for each

    wait_until(nothing_is_left, "what 10,000 calls have left")


def test_many_greenlets_share_one_client_for_every_kind_of_call(service: Program) -> None:
    with client_of(service, pool_size=20) as client:
        client.methods.counts()

        def mixed(start: int) -> None:
            numbers = range(start, start + 40)
            for number in numbers[:10]:
                assert client.methods.echo(number) == expected(number)
            handles = {n: client.methods.echo.async_(number=n) for n in numbers[10:20]}
            calls = {n: MethodCall("echo", [n, 0.001]) for n in numbers[20:30]}
            batch = client.call_batch(
                *calls.values(), *[Notification("echo", [n]) for n in numbers[30:40]]
            )
            for number, call in calls.items():
                assert batch.get_response_for_call(call).value() == expected(number)
            for number, handle in handles.items():
                assert handle.result(wait=True) == expected(number)

        gather([lambda start=start: mixed(start) for start in range(0, 4000, 40)])
        # Notifications are counted when they ran, which may be after the batch's answer.
        seen: Counter[str] = Counter()

        def all_arrived() -> bool:
            seen.update(client.methods.counts())
            return seen["calls"] >= 4000

        wait_until(all_arrived, "the last notifications")
        assert seen["calls"] == 4000


def test_killed_greenlets_leave_nothing_behind(service: Program) -> None:
    before = open_sockets()
    with client_of(service) as client:
        for _ in range(5):
            greenlets = [gevent.spawn(client.methods.echo, n, 1.0) for n in range(40)]
            wait_until(lambda: open_sockets() - before >= 40, "the connections")
            gevent.killall(greenlets)
            assert open_sockets() - before == 0
            # What the killed calls had asked for is not what the next ones get.
            numbers = range(1000, 1040)
            answers = gather([lambda n=n: client.methods.echo(n) for n in numbers])
            assert answers == [expected(number) for number in numbers]
            client.close()
    assert open_sockets() == before
