"""Ten thousand calls from a hundred greenlets: nothing lost, mixed up or left behind."""

import contextlib
import functools
import gc
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from gemstone_sync import RemoteService
from tests.support.programs import Program, program
from tests.support.waiting import gather, wait_until

from . import faults

# Endurance: tens of thousands of calls.
pytestmark = pytest.mark.slow

SERVICE = """
import collections
import gevent
import gemstone_sync

class Echo(gemstone_sync.MicroService):
    name = "echo"

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
        counts, self.seen = self.seen, collections.Counter()
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
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def expected(number: int) -> dict[str, Any]:
    return {"number": number, "text": str(number) * 10}


def make_calls(client: RemoteService) -> None:
    """A hundred greenlets' own hundred calls; each answer is the one to its call."""

    def calls_from(first: int) -> None:
        numbers = range(first, first + 100)
        handles = [client.methods.echo.async_(number) for number in numbers]
        for number, handle in zip(numbers, handles, strict=True):
            assert handle.result(wait=True) == expected(number)

    gather([functools.partial(calls_from, first) for first in range(0, 10_000, 100)], limit=100)


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
