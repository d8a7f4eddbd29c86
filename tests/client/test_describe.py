"""``client.describe()``, and names of methods completed by what it told."""

import sys
from typing import Any

import pytest
from gevent.event import Event

from gemstone_sync import MicroService, RemoteService, errors, exposed_method
from tests.cli.support import run_program
from tests.support.faulty_server import FaultyServer, answer, close

from .faults import client_of, fault_of


class Shop(MicroService):
    name = "shop"
    version = "1.2.0"

    def __init__(self) -> None:
        super().__init__()
        self.go_on = Event()

    @exposed_method(idempotent=True)
    def look(self) -> str:
        return "gem"

    @exposed_method("users.find")
    def find(self, id: int) -> int:
        """Find one."""
        return id

    @exposed_method("users.admins.list")
    def admins(self) -> list[str]:
        return []


SERVICE = Shop


def test_a_service_tells_its_contract(client: RemoteService) -> None:
    contract = client.describe()
    assert (contract.name, contract.version, client.name) == ("shop", "1.2.0", "shop")
    method = contract.method("users.find")
    assert method is not None
    assert (method.summary, method.parameters[0].schema) == ("Find one.", {"type": "integer"})


def test_names_are_completed_by_what_was_told(client: RemoteService) -> None:
    spaces = (client.methods, client.idempotent, client.notifications)
    assert [dir(space) for space in spaces] == [[], [], []]
    client.describe()
    top = ["get_service_specs", "look", "users"]
    for space in (*spaces, client.with_options(timeout=3).methods):
        assert dir(space) == top
        assert dir(space.users) == ["admins", "find"]
        assert dir(space.users.admins) == ["list"]
    assert client.methods._ipython_key_completions_()[-2:] == ["users.admins.list", "users.find"]


DOCUMENT = {
    "openrpc": "1.3.2",
    "info": {"title": "x", "version": "1"},
    "methods": [{"name": "ping", "params": [], "x-idempotent": True}, {"name": "no", "params": []}],
}


def test_nobody_is_asked_by_looking() -> None:
    with FaultyServer() as server, client_of(server) as client:
        assert dir(client.methods) == dir(client.methods.users) == []
        repr(client.methods)
        assert server.connections == 0


def test_what_was_told_to_be_idempotent_is_called_again() -> None:
    with FaultyServer(close, answer()) as server, client_of(server) as client:
        server.aside = {"rpc.discover": answer(DOCUMENT)}
        fault_of(client.methods.ping)
        client.describe()
        server.script(close, answer())
        assert client.methods.ping() == "pong"
        server.script(close, answer())
        fault_of(client.methods.no)
        assert server.received["rpc.discover"] == 1


@pytest.mark.parametrize("told", [None, [], {"openrpc": 1}, {"openrpc": "1.3.2", "methods": 7}])
def test_what_is_no_contract(told: Any) -> None:
    with (
        FaultyServer(answer(told)) as server,
        client_of(server) as client,
        pytest.raises(errors.BadResponse, match=r"rpc\.discover: "),
    ):
        client.describe()


def test_a_service_that_does_not_tell() -> None:
    with FaultyServer() as server, client_of(server) as client:
        server.aside = {"rpc.discover": server.aside["get_service_specs"]}
        with pytest.raises(errors.MethodNotFound):
            client.describe()


PROMPT = """
import rlcompleter, sys
from gemstone_sync import RemoteService
client = RemoteService(sys.argv[1])
sys.ps1 = ">>> "  # somebody types
complete = rlcompleter.Completer({"client": client}).complete
print([complete("client.methods.l", n) for n in range(2)])
print([complete("client.methods.users.f", n) for n in range(2)])
"""

IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from gemstone_sync import RemoteService
shell = InteractiveShell.instance()
shell.user_ns["client"] = RemoteService(sys.argv[1])
for text in ("client.methods.l", "client.idempotent.users.f", "client.methods.x", "other.methods."):
    print(shell.complete(text, f"x = {text}")[1])
"""


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (PROMPT, ["['client.methods.look(', None]", "['client.methods.users.find(', None]"]),
        (
            IPYTHON,
            ["['client.methods.look']", "['client.idempotent.users.find']", "[]", "[]"],
        ),
    ],
    ids=["Python", "IPython"],
)
def test_tab_completes_where_somebody_types(service: Shop, program: str, lines: list[str]) -> None:
    if program is IPYTHON:
        pytest.importorskip("IPython")
    done = run_program(sys.executable, "-c", program, service.url)
    assert (done.stdout.splitlines(), done.code) == (lines, 0), done.stderr


def test_tab_goes_on_when_a_service_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert dir(RemoteService("http://127.0.0.1:9/api").methods) == []
