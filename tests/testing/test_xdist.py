"""Users run their tests in several processes with pytest-xdist."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

USERS_TESTS = """
import gemstone_sync
import pytest
import requests

class Adder(gemstone_sync.MicroService):
    name = "adder"

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

@pytest.fixture(scope="module")
def address():
    from gemstone_sync.testing import running_service
    with running_service(Adder) as service:
        yield service.url

@pytest.mark.parametrize("number", range(5))
def test_in_process(service_client, number):
    assert service_client(Adder).call("add", 1, number) == 1 + number

@pytest.mark.parametrize("number", range(5))
def test_over_http(address, number):
    call = {"jsonrpc": "2.0", "method": "add", "params": [1, number], "id": 1}
    assert requests.post(address, json=call, timeout=10).json()["result"] == 1 + number
"""


@pytest.mark.slow  # two processes with pytest and all of its plugins
def test_services_are_tested_in_processes_of_their_own(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    """The worker is patched while it runs; that one may be patched before, this suite shows."""
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    words = ["-q", "-W", "error", "-p", "no:cacheprovider", "-n", "1", "test_users.py"]
    done = run_python("import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))", *words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
