"""The documents of a service, as its callers get them."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import time

import jsonschema
import pytest

import gemstone_sync
from gemstone_sync import NOTHING, Example, InvalidParams, MicroService, RpcError, exposed_method
from gemstone_sync.contract.asyncapi import from_asyncapi, to_asyncapi
from gemstone_sync.contract.docstrings import read_doc
from gemstone_sync.contract.markdown import to_markdown
from gemstone_sync.contract.openrpc import to_openrpc
from gemstone_sync.contract.openrpc_reader import BadDocument, from_openrpc
from gemstone_sync.testing import ServiceClient, running_service
from tests.contract.everything import Everything, Flat


@pytest.fixture(scope="module")
def openrpc():
    return ServiceClient(Everything()).call("rpc.discover")


@pytest.fixture(scope="module")
def asyncapi():
    return ServiceClient(Everything()).call("rpc.asyncapi")


def method(document, name):
    return next(each for each in document["methods"] if each["name"] == name)


# OpenRPC


def test_a_method_is_told_whole(openrpc):
    assert method(openrpc, "buy") == {
        "name": "buy",
        "summary": "Buy something.",
        "description": "Whatever `what` is, it is <script>alert(1)</script> text.",
        "paramStructure": "either",
        "params": [
            {
                "name": "what",
                "required": True,
                "description": "the article.",
                "schema": {"type": "string"},
            },
            {
                "name": "pieces",
                "required": False,
                "description": "how many.",
                "schema": {
                    "type": "integer",
                    "exclusiveMinimum": 0,
                    "maximum": 100,
                    "default": 1,
                },
            },
        ],
        "result": {
            "name": "result",
            "schema": {"type": "integer"},
            "description": "the number of the order.",
        },
        "errors": [
            {"code": 1001, "message": "Out of stock"},
            {"code": 1002, "message": "The shop is closed"},
        ],
        "examples": [
            {
                "name": "One book",
                "params": [{"name": "what", "value": "a book"}],
                "result": {"name": "result", "value": 3},
            },
            {
                "name": "example 2",
                "params": [{"name": "what", "value": "a book"}, {"name": "pieces", "value": 2}],
                "result": {"name": "result", "value": 3},
            },
        ],
        "x-timeout-seconds": 30.0,
        "x-errors": [
            {
                "code": 1001,
                "message": "Out of stock",
                "name": "OutOfStock",
                "data": {"$ref": "#/components/schemas/Left"},
            },
            {"code": 1002, "message": "The shop is closed", "name": "Closed"},
        ],
    }


def test_the_service_itself_is_told(openrpc):
    assert openrpc["openrpc"] == "1.4.1"
    assert openrpc["info"] == {
        "title": "everything",
        "version": "2.1.0",
        "description": "A shop with trees, which nobody can write out in full.",
    }
    assert {error["name"] for error in openrpc["x-errors-always"]} >= {"InvalidParams"}
    assert not any(each["name"].startswith("rpc.") for each in openrpc["methods"])


def test_how_parameters_are_given_is_told(openrpc):
    count, move = method(openrpc, "stock.count"), method(openrpc, "stock.move")

    assert count["paramStructure"] == "by-position"
    assert [each["name"] for each in count["params"]] == ["what"]
    assert count["x-idempotent"] is True
    assert count["x-timeout-seconds"] == 2.5
    assert count["tags"] == [{"name": "stock"}]
    assert move["paramStructure"] == "by-name"
    assert [each["name"] for each in move["params"]] == ["what", "to"]
    assert "x-rest" not in move  # nobody can give by position what goes by name
    assert move["x-named-rest"] == {"name": "options", "schema": {"type": "integer"}}


def test_notifications_deprecation_and_private_methods_are_told(openrpc):
    assert "result" not in method(openrpc, "tell")
    old = method(openrpc, "purchase")
    assert (old["deprecated"], old["summary"]) == (True, "The old way")
    assert old["description"] == "Deprecated: use buy"
    assert old["result"]["schema"] == {"type": "null"}
    assert method(openrpc, "secret")["x-private"] is True


def test_required_parameters_stand_before_optional_ones():
    class Odd(MicroService):
        name = "odd"

        @exposed_method()
        def odd(self, a: int = 1, *, b: str, c: str = "", d: str) -> None: ...

    told = method(ServiceClient(Odd()).call("rpc.discover"), "odd")

    assert [(each["name"], each["required"]) for each in told["params"]] == [
        ("b", True),
        ("d", True),
        ("a", False),
        ("c", False),
    ]


def test_each_schema_is_valid(openrpc, asyncapi):
    shared = openrpc["components"]
    for each in openrpc["methods"]:
        schemas = [parameter["schema"] for parameter in each["params"]]
        for schema in [*schemas, each.get("result", {}).get("schema", {})]:
            jsonschema.Draft202012Validator.check_schema({**schema, "components": shared})
    for schema in shared["schemas"].values():
        jsonschema.Draft202012Validator.check_schema({**schema, "components": shared})
    for schema in asyncapi["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


def test_what_is_read_back_is_the_same(openrpc):
    assert to_openrpc(from_openrpc(openrpc)) == openrpc
    assert to_openrpc(from_openrpc(openrpc), "1.3.2") == ServiceClient(Everything()).call(
        "rpc.discover", "1.3.2"
    )


def test_a_version_that_is_not_written_is_refused():
    client = ServiceClient(Everything())

    with pytest.raises(InvalidParams) as caught:
        client.call("rpc.discover", "9.9")
    assert caught.value.data["parameters"][0]["name"] == "version"
    with pytest.raises(ValueError, match=r"9\.9"):
        to_openrpc(Everything().contract, "9.9")


# HTTP


def get(service, path, **headers):
    return service.app.test_client().get(path, headers=headers)


def test_a_document_has_a_strong_etag_and_is_not_sent_twice():
    service = Everything()
    first = get(service, "/api/openrpc.json")
    tag = first.headers["ETag"]
    again = get(service, "/api/openrpc.json", **{"If-None-Match": tag})

    assert first.status_code == 200
    assert first.mimetype == "application/json"
    assert tag.startswith('"')
    assert (again.status_code, again.data) == (304, b"")
    assert get(service, "/api/openrpc.json", **{"If-None-Match": '"other"'}).status_code == 200
    assert get(service, "/api/openrpc.json?version=1.3.2").headers["ETag"] != tag
    assert get(service, "/api/asyncapi.json").json["asyncapi"] == "3.0.0"


@pytest.mark.parametrize("path", ["openrpc.json?version=9", "asyncapi.json?version=2.6.0"])
def test_an_unknown_version_is_a_bad_request(path):
    reply = get(Everything(), f"/api/{path}")

    assert reply.status_code == 400
    assert "versions" in reply.json["error"]["message"]


def test_a_running_service_tells_where_it_is():
    with running_service(Flat) as service:
        document = ServiceClient(service).call("rpc.discover")
    assert document["servers"] == [{"name": "everything", "url": service.url}]


PROGRAM = """
import json
from gemstone_sync.testing import ServiceClient
from tests.contract.everything import Everything
client = ServiceClient(Everything())
for name in ("openrpc", "asyncapi"):
    print(Everything().app.test_client().get(f"/api/{name}.json").data.decode())
