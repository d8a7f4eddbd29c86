"""strict_errors: a test fails in which a method breaks its contract."""

import contextlib
import subprocess
import sys
from typing import Any

import pytest

from gemstone_sync import (
    NOTHING,
    InvalidParams,
    MicroService,
    RemoteError,
    RpcError,
    exposed_method,
)
from gemstone_sync.testing import ServiceClient, strict_errors


class OutOfStock(RpcError):
    code = 1001
    data: dict[str, int]


class Shop(MicroService):
    name = "shop"

    @exposed_method(errors=[OutOfStock])
    def buy(self, left: Any) -> int:
        raise OutOfStock(data={"left": left})

    @exposed_method()
    def steal(self) -> int:
        raise OutOfStock(data={"left": 0})

    @exposed_method()
    def give(self, back: Any) -> int:
        return back

    @exposed_method(result=NOTHING)
    def note(self, back: Any = None):
        return back

    @exposed_method()
    def refuse(self) -> None:
        raise InvalidParams("not these")

    @exposed_method()
    def pass_on(self) -> None:
        raise RemoteError("elsewhere", code=5)


@pytest.fixture(scope="module")
def client():
    return ServiceClient(Shop())


def try_to(client, name, *params):
    with contextlib.suppress(RpcError):
        client.call(name, *params)


@pytest.mark.parametrize(
    "call",
    [("buy", 3), ("give", 1), ("note",), ("refuse",), ("pass_on",), ("give",), ("nothing",)],
)
def test_what_is_declared_or_never_needs_to_be_passes(client, call):
    with strict_errors():
        try_to(client, *call)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("buy", "three"), "buy raised OutOfStock with other data: Expected `int`, got `str`"),
        (("steal",), r"steal raised OutOfStock \(1001\), which it does not declare"),
        (("give", "one"), "give returned what its hint forbids: Expected `int`, got `str`"),
        (("note", 1), "note returned what its hint forbids: a int, and declares NOTHING"),
    ],
)
def test_what_is_not_declared_fails(client, call, told):
    with pytest.raises(AssertionError, match=told), strict_errors():
        try_to(client, *call)


def test_nothing_is_watched_afterwards(client):
    with strict_errors():
        pass
    with pytest.raises(RpcError):
        client.call("steal")


TESTS = """
from tests.testing.test_strict import Shop, try_to
from gemstone_sync.testing import ServiceClient

def test_right(strict_errors):
    try_to(ServiceClient(Shop()), "buy", 1)

def test_wrong(strict_errors):
    try_to(ServiceClient(Shop()), "steal")
"""


@pytest.mark.slow  # a pytest in a process of its own
def test_a_test_with_the_fixture_fails_itself(tmp_path, pytestconfig):
    (tmp_path / "test_them.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    done = subprocess.run(
        [*map(str, command), str(tmp_path)],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
    )

    assert "1 failed, 1 passed" in done.stdout
    assert "AssertionError: steal raised OutOfStock" in done.stdout
