"""A service of ours with the clients of others: what they expect of any server they get here.

What a package has of its own (its classes, its thread pool) its program in peers/ asserts itself.
"""

from typing import Any

import pytest

import gemstone_sync
from gemstone_sync.testing import running_service
from tests.support.waiting import wait_until

from .packages import MARKS, run_client_of
from .peers.questions import VALUE

pytestmark = MARKS


class OutOfStock(gemstone_sync.RpcError):
    code = 1001
    message = "Out of stock"


class Ours(gemstone_sync.MicroService):
    name = "ours"

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    @gemstone_sync.exposed_method()
    def subtract(self, minuend: int, subtrahend: int) -> int:
        """Return the difference."""
        return minuend - subtrahend

    @gemstone_sync.exposed_method()
    def echo(self, value: Any) -> Any:
        return value

    @gemstone_sync.exposed_method()
    def nothing(self) -> None:
        pass

    @gemstone_sync.exposed_method()
    def note(self, word: str) -> None:
        self.noted.append(word)

    @gemstone_sync.exposed_method()
    def fail(self) -> None:
        raise OutOfStock(data={"left": 0})

    @gemstone_sync.exposed_method(private=True)
    def secret(self) -> str:
        return "the secret"

    def api_token_is_valid(self, api_token: str) -> bool:
        return api_token == "right"


@pytest.fixture(scope="module", params=["jsonrpcclient", "pjrpc", "old-gemstone"])
def seen(request):
    """What the package's client got from a service, and what the service noted."""
    package = request.param
    wire_format = "gemstone" if package == "old-gemstone" else "jsonrpc"
    with running_service(Ours, wire_format=wire_format) as service:
        told = run_client_of(package, service.url)
        words = {package, f"{package} in a batch"}
        if package != "old-gemstone":
            words.add(f"{package}, nothing else")
        # The reply to a notification says that it was taken, not that it was executed.
        wait_until(lambda: words <= set(service.noted), "the notifications")
        assert set(service.noted) == words
    return told


def test_results(seen):
    assert seen["by position"] == {"result": 19}
    assert seen["by name"] == {"result": 19}
    assert seen["nothing"] == {"result": None}
    assert seen["value"] == {"result": VALUE}


def test_errors(seen):
    for case, code, message in (
        ("unknown", -32601, "Method not found"),
        ("too few", -32602, "Invalid params"),
        ("unknown name", -32602, "Invalid params"),
        ("wrong type", -32602, "Invalid params"),
        ("private", -32001, "Access denied"),
    ):
        assert (seen[case]["code"], seen[case]["message"]) == (code, message), case
    told = {"code": 1001, "message": "Out of stock", "data": {"left": 0}}
    assert seen["application error"] == told


def test_a_batch(seen):
    first, unknown, third, failed = seen["batch"]
    assert (first, third) == ({"result": 2}, {"result": -1})
    assert (unknown["code"], failed["code"]) == (-32601, 1001)


def test_what_only_some_of_them_can(seen):
    """A header of one's own, and the specs that old gemstone asks for."""
    if "specs" in seen:
        assert seen["specs"]["name"] == "ours"
        assert seen["specs"]["methods"]["subtract"] == "Return the difference."
    else:
        assert seen["private with a token"] == {"result": "the secret"}
