"""What other calls take while one computes: in its greenlet, in a thread, in a process.

    python tests/benchmarks/elsewhere.py            # p50, p99 and the longest of each way
    python tests/benchmarks/elsewhere.py --json

A service in a process of its own; one caller has it burn 2 s of CPU again and again, another makes
a trivial call every 5 ms. The ways: nothing burns; ``burn`` as it stands, which holds the hub;
``threaded=True``; ``cpu=True``. The target for the last two is a p99 below 20 ms; it needs a core
for the service and one for the callers that nobody else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

BURNT = 2.0
#: Seconds for which each way is measured, and between two calls.
SECONDS, PAUSE = 6.0, 0.005

SERVICE = """
import time
import gemstone_sync

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

class Burning(gemstone_sync.MicroService):
    name = "burning"
    port = 0

    def on_service_start(self):
        print(self.port, flush=True)

    @gemstone_sync.exposed_method()
    def trivial(self): return 1

    @gemstone_sync.exposed_method(timeout=60)
    def greenlet(self, seconds: float): burn(seconds)

    @gemstone_sync.exposed_method(threaded=True, timeout=60)
    def thread(self, seconds: float): burn(seconds)

    @gemstone_sync.exposed_method(cpu=True, timeout=60)
    def process(self, seconds: float): burn(seconds)

if __name__ == "__main__":
    Burning().start()
"""


class Caller:
    """A connection that makes one call after another."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._file = self._socket.makefile("rb")

    def call(self, method: str, *params: float) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        head = "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        answer = json.loads(self._file.read(length))
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']}")


def measure(port: int, way: str) -> dict[str, float]:
    """Return p50, p99 and the longest of the trivial calls, in milliseconds."""
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            Caller(port).call(way, BURNT)

    if way == "process":
        Caller(port).call(way, 0.01)  # it begins: that is not what is measured
    burning = threading.Thread(target=burn, daemon=True)
    if way != "nothing":
        burning.start()
        time.sleep(0.2)
    caller, laps = Caller(port), []
    end = time.perf_counter() + SECONDS
    while (begun := time.perf_counter()) < end:
        caller.call("trivial")
        laps.append(1000 * (time.perf_counter() - begun))
        time.sleep(PAUSE)
    stop.set()
    if way != "nothing":
        burning.join()
    laps.sort()
    return {
        "calls": len(laps),
        "p50": laps[len(laps) // 2],
        "p99": laps[int(len(laps) * 0.99)],
        "max": laps[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "burning.py")
        path.write_text(SERVICE)
        service = subprocess.Popen(
            [sys.executable, str(path)], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        try:
            assert service.stdout is not None
            port = int(service.stdout.readline())
            time.sleep(0.5)
            ways = ("nothing", "thread", "process", "greenlet")
            found = {way: measure(port, way) for way in ways}
        finally:
            service.terminate()
            service.wait()
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    for way, figures in found.items():
        told = "  ".join(f"{name} {value:8.1f}" for name, value in figures.items())
        print(f"{way:10} {told}")


if __name__ == "__main__":
    main()
