"""``gemstone diff``: what CI sees when a service's contract changes."""

import json
from pathlib import Path

import pytest

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import line_of, run, run_process
from tests.support.faulty_server import FaultyServer, answer

OLD = {
    "openrpc": "1.4.1",
    "info": {"title": "shop", "version": "1"},
    "methods": [
        {
            "name": "buy",
            "params": [{"name": "what", "required": True, "schema": {"type": "string"}}],
            "result": {"name": "result", "schema": {"type": "boolean"}},
        },
        {"name": "sell", "params": []},
    ],
}
EVENTS = {
    "asyncapi": "3.0.0",
    "info": {"title": "shop", "version": "1"},
    "channels": {"sold": {"address": "sold", "messages": {"sold": {"payload": {}}}}},
    "operations": {"emit": {"action": "send", "channel": {"$ref": "#/channels/sold"}}},
}
SERVICE = """
from gemstone_sync import MicroService, exposed_method


class Shop(MicroService):
    name = "shop"

    @exposed_method()
    def buy(self, what: int) -> bool: ...
"""


def written(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return written(tmp_path, "old.json", OLD)


def test_what_breaks_is_told_and_ends_with_1(old: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    done = run_process("diff", old, "shop.py:Shop", cwd=tmp_path)

    assert (done.code, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "breaks callers: buy: parameter 'what' is narrowed: no longer takes string",
        "breaks callers: sell: the method is gone",
        "breaks nobody: shop: the version is '0.0.0' now",
    ]
    assert "breaks nobody: get_service_specs: the method is new" in lines


def test_as_json(old: Path, tmp_path: Path) -> None:
    new = written(tmp_path, "new.json", {**OLD, "methods": OLD["methods"][:1]})
    done = run("diff", old, new, "--json")

    assert (done.code, done.stderr) == (1, "")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {
        "changes": [{"where": "sell", "what": "the method is gone", "breaks": ["callers"]}]
    }
    back = run("diff", new, old, "--json")
    assert back.code == 0
    assert json.loads(back.stdout)["changes"][0]["breaks"] == []


def test_nothing_changed(old: Path) -> None:
    assert run("diff", old, old) == (0, "", "")
    assert run("diff", old, old, "--json") == (0, '{"changes":[]}\n', "")


class Shop(MicroService):
    name = "shop"
    version = "1"

    @exposed_method()
    def buy(self, what: str) -> bool:
        return True


def test_a_running_service(old: Path) -> None:
    with running_service(Shop) as service:
        done = run("diff", old, service.url)
        same = run("diff", service.url, service.url)
    assert done.code == 1
    assert done.stdout.startswith("breaks callers: sell: the method is gone\n")
    assert same == (0, "", "")


@pytest.mark.parametrize("given", ["methods", "events"])
def test_methods_and_events_cannot_be_compared(given: str, old: Path, tmp_path: Path) -> None:
    events = written(tmp_path, "events.json", EVENTS)
    words = (old, events) if given == "methods" else (events, old)
    assert "nothing to compare" in line_of(run("diff", *words), 2)


def test_a_class_is_compared_with_the_events_of_a_document(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    events = written(tmp_path, "events.json", EVENTS)
    done = run_process("diff", events, "shop.py:Shop", cwd=tmp_path)
    assert done.code == 1
    assert done.stdout.splitlines()[0] == ("breaks handlers: sold: the event is no longer emitted")
    assert "buy" not in done.stdout


LOOP = {"$ref": "#/components/schemas/A"}
DEEP = json.loads('{"items":' * 150 + "{}" + "}" * 150)


@pytest.mark.parametrize(
    "words",
    [
        ("diff", "{old}"),
        ("contract", "--check", "-o", "{old}"),
        ("client", "--check", "-o", "{old}"),
    ],
    ids=["diff", "contract", "client"],
)
def test_a_class_that_cannot_be_made_is_no_break(
    words: tuple[str, ...], old: Path, tmp_path: Path
) -> None:
    """Exit code 1 would tell CI that something breaks, or is out of date."""
    (tmp_path / "broken.py").write_text("raise KeyError('a setting')")
    done = run_process(*(word.format(old=old) for word in words), "broken:Shop", cwd=tmp_path)
    assert done.code == 2
    assert "KeyError: 'a setting'" in done.stderr


@pytest.mark.parametrize(
    ("schema", "schemas"),
    [
        (LOOP, {"A": LOOP}),
        (LOOP, {"A": {"anyOf": [LOOP, LOOP]}}),
        ({"$ref": "http://127.0.0.1:9/x.json"}, {}),
        ({"$ref": "x.json#/A"}, {}),
        ({"$ref": "#/nowhere"}, {}),
        (json.loads('{"items":' * 400 + "{}" + "}" * 400), {}),
        ({"type": ["\n", "__class__"]}, {}),
    ],
)
def test_hostile_documents_are_one_line(
    schema: object, schemas: object, old: Path, tmp_path: Path
) -> None:
    content = {"name": "what", "required": True, "schema": schema}
    method = {"name": "buy", "params": [content], "result": {"name": "r", "schema": schema}}
    hostile = {**OLD, "methods": [method], "components": {"schemas": schemas}}
    path = written(tmp_path, "hostile.json", hostile)
    for words in ((old, path), (path, old)):
        line = line_of(run("diff", *words), 2)
        assert line.startswith("gemstone diff: ")
        assert len(line) < 600


def test_odd_documents_have_a_right_answer(old: Path, tmp_path: Path) -> None:
    names = ["__class__", "import", "a-b", "\n", "\x1b[31m", "{}", "%s", "é"]
    methods = [{"name": name, "params": [{"name": name, "schema": DEEP}]} for name in names]
    odd = written(tmp_path, "odd.json", {**OLD, "methods": methods})
    none = written(tmp_path, "none.json", {**OLD, "methods": []})
    assert run("diff", odd, odd) == (0, "", "")
    done = run("diff", odd, none)
    assert done.code == 1
    assert len(done.stdout.splitlines()) == len(names)
    assert "\x1b" not in done.stdout


def test_many_methods(tmp_path: Path) -> None:
    methods = [
        {"name": f"m{n}", "params": [{"name": "a", "schema": {"type": "integer"}}]}
        for n in range(20_000)
    ]
    many = written(tmp_path, "many.json", {**OLD, "methods": methods})
    assert run("diff", many, many) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["diff", "old.json"], 2, "Missing argument 'NEW'"),
        (["diff", "missing.json", "old.json"], 2, "missing.json"),
        (["diff", "old.json", "no_such_module:Shop"], 2, "no module no_such_module"),
        (["diff", "old.json", "http://127.0.0.1:9/api"], 3, "connection refused"),
        (["diff", "old.json", "broken.json"], 2, "is no JSON"),
        (["diff", "list.json", "old.json"], 2, "no OpenRPC document"),
    ],
)
def test_what_cannot_be_read(
    words: list[str], code: int, reason: str, old: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    assert reason in line_of(run(*words, cwd=tmp_path), code)


def test_a_service_that_tells_nonsense(old: Path) -> None:
    with FaultyServer(answer({"openrpc": 7})) as server:
        assert "no OpenRPC document" in line_of(run("diff", old, server.url), 1)
