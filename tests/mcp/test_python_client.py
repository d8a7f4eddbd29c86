"""The protocol's own Python client lists and calls our tools: over HTTP, stdio, under gunicorn."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gemstone_sync.testing import running_service
from tests.contract.everything import Everything
from tests.interop.packages import MARKS, run_client_of
from tests.support.programs import gunicorn

from .subject import Subject

pytestmark = MARKS  # an environment of its own is made for the client

ROOT = Path(__file__).resolve().parents[2]

#: Every tool of the service: name, arguments, and what comes of them as JSON.
CALLS: list[tuple[str, dict[str, Any], Any]] = [
    ("buy", {"what": "a book"}, 3),
    ("buy", {"what": "a book", "pieces": 2}, 3),
    ("purchase", {}, None),
    ("tell", {"text": "hello"}, None),
    ("stock.count", {"what": "books"}, 5),
    ("stock.move", {"what": "books", "to": {"name": "left"}, "speed": 3}, {"pieces": 1}),
    ("place", {"order": {"id": 7, "lines": [{"what": "a", "pieces": 2}]}}, {"id": 7}),
    (
        "texts",
        {
            "when": "2026-01-01T00:00:00Z",
            "price": "1.50",
            "key": "00000000-0000-0000-0000-000000000001",
            "data": "aGk=",
            "address": "127.0.0.1",
            "folder": "/tmp",
            "day": "2026-01-02",
        },
        "PT1S",
    ),
    (
        "shapes",
        {
            "levels": {"1": "red"},
            "rights": 3,
            "point": [1.5],
            "pair": [1, 2],
            "address": {"street": "Main"},
            "queue": [1, 2],
            "word": "a",
            "pet": {"type": "Dog", "name": "Rex"},
        },
        {"items": [{"type": "Cat", "lives": 9}], "next": None},
    ),
    (
        "grow",
        {"tree": {"value": 1, "children": [{"value": 2}]}},
        {"value": 1, "children": [{"value": 2, "children": []}]},
    ),
]
OBJECTS = {"stock.move", "place", "shapes", "grow"}


class Tools(Everything):
    mcp = True
    mcp_methods = [*dict.fromkeys(name for name, *_ in CALLS), "secret"]
    event_transports = []
    port = 0


service = Tools()


def seen_by_client(mode: str, **told: Any) -> dict[str, Any]:
    calls = [[name, arguments] for name, arguments, _ in CALLS]
    return run_client_of("mcp", json.dumps({"mode": mode, "calls": calls, **told}))


def check(seen: dict[str, Any], version: str) -> None:
    assert seen["version"] == version
    tools = {tool["name"]: tool for tool in seen["tools"]}
    assert [*tools] == sorted(Tools.mcp_methods)  # the service's authentication lets all in
    for tool in tools.values():
        for key in ("inputSchema", "outputSchema"):
            if key in tool:
                jsonschema.Draft202012Validator.check_schema(tool[key])
    for (name, arguments, wanted), result in zip(CALLS, seen["results"], strict=True):
        jsonschema.Draft202012Validator(tools[name]["inputSchema"]).validate(arguments)
        assert not result.get("isError"), result
        expected = wanted
        if version != "2026-07-28" and name not in OBJECTS:
            expected = {"result": wanted}
        assert result["structuredContent"] == expected, name
        if "outputSchema" in tools[name]:
            schema = tools[name]["outputSchema"]
            jsonschema.Draft202012Validator(schema).validate(result["structuredContent"])
        [text] = result["content"]
        shown = wanted if isinstance(wanted, str) else json.loads(text["text"])
        assert shown == wanted


MODES = pytest.mark.parametrize(
    ("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")]
)


@MODES
def test_it_calls_every_tool_over_http(mode, version):
    with running_service(Tools) as running:
        check(seen_by_client(mode, url=running.url.replace("/api", "/mcp")), version)


@MODES
def test_it_calls_every_tool_under_gunicorn_with_two_workers(tmp_path, mode, version):
    with gunicorn("tests.mcp.test_python_client:service", ROOT, "--workers", "2") as program:
        program.wait_until_ready()
        check(seen_by_client(mode, url=f"http://127.0.0.1:{program.port}/mcp"), version)


def gemstone(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "gemstone_sync", "mcp", *words]
    return {"command": command, "env": {"PYTHONPATH": str(ROOT)}, "cwd": str(ROOT)}


@MODES
def test_it_calls_every_tool_of_a_class_over_stdio(mode, version):
    told = gemstone("tests.mcp.test_python_client:Tools")
    check(seen_by_client(mode, **told), version)


@MODES
@pytest.mark.parametrize("path", ["/api", "/mcp"])
def test_it_calls_every_tool_of_a_url_over_stdio(path, mode, version):
    with running_service(Tools) as running:
        url = running.url.replace("/api", path)
        check(seen_by_client(mode, **gemstone(url, "--token", "any")), version)


def test_it_sees_images_sounds_and_what_went_wrong():
    calls = [
        ["test_image_content", {}],
        ["test_audio_content", {}],
        ["test_texts_and_images", {}],
        ["test_error_handling", {}],
        ["move", {"region": "größer"}],
    ]
    with running_service(Subject) as running:
        url = running.url.replace("/api", "/mcp")
        seen = run_client_of("mcp", json.dumps({"mode": "auto", "calls": calls, "url": url}))
    kinds = [[part["type"] for part in result["content"]] for result in seen["results"]]
    assert kinds == [["image"], ["audio"], ["text", "image"], ["text"], ["text"]]
    assert [bool(result.get("isError")) for result in seen["results"]] == [0, 0, 0, 1, 0]
    assert seen["results"][4]["structuredContent"] == "größer"
