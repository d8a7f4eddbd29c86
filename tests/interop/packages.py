"""Real packages of others, each in a virtual environment of its own.

tests/benchmarks/venvs.py makes and keeps the environments. A run of the tests that cannot make one
(no network) skips; under CI it fails, since a test that never runs proves nothing.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import venvs
from tests.support.http import refuses_connections
from tests.support.machine import absent
from tests.support.programs import Program
from tests.support.waiting import LIMIT

PEERS = Path(__file__).resolve().parent / "peers"

#: Nothing of this checkout may be found by a peer.
ISOLATED = {"PYTHONPATH": ""}

#: For the tests of a package: making its environment may come on top of the first one's time.
MARKS = [pytest.mark.slow, pytest.mark.timeout(venvs.INSTALL_LIMIT + 120)]


@functools.cache
def _made(package: str) -> tuple[str | None, str]:
    """The interpreter, or why there is none: found out once, since pip tries for a while."""
    try:
        return venvs.PACKAGES[package].python(), ""
    except venvs.VenvFault as fault:
        return None, str(fault)


def python_of(package: str) -> str:
    """The interpreter that has the package."""
    python, fault = _made(package)
    return python or absent(f"{package} cannot be installed: {fault}")


@contextlib.contextmanager
def server_of(package: str, folder: Path) -> Iterator[str]:
    """Run the package's server; its URL."""
    path = PEERS / f"{package.replace('-', '_')}_server.py"
    started = Program([python_of(package), str(path)], folder, environment=ISOLATED)
    try:
        [port] = started.wait_for_ports()
        started.wait_until(lambda: not refuses_connections(port), "it listens")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        started.kill()


def run_client_of(package: str, url: str) -> dict[str, Any]:
    """Run the package's client against a server, or with whatever else it takes; what it printed,
    as JSON.
    """
    path = PEERS / f"{package.replace('-', '_')}_client.py"
    done = subprocess.run(
        [python_of(package), str(path), url],
        env={**os.environ, **ISOLATED},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
    )
    sys.stderr.write(done.stderr)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
