"""A service of ours with the clients of others: what they expect of any server they get here."""

from typing import Any

import pytest

import gemstone_sync
from gemstone_sync.testing import running_service
from tests.support.waiting import wait_until

from .packages import MARKS, run_client_of

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


def answers_of(package, **attributes):
    """What the package's client got from a service, and what the service noted."""
    with running_service(Ours, **attributes) as service:
        seen = run_client_of(package, service.url)
        # The reply to a notification says that it was taken, not that it was executed.
        wait_until(lambda: f"{package} in a batch" in service.noted, "the notifications")
        wait_until(lambda: package in service.noted, "the notifications")
    return {**seen, "noted": service.noted}


@pytest.fixture(scope="module")
def jsonrpcclient():
    return answers_of("jsonrpcclient")


@pytest.fixture(scope="module")
def pjrpc():
    return answers_of("pjrpc")


@pytest.fixture(scope="module")
def old():
    return answers_of("old-gemstone", wire_format="gemstone")


@pytest.fixture(params=["jsonrpcclient", "pjrpc"])
def strict(request):
    """Each of the two that take nothing but JSON-RPC 2.0 as it is written."""
    return request.getfixturevalue(request.param)


INVALID = ("too few", "unknown name", "wrong type")


def code_of(error):
    return error["code"], error["message"]


class TestStrictClients:
    def test_results(self, strict):
        assert strict["by position"] == {"result": 19}
        assert strict["by name"] == {"result": 19}
        assert strict["nothing"] == {"result": None}
        assert strict["value unchanged"] is True

    def test_errors(self, strict):
        assert code_of(strict["unknown"]) == (-32601, "Method not found")
        for case in INVALID:
            assert code_of(strict[case]) == (-32602, "Invalid params"), case

    def test_an_error_of_the_application_with_its_data(self, strict):
        told = {"code": 1001, "message": "Out of stock", "data": {"left": 0}}
        assert strict["application error"] == told

    def test_a_private_method(self, strict):
        assert code_of(strict["private"]) == (-32001, "Access denied")
        assert strict["private with a token"] == {"result": "the secret"}

    def test_a_batch_of_notifications_has_no_answer(self, strict):
        assert not strict["batch of notifications"]


class TestJsonrpcclient:
    def test_notifications(self, jsonrpcclient):
        assert jsonrpcclient["notification"] == [204, ""]
        assert jsonrpcclient["unknown notification"] == [204, ""]
        assert set(jsonrpcclient["noted"]) == {
            "jsonrpcclient",
            "jsonrpcclient in a batch",
            "jsonrpcclient, nothing else",
        }

    def test_a_batch(self, jsonrpcclient):
        first, unknown, third, failed = jsonrpcclient["batch"]
        assert (first, third) == ({"result": 2}, {"result": -1})
        assert (unknown["code"], failed["code"]) == (-32601, 1001)


class TestPjrpc:
    def test_notifications(self, pjrpc):
        assert pjrpc["notification"] is pjrpc["unknown notification"] is None
        assert set(pjrpc["noted"]) == {"pjrpc", "pjrpc in a batch", "pjrpc, nothing else"}

    def test_the_error_is_of_the_class_of_its_code(self, pjrpc):
        assert pjrpc["not found is its class"] is True

    def test_a_batch(self, pjrpc):
        assert pjrpc["batch"] == [2, -1]

    def test_a_batch_with_errors(self, pjrpc):
        answers = dict(pjrpc["mixed batch"])
        assert answers["a"] == {"result": 2}
        assert (answers[2]["code"], answers[3]["code"]) == (-32601, 1001)


class TestOldGemstone:
    def test_results(self, old):
        assert old["by position"] == {"result": 19, "error": None}
        assert old["by name"] == {"result": 19, "error": None}
        assert old["nothing"] == {"result": None, "error": None}
        assert old["value unchanged"] is True

    def test_errors(self, old):
        assert old["unknown"] == {
            "result": None,
            "error": {"code": -32601, "message": "Method not found"},
        }
        for case in INVALID:
            assert old[case]["result"] is None, case
            assert code_of(old[case]["error"]) == (-32602, "Invalid params"), case
        assert code_of(old["private"]["error"]) == (-32001, "Access denied")

    def test_an_error_of_the_application_with_its_data(self, old):
        told = {"code": 1001, "message": "Out of stock", "data": {"left": 0}}
        assert old["application error"] == {"result": None, "error": told}

    def test_notifications(self, old):
        assert old["notification"] is old["unknown notification"] is None
        assert set(old["noted"]) == {"old-gemstone", "old-gemstone in a batch"}

    def test_a_batch(self, old):
        first, unknown, third, failed = old["batch"]
        assert (first, third) == ({"result": 2, "error": None}, {"result": -1, "error": None})
        assert (unknown["error"]["code"], failed["error"]["code"]) == (-32601, 1001)

    def test_calls_in_its_thread_pool(self, old):
        assert old["async"] == list(range(20))
        assert old["as_completed"] == list(range(5))
        assert old["async error"] == old["application error"]

    def test_the_specs_that_it_asks_for(self, old):
        specs = old["specs"]["result"]
        assert specs["name"] == "ours"
        assert specs["methods"]["subtract"] == "Return the difference."