"""


def test_two_processes_write_the_same_bytes():
    """5 s and more: two processes that import everything."""
    written = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(written) == 1
    assert b"openrpc" in written.pop()


# Who sees what


class Guarded(MicroService):
    name = "guarded"
    hide_private = True

    def authenticate_request(self, handler):
        return handler.headers.get("X-Api-Token") == "let me in"

    @exposed_method(private=True)
    def secret(self, of: "Secret") -> None:
        """Hidden."""

    @exposed_method()
    def open(self) -> None: ...


@dataclasses.dataclass
class Secret:
    a: int


def test_private_methods_are_hidden_from_who_would_be_refused():
    service = Guarded()
    outside, inside = ServiceClient(service), ServiceClient(service, {"X-Api-Token": "let me in"})
    seen, told = outside.call("rpc.discover"), inside.call("rpc.discover")

    assert [each["name"] for each in seen["methods"]] == ["get_service_specs", "open"]
    assert "components" not in seen
    assert [each["name"] for each in told["methods"]] == ["get_service_specs", "open", "secret"]
    assert list(told["components"]["schemas"]) == ["Secret"]
    assert "secret" not in outside.call("get_service_specs", signatures=True)["methods"]
    assert "secret" in inside.call("get_service_specs")["methods"]


def test_the_two_audiences_have_two_etags():
    service = Guarded()
    outside = get(service, "/api/openrpc.json")
    inside = get(service, "/api/openrpc.json", **{"X-Api-Token": "let me in"})

    assert outside.headers["ETag"] != inside.headers["ETag"]
    assert b"secret" not in outside.data
    assert "private" in outside.headers["Cache-Control"]


def test_names_are_told_to_all_when_they_are_not_hidden():
    class Shown(Guarded):
        hide_private = False

    document = ServiceClient(Shown()).call("rpc.discover")

    assert method(document, "secret")["x-private"] is True


# AsyncAPI


def test_events_are_told_as_rabbitmq_has_them(asyncapi):
    channels = {each["address"]: each for each in asyncapi["channels"].values()}
    placed = channels["order.placed"]["bindings"]["amqp"]
    queue = channels["gemstone:1:service:everything:order.placed"]

    assert placed["exchange"] == {
        "name": "gemstone.events",
        "type": "topic",
        "durable": True,
        "autoDelete": False,
        "vhost": "/",
    }
    assert queue["bindings"]["amqp"]["queue"]["name"].endswith(":order.placed")
    assert queue["x-bindings"] == [{"exchange": "gemstone.events", "pattern": "order.placed"}]
    assert "gemstone:1:instance:everything:{instance}" in channels
    assert channels["gemstone:1:dead"]["title"] == "Dead letters"


def test_events_are_read_back(asyncapi):
    read, contract = from_asyncapi(asyncapi), Everything().contract

    for action in ("emits", "handles"):
        for found, told in zip(getattr(read, action), getattr(contract, action), strict=True):
            assert (found.name, found.schema, found.summary, found.scope) == (
                told.name,
                told.schema,
                told.summary,
                told.scope,
            )


def test_without_a_broker_each_event_is_a_channel():
    document = ServiceClient(Flat()).call("rpc.asyncapi")

    assert sorted(each["address"] for each in document["channels"].values()) == [
        "order.placed",
        "stock.*",
        "stock.low",
    ]
    assert document == to_asyncapi(Flat().contract)


# Bad documents


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (1, "no OpenRPC document"),
        ({}, "no OpenRPC document"),
        ({"openrpc": "2.0"}, "not known"),
        ({"openrpc": "1.3.2", "methods": 3}, "methods is no list"),
        ({"openrpc": "1.3.2", "methods": [1]}, r"methods\[0\] is no object"),
        ({"openrpc": "1.3.2", "methods": [{"params": []}]}, "has no name"),
        ({"openrpc": "1.3.2", "methods": [{"name": "a"}, {"name": "a"}]}, "a second method"),
        (
            {"openrpc": "1.3.2", "methods": [{"name": "a", "params": [{"$ref": "http://x/y"}]}]},
            "nothing is fetched",
        ),
        ({"openrpc": "1.3.2", "methods": [{"$ref": "#/methods/0"}]}, "in a circle"),
        ({"openrpc": "1.3.2", "methods": [{"$ref": "#/no/where"}]}, "leads nowhere"),
        (
            {"openrpc": "1.3.2", "methods": [{"name": "a", "errors": [{"code": "x"}]}]},
            "no whole number",
        ),
        (
            {
                "openrpc": "1.3.2",
                "methods": [{"name": "a", "params": [{"name": "b"}, {"name": "b"}]}],
            },
            "two parameters",
        ),
    ],
)
def test_a_document_that_is_none_is_refused_in_one_line(document, told):
    with pytest.raises(BadDocument, match=told) as caught:
        from_openrpc(document)
    assert "\n" not in str(caught.value)


def test_schemas_are_read_wherever_they_stand_and_however_deep():
    deep = {}
    for _ in range(5000):
        deep = {"items": deep}
    base = {"openrpc": "1.3.2", "components": {"x": {"type": "string"}}}
    found = {"name": "a", "params": [{"name": "b", "schema": {"$ref": "#/components/x"}}]}
    read = from_openrpc({**base, "methods": [found]})

    assert read.methods[0].parameters[0].schema == {"$ref": "#/components/schemas/x"}
    assert read.schemas == {"x": {"type": "string"}}
    with pytest.raises(BadDocument, match="deep"):
        from_openrpc({**base, "methods": [{"name": "a", "result": {"schema": deep}}]})


def test_many_methods_are_read_in_little_time():
    """3 s and more: a hundred thousand."""
    methods = [{"name": f"m{number}", "params": []} for number in range(100_000)]
    started = time.process_time()

    assert len(from_openrpc({"openrpc": "1.2.6", "methods": methods}).methods) == 100_000
    assert time.process_time() - started < 15


# Docstrings


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (None, ("", "", {}, "")),
        ("One line.", ("One line.", "", {}, "")),
        ("One: two\n\n:: odd", ("One: two", ":: odd", {}, "")),
        (":param x: only", ("", "", {"x": "only"}, "")),
        ("A.\n\nB.\n\n:param int x: c\n:returns: d", ("A.", "B.", {"x": "c"}, "d")),
        ("A.\n\nArgs:\n  x (int): c\n\nReturns:\n  d", ("A.", "", {"x": "c"}, "d")),
        ("A.\n\nParameters\n----------\nx : int\n    c", ("A.", "", {"x": "c"}, "")),
        ("Args:\n    x: c: e\n    y (str, optional): d", ("", "", {"x": "c: e", "y": "d"}, "")),
        ("Args:\n    x: c\n\nReturns:\n    d", ("", "", {"x": "c"}, "d")),
        ("A.\nArgs:\n    x: c\nReturns:\n    d", ("A.", "", {"x": "c"}, "d")),
        ("A.\n\nParameters\n----------\nx, *y : int\n    c", ("A.", "", {"x": "c", "y": "c"}, "")),
        ("A\x00\x1b[0m\ud800.", ("A[0m.", "", {}, "")),
        ("<script>x</script>\n\n:bad:`role`", ("<script>x</script>", ":bad:`role`", {}, "")),
    ],
)
def test_docstrings_of_every_style_are_read(doc, expected):
    read = read_doc(doc)

    assert (read.summary, read.description, dict(read.parameters), read.result) == expected


# Markdown


def test_markdown_shows_what_somebody_wrote_as_text():
    page = to_markdown(Everything().contract)

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "| `pieces` | `integer, > 0, <= 100` | `1` | how many. |" in page


# The class


def test_an_example_that_does_not_fit_is_refused_with_the_class():
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match=r"Wrong\.add: example 'sum'"):

        class Wrong(MicroService):
            name = "wrong"

            @exposed_method(examples=[Example(params=["x", 1], summary="sum")])
            def add(self, a: int, b: int) -> int: ...


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (Example(params={"a": 1}), "b: missing"),
        (Example(params=[1, 2], result="3"), "its result: Expected `int`"),
        (Example(params=[1, object()]), "its params cannot be represented"),
        (Example(params=[1, 2], result=object()), "its result cannot be represented"),
    ],
)
def test_what_is_wrong_with_an_example_is_told(example, told):
    def add(self, a: int, b: int) -> int: ...

    with pytest.raises(gemstone_sync.ServiceConfigurationError, match=told):
        type("Wrong", (MicroService,), {"add": exposed_method(examples=[example])(add)})


def test_an_example_is_checked_at_the_start_when_its_types_come_later():
    class Later(MicroService):
        name = "later"

        @exposed_method(examples=[Example(params=["x"])])
        def take(self, a: "ComesLater") -> None: ...  # noqa: F821

    globals()["ComesLater"] = int
    try:
        with pytest.raises(gemstone_sync.ServiceConfigurationError, match="a: Expected `int`"):
            Later().contract  # noqa: B018
    finally:
        del globals()["ComesLater"]


@pytest.mark.parametrize(
    "options",
    [
        {"errors": RpcError},
        {"errors": [ValueError]},
        {"examples": Example()},
        {"examples": [{"params": []}]},
        {"tags": "stock"},
        {"tags": [1]},
        {"deprecated": 1},
        {"summary": 3},
    ],
)
def test_what_makes_no_sense_is_refused_by_the_decorator(options):
    with pytest.raises(TypeError, match=next(iter(options))):
        exposed_method(**options)


def test_a_method_that_returns_nothing_has_no_result():
    class Quiet(MicroService):
        name = "quiet"

        @exposed_method(result=NOTHING)
        def say(self) -> None: ...

        @exposed_method(result=list[int])
        def numbers(self): ...

    document = ServiceClient(Quiet()).call("rpc.discover")

    assert "result" not in method(document, "say")
    assert method(document, "numbers")["result"]["schema"]["items"] == {"type": "integer"}


def test_nobody_who_does_not_ask_pays_for_docstrings():
    """5 s: one process that imports everything."""
    program = "import sys, tests.contract.everything as e; e.Everything().app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert importlib.util.find_spec("docstring_parser")
    assert "docstring_parser" not in done.stdout.split()
    assert "gemstone_sync.contract.openrpc" not in done.stdout.split()
