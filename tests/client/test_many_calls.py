"""Ten thousand calls from a hundred greenlets: nothing lost, mixed up or left behind."""

import contextlib
import functools
import gc
import os
import re
import threading
from pathlib import Path

import pytest

from gemstone_sync import RemoteService
from tests.support.programs import program
from tests.support.waiting import gather, wait_until

from .faults import client_of

SERVICE = """
import collections
import gemstone_sync

class Echo(gemstone_sync.MicroService):
    name = "echo"

    def __init__(self):
        super().__init__()
        self.seen = collections.Counter()

    def on_service_start(self):
        print(self.url, flush=True)

    @gemstone_sync.exposed_method()
    def echo(self, number):
        self.seen[number] += 1
        return str(number) * 10

    @gemstone_sync.exposed_method()
    def counts(self):
        counts, self.seen = self.seen, collections.Counter()
        return {"numbers": len(counts), "calls": sum(counts.values())}

if __name__ == "__main__":
    Echo().start()
"""


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


def make_calls(client: RemoteService) -> None:
    """A hundred greenlets' own hundred calls; each answer is the one to its call."""

    def calls_from(first: int) -> None:
        numbers = range(first, first + 100)
        handles = [client.methods.echo.async_(number) for number in numbers]
        for number, handle in zip(numbers, handles, strict=True):
            assert handle.result(wait=True) == str(number) * 10

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


@pytest.mark.slow  # tens of thousands of calls
def test_ten_thousand_asynchronous_calls(tmp_path: Path) -> None:
    """The service is in a process of its own, so that what is open in this one is the client's."""
    with program(SERVICE, tmp_path, "--port", "0") as running:
        client = client_of(f"http://127.0.0.1:{running.wait_until_ready()}/api")
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
        assert running.terminate() == 0
        assert "Traceback" not in running.stderr
