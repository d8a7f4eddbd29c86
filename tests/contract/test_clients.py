"""Modules that ``gemstone client`` writes: compiled, imported, and called."""

import ast
import contextlib
import datetime
import decimal
import enum
import json
import re
import subprocess
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstone_sync import (
    UNSET,
    BadResponse,
    MicroService,
    Notification,
    RemoteError,
    RemoteService,
    RpcError,
    ServiceRegistry,
    exposed_method,
)
from gemstone_sync.contract.clients import python_client, typescript_client
from gemstone_sync.contract.clients.python_text import docstring
from gemstone_sync.contract.diff import differences
from gemstone_sync.contract.model import NOTHING, Contract
from gemstone_sync.contract.openrpc import to_openrpc
from gemstone_sync.contract.openrpc_reader import from_openrpc
from gemstone_sync.contract.reading import BadDocument
from gemstone_sync.protocol import encode_json
from gemstone_sync.testing import FakeRemoteService, running_service
from tests.support.node import node_modules
from tests.typing.test_typing import errors_of_mypy, errors_of_pyright

Zoned = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class Size(enum.Enum):
    SMALL = "s"
    EXTRA_LARGE = "x-l"
    NONE = ""


class Level(enum.IntEnum):
    LOW = 1
    HIGH = -2


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    name: str = ""


class Node(msgspec.Struct):
    value: int
    next: "Node | None" = None


@dataclass
class Everything:
    """All sorts of things.

    It has \"\"\" and \\ in it.
    """

    at: Zoned
    day: datetime.date
    price: decimal.Decimal
    id: uuid.UUID
    raw: bytes
    size: Size
    level: Level
    pet: Cat | Dog
    node: Node
    pair: tuple[int, str]
    by_name: dict[str, list[int]]
    choice: Literal["a", "b", 1] | None
    note: str | None = None
    count: int = 3
    fallback: Size = Size.EXTRA_LARGE
    least: Level = Level.LOW
    more: list[int] = field(default_factory=list)
    rest: dict[str, int] = field(default_factory=dict)


class OutOfStock(RpcError):
    code = 1001
    message = "Out of stock"
    data: Node  # type: ignore[assignment]


class Closed(RpcError):
    """Not open."""

    code = -1002
    message = "Closed"


class Shop(MicroService):
    """Sells things.

    :ivar nothing: said.
    """

    name = "test.shop"
    version = "1.2.0"

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[str] = []

    @exposed_method(idempotent=True)
    def echo(self, thing: Everything) -> Everything:
        """Give it back.

        :param thing: whatever it is.
        """
        return thing

    @exposed_method("users.find")
    def find(self, id: int, *, deep: bool = False, since: datetime.date | None = None) -> list[Any]:
        return [id, deep, since]

    @exposed_method("users")
    def users(self) -> dict[str, int]:
        return {"ada": 1}

    @exposed_method("users.admins.list")
    def admins(self, first: int = 0, /, second: int = 1) -> tuple[int, int]:
        return first, second

    @exposed_method(errors=[OutOfStock, Closed])
    def buy(self, what: Literal["gem", "nothing", "closed"]) -> None:
        if what == "nothing":
            raise OutOfStock(data=Node(1, Node(2)))
        if what == "closed":
            raise Closed

    @exposed_method(result=NOTHING)
    def log(self, line: str) -> None:
        self.logged.append(line)

    @exposed_method("class")
    def words(self, *words: str) -> list[str]:
        return [*words]

    @exposed_method()
    def page(self, first: int = 0, last: int = 9, /, *more: int) -> list[int]:
        return [first, last, *more]

    @exposed_method(deprecated="use echo")
    def options(self, **options: int) -> dict[str, int]:
        return options

    @exposed_method("list")
    def list_all(self, list: list[int], str: str = "x") -> list[int]:
        return list


#: A document that others could have written: draft 7, inline objects, odd names.
OTHERS = {
    "openrpc": "1.2.6",
    "info": {"title": 'Pet\'s "store" """ */ \\', "version": "1\n2"},
    "methods": [
        {
            "name": "get-pet",
            "summary": 'Ends with a "',
            "description": 'import os */ """ \x1b[31m\n\nx\\',
            "params": [
                {"name": "pet id", "required": True, "schema": {"type": "integer"}},
                {
                    "name": "filter",
                    "schema": {
                        "type": "object",
                        "properties": {
                            "a-b": {"type": "string"},
                            "list": {"type": "array", "items": {"type": "string"}},
                            "str": {"type": "array", "items": {"type": "array"}},
                            "class": {"enum": [1, "x", None]},
                        },
                        "required": ["a-b"],
                    },
                },
            ],
            "result": {
                "name": "pet",
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/NewPet"},
                        {"properties": {"id": {"type": "integer"}}, "required": ["id"]},
                    ]
                },
            },
            "errors": [{"code": -32001, "message": "Not found; really?"}],
        },
        {
            "name": "add",
            "paramStructure": "by-position",
            "params": [
                {"name": "a", "required": True, "schema": {"type": "number"}},
                {"name": "b", "schema": {"type": "number"}},
            ],
            "result": {"name": "sum", "schema": {"type": "number"}},
        },
        {"name": "ping", "params": []},
    ],
    "components": {
        "schemas": {
            "NewPet": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "tag": {"type": ["string", "null"]}},
                "required": ["name"],
            },
        }
    },
}

#: Names that mean something in Python or JavaScript, or nothing.
ODD = [
    *("__class__", "__init__", "__proto__", "import", "class", "None", "self", "a-b", "a_b", "a b"),
    *("\n", "", "1", "é", '"', "'", "\\", "*/", "_calls", "_result", "_Any", "str", "list", "int"),
    *(
        "constructor",
        "then",
        "prototype",
        "Client",
        "RpcError",
        "Array",
        "async",
        "print",
        "a" * 500,
    ),
    *("default", "__enter__", "mro", "name", "value", "\u2028", "\U0001f600", "${x}", "`", "/"),
    *("os.system('x')", "..", "a..b", ".a", "params", "message", "code", "data", "_msgspec", "f"),
]


def odd_document() -> dict[str, Any]:
    names = [*dict.fromkeys(name for name in ODD if name)]
    schemas = {
        name: {
            "type": "object",
            "title": name,
            "description": name,
            "properties": {each: {"type": "string", "description": each} for each in ODD},
            "required": ODD[:5],
        }
        for name in ODD
    }
    enums = {f"e{n}": {"enum": names[n:]} for n in range(3)}
    methods = [
        {
            "name": name,
            "summary": name,
            "description": f"{name}\n{name}",
            "params": [
                {
                    "name": each,
                    "schema": {"type": "integer", "default": each},
                    "description": each,
                }
                for each in names
            ],
            "result": {"name": name, "schema": {"$ref": f"#/components/schemas/e{at % 3}"}},
            "errors": [{"code": at, "message": name}],
        }
        for at, name in enumerate(names)
    ]
    return {
        "openrpc": "1.3.2",
        "info": {"title": '"""\nimport os\n"""', "version": "*/ x"},
        "methods": methods,
        "components": {"schemas": schemas | enums},
    }


def contracts() -> dict[str, Callable[[], Contract]]:
    return {
        "shop": lambda: Shop().contract,
        "registry": lambda: ServiceRegistry().contract,
        "others": lambda: from_openrpc(OTHERS),
        "odd": lambda: from_openrpc(odd_document()),
    }


def imported(contract: Contract) -> types.ModuleType:
    """The client module, as if imported from a file."""
    text = python_client(contract, "0.1.0")
    module = types.ModuleType("made_client")
    sys.modules["made_client"] = module  # msgspec looks there for names
    exec(compile(text, "made_client.py", "exec", dont_inherit=True), vars(module))
    return module


@pytest.fixture
def shop() -> Iterator[Shop]:
    with running_service(Shop) as service:
        yield service


def test_types_travel_there_and_back(shop: Shop) -> None:
    made = imported(shop.contract)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    with made.Client(shop.url) as client:
        for pet in (made.Cat(lives=3), made.Dog(name="Rex")):
            thing = made.Everything(
                at=datetime.datetime(2026, 11, 29, 12, tzinfo=zone),
                day=datetime.date(2026, 11, 29),
                price=decimal.Decimal("12.30"),
                id=uuid.UUID(int=7),
                raw=b"\x00\xff",
                size=made.Size.X_L,
                level=made.Level.VALUE_MINUS_2,
                pet=pet,
                node=made.Node(value=1, next=made.Node(value=2)),
                pair=(1, "x"),
                by_name={"a": [1]},
                choice=None,
            )
            assert client.echo(thing) == client.echo(thing=thing) == thing
    assert (thing.count, thing.fallback, thing.least) == (3, made.Size.X_L, made.Level.VALUE_1)
    assert (thing.more, thing.rest) == ([], {})
    with pytest.raises(AttributeError):
        thing.count = 4


def test_methods_of_all_kinds(shop: Shop) -> None:
    client = imported(shop.contract).Client(shop.url)
    assert client.users() == {"ada": 1}
    assert client.users.find(7) == client.users.find(id=7) == [7, False, None]
    assert client.users.find(7, deep=True, since=datetime.date(2026, 1, 2)) == [
        7,
        True,
        "2026-01-02",
    ]
    assert client.users.admins.list() == (0, 1)
    assert client.users.admins.list(5, 6) == (5, 6)
    assert client.class_("a", "b") == ["a", "b"]
    assert client.options(a=1, b=2) == {"a": 1, "b": 2}
    assert client.list([1, 2]) == [1, 2]
    assert client.log("x") is None
    assert shop.logged == ["x"]
    with pytest.raises(TypeError):
        client.users.find(7, True)


def test_errors_are_classes(shop: Shop) -> None:
    made = imported(shop.contract)
    client = made.Client(RemoteService(shop.url))
    assert client.buy("gem") is None
    with pytest.raises(made.OutOfStock) as caught:
        client.buy("nothing")
    assert caught.value.data == made.Node(value=1, next=made.Node(value=2))
    assert isinstance(caught.value, RemoteError)
    with pytest.raises(made.Closed):
        client.buy("closed")


def test_a_client_sends_what_it_was_told() -> None:
    fake = FakeRemoteService({"get-pet": {"name": "Rex", "id": 7}, "add": 3, "ping": None})
    made = imported(from_openrpc(OTHERS))
    client = made.Client(fake)
    pet = client.get_pet(7, made.GetPetFilter(a_b="x", list=["y"]))
    assert (pet.id, pet.name) == (7, "Rex")
    client.get_pet(7)
    client.add(1)
    client.add(1, 2)
    client.ping()
    assert [call.params for call in fake.calls] == [
        {"pet id": 7, "filter": {"a-b": "x", "list": ["y"]}},
        {"pet id": 7},
        [1],
        [1, 2],
        None,
    ]
    assert type(fake.calls[-1]) is Notification
    fake.answer("add", "three")
    with pytest.raises(BadResponse, match="the result of add does not fit"):
        client.add(1)
    with pytest.raises(TypeError, match="has its options already"):
        made.Client(fake, timeout=1)


def test_what_follows_a_parameter_that_is_left_out_is_not_dropped(shop: Shop) -> None:
    with imported(shop.contract).Client(shop.url) as client:
        assert client.page(3, UNSET) == [3, 9]
        with pytest.raises(TypeError, match="nothing can follow a parameter that is left out"):
            client.page(3, UNSET, 7)


@pytest.mark.parametrize("write", [python_client, typescript_client])
@pytest.mark.parametrize("name", contracts())
def test_the_same_contract_gives_the_same_text(name: str, write: Any) -> None:
    contract = contracts()[name]()
    text = write(contract, "0.1.0")
    assert write(contracts()[name](), "0.1.0") == text
    if name != "odd":  # of its document too
        document = json.loads(encode_json(to_openrpc(contract)))
        assert write(from_openrpc(document), "0.1.0") == text
    assert "Generator: gemstone_sync 0.2.0" in write(contract, "0.2.0")
    assert "\x1b" not in text
    assert "\u2028" not in text


def test_nothing_of_a_document_is_run() -> None:
    made = imported(from_openrpc(odd_document()))
    assert "os" not in vars(made)
    client = made.Client(FakeRemoteService())
    assert client.import_ is not None
    fake = FakeRemoteService({"__class__": 7})
    client = made.Client(fake)
    with pytest.raises(BadResponse):
        client.class_()


@pytest.mark.parametrize("between", ["", "\0", "\u2028", "\u202e", "\x7f", "\ufeff"])
def test_a_comment_in_typescript_stays_one(between: str) -> None:
    text = f"*{between}/ run(me);"
    parameter = {"name": "a", "description": text, "schema": {"default": text}}
    document = {
        "openrpc": "1.3.2",
        "info": {"title": text, "version": text},
        "methods": [
            {"name": "f", "summary": text, "description": f"\n{text}", "params": [parameter]},
            {"name": "a.b", "params": [], "errors": [{"code": 1, "message": text}]},
        ],
        "components": {
            "schemas": {"X": {"description": text, "properties": {"x": {"description": text}}}}
        },
    }

    written = typescript_client(from_openrpc(document), "0.1.0")

    assert "run(me)" in written
    assert "run(me)" not in re.sub(r"/\*.*?\*/", "", written, flags=re.DOTALL)


@settings(max_examples=300)
@given(st.text(st.sampled_from("\"\\\n a'\0")))
def test_a_docstring_holds_what_the_document_says(text: str) -> None:
    program = "\n".join(["def f():", *docstring(text, "    ")])

    (function,) = ast.parse(program).body
    assert isinstance(function, ast.FunctionDef)
    assert len(function.body) == 1
    told = ast.get_docstring(function, clean=False) or ""
    assert "".join(told.split()) == "".join(text.replace("\0", "").split())


def test_integers_beyond_64_bits_are_no_enum() -> None:
    big, choice = {"enum": [1 << 70, 1]}, {"enum": [-1 << 64, "a", None]}
    document = {
        "openrpc": "1.3.2",
        "info": {},
        "methods": [
            {
                "name": "f",
                "params": [],
                "result": {
                    "name": "r",
                    "schema": {
                        "type": "object",
                        "properties": {
                            "big": {"$ref": "#/components/schemas/Big"},
                            "choice": choice,
                        },
                    },
                },
            }
        ],
        "components": {"schemas": {"Big": big}},
    }
    made = imported(from_openrpc(document))

    found = made.Client(FakeRemoteService({"f": {"big": 1 << 70, "choice": "a"}})).f()

    assert (found.big, found.choice) == (1 << 70, "a")


def test_unions_that_nothing_tells_apart_are_anything() -> None:
    options = [{"type": "object", "properties": {n: {"type": "integer"}}} for n in "ab"]
    shapes: list[Any] = [
        {"anyOf": options},
        {"anyOf": [options[0], {"type": "object"}]},
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "uuid"}]},
        {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "array"}]},
        {"enum": [True, 1, "x", None, 1.5]},
        {"enum": [True, None]},
        {"anyOf": [{"enum": [1, "a"]}, {"type": "string"}]},
        {"type": ["string", "integer", "null"]},
        {"not": {}},
        {"$ref": "#/components/schemas/Loop"},
        {"$ref": "#/components/schemas/Mutual1"},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        {"oneOf": [{"$ref": "#/components/schemas/T1"}, {"$ref": "#/components/schemas/T2"}]},
        {"anyOf": [{"$ref": "#/components/schemas/T1"}, {"$ref": "#/components/schemas/T3"}]},
    ]
    values: list[Any] = [{"a": 1}, {"c": 1}, "2026-01-01", [1], "x", True, "b", 1, None]
    values += [[[]], [[]], [1, "a"], {"kind": "two", "y": 1}, {"kind": "one"}]

    def ref(name: str) -> dict[str, str]:
        return {"$ref": f"#/components/schemas/{name}"}

    def tagged(kind: str, field: str) -> dict[str, Any]:
        properties = {"kind": {"const": kind}, field: {"type": "integer"}}
        return {"type": "object", "properties": properties, "required": ["kind"]}

    schemas = {
        "Loop": {"type": "array", "items": ref("Loop")},
        "Mutual1": {"anyOf": [{"type": "integer"}, {"type": "array", "items": ref("Mutual2")}]},
        "Mutual2": {"anyOf": [{"type": "string"}, ref("Mutual1")]},
        "T1": tagged("one", "x"),
        "T2": tagged("two", "y"),
        "T3": {"type": "object", "properties": {"other": {"const": "one"}}},
    }
    methods = [
        {"name": f"m{n}", "params": [], "result": {"name": "r", "schema": schema}}
        for n, schema in enumerate(shapes)
    ]
    document = {
        "openrpc": "1.3.2",
        "info": {},
        "methods": methods,
        "components": {"schemas": schemas},
    }
    made = imported(from_openrpc(document))
    client = made.Client(FakeRemoteService({f"m{n}": value for n, value in enumerate(values)}))
    for n in range(len(shapes)):
        getattr(client, f"m{n}")()
    assert client.m12() == made.T2(y=1)


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def doubling(keyword: str) -> dict[str, Any]:
    """Schemas of which each refers to the next two: 2^40 ways from the first to the last."""
    made: dict[str, Any] = {
        f"{name}{n}": {keyword: [ref(f"A{n + 1}"), ref(f"B{n + 1}")]}
        for n in range(40)
        for name in "AB"
    }
    last = {"properties": {"x": {"type": "integer"}}}
    return {"A": ref("A0"), **made, "A40": last, "B40": last}


@pytest.mark.parametrize(
    "schemas",
    [
        {"A": {"allOf": [{"$ref": "#/components/schemas/A"}]}},
        {"A": {"allOf": [{"$ref": "#/components/schemas/A"}, {"type": "object"}]}},
        {"A": {"$ref": "#/components/schemas/A"}},
        {"A": {"anyOf": [{"$ref": "#/components/schemas/A"}]}},
        {"A": {"enum": 7}},
        {"A": {"type": "object", "properties": 7, "required": 7}},
        {"A": {"type": {"x": 1}}},
        {"A": {"items": {"items": {"items": {"prefixItems": 7}}}}},
        {"A": {"anyOf": [ref("Z"), {"type": "null"}]}, "Z": {"anyOf": [ref("A"), ref("Y")]}},
        doubling("anyOf"),
        doubling("oneOf"),
        doubling("allOf"),
    ],
    ids=lambda schemas: repr(schemas)[:60],
)
def test_hostile_schemas_have_an_answer(schemas: Any) -> None:
    result = {"name": "r", "schema": {"$ref": "#/components/schemas/A"}}
    document = {
        "openrpc": "1.3.2",
        "methods": [{"name": "f", "params": [], "result": result}],
        "components": {"schemas": schemas},
    }
    document["components"]["schemas"].setdefault("Y", {"type": "string"})
    contract = from_openrpc(document)
    with contextlib.suppress(BadDocument):
        imported(contract)
        typescript_client(contract, "0.1.0")
    with contextlib.suppress(BadDocument):
        differences(contract, contract, methods=True, events=False)


@pytest.mark.slow  # so many are seconds of work
def test_many_methods_take_seconds() -> None:
    """20,000 in at most 15 s; the machine may be slow and busy."""
    methods = [
        {
            "name": f"group{n % 50}.method{n}",
            "params": [{"name": "a", "schema": {"type": "integer"}}],
            "result": {"name": "r", "schema": {"$ref": "#/components/schemas/A"}},
        }
        for n in range(20_000)
    ]
    schemas = {"A": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    document = {"openrpc": "1.3.2", "methods": methods, "components": {"schemas": schemas}}
    contract = from_openrpc(document)
    for write in (python_client, typescript_client):
        assert write(contract, "0.1.0").count("method19999") >= 2


# By checkers of types

CALLS = """
import datetime
from shop_client import Cat, Client, Everything, Node, OutOfStock

client = Client("http://127.0.0.1:5000/api", timeout=3)
found: list[object] = client.users.find(7, deep=True)
users: dict[str, int] = client.users()
pair: tuple[int, int] = client.users.admins.list(1)
words: list[str] = client.class_("a", "b")


def echoed(thing: Everything) -> datetime.datetime:
    try:
        return client.echo(thing=thing).at
    except OutOfStock as error:
        return echoed(thing) if error.data.value else thing.at


client.users.find("7")  # error: no int
client.users.find(7, True)  # error: by name only
client.buy("other")  # error: no choice
client.ech()  # error: a typo
Node(value=1).value = 2  # error: frozen
Cat(lives="x")  # error: no int
"""


@pytest.mark.slow  # each checker reads the whole package
@pytest.mark.timeout(600)
@pytest.mark.parametrize("errors_of", [errors_of_mypy, errors_of_pyright], ids=["mypy", "pyright"])
def test_checkers_pass_what_was_written(errors_of: Any, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, contract in contracts().items():
        (folder / f"{name}_client.py").write_text(python_client(contract(), "0.1.0"))
    (folder / "calls.py").write_text(CALLS)
    lines = [n for n, line in enumerate(CALLS.splitlines(), 1) if "# error: " in line]
    assert sorted(errors_of(folder)) == [("calls.py", line) for line in lines]


TS_CALLS = """
import { Client, Everything, OutOfStock, RpcError } from "./shop";

async function main(url: string): Promise<void> {
  const client = new Client(url, { headers: { "X-A": "b" } });
  const found: Array<unknown> = await client.users.find({ id: 7, deep: true });
  const users: Record<string, number> = await client.users();
  const pair: [number, number] = await client.users.admins.list({ first: 5 });
  const none: [number, number] = await client.users.admins.list();
  await client.log({ line: "from TypeScript" });
  let left = 0;
  const page = [await client.page({ first: 3 }), await client.page({ first: 3, last: 5 })];
  try {
    page.push(await client.page({ first: 3, rest: [7] }));
  } catch (error) {
    left += error instanceof TypeError ? 1000 : 0;
  }
  try {
    await client.buy({ what: "nothing" });
  } catch (error) {
    if (error instanceof OutOfStock && error instanceof RpcError) {
      left += error.data.value + error.code;
    }
  }
  const thing: Everything = {
    at: "2026-11-29T12:00:00Z", day: "2026-11-29", price: "12.30", raw: "AP8=", size: "x-l",
    id: "00000000-0000-0000-0000-000000000007", level: -2, pet: { type: "Dog", name: "Rex" },
    node: { value: 1, next: null }, pair: [1, "x"], by_name: { a: [1] }, choice: null,
  };
  const back = await client.echo({ thing });
  // @ts-expect-error no such method
  client.ech;
  // @ts-expect-error no number
  const wrong = () => client.users.find({ id: "7" });
  const words: Array<string> = await client.class({ rest: ["a"] });
  console.log(JSON.stringify([found, users, pair, none, left, back.price, back.pet, words, page]));
}

main(process_argv());
declare function process_argv(): string;
"""


def compile_typescript(modules: Path, folder: Path) -> None:
    """Compile the files of a folder into ``js`` in it, as strictly as can be."""
    options = ["--strict", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom"]
    tsc = ["node", str(modules / "typescript/bin/tsc"), *options, "--outDir", "js"]
    sources = [path.name for path in sorted(folder.glob("*.ts"))]
    done = subprocess.run([*tsc, *sources], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[:3000]


@pytest.mark.slow  # npm fetches the compiler once
@pytest.mark.timeout(900)
def test_tsc_passes_what_was_written_and_node_calls_it(shop: Shop, tmp_path: Path) -> None:
    modules = node_modules({"typescript": "5.6.3"}) / "node_modules"
    for name, contract in contracts().items():
        (tmp_path / f"{name}.ts").write_text(typescript_client(contract(), "0.1.0"))
    (tmp_path / "calls.ts").write_text(TS_CALLS)
    compile_typescript(modules, tmp_path)
    program = f"globalThis.process_argv = () => {json.dumps(shop.url)}; require('./js/calls.js')"
    ran = _run_beside(["node", "-e", program], tmp_path)
    assert json.loads(ran) == [
        [7, True, None],
        {"ada": 1},
        [5, 1],
        [0, 1],
        2002,
        "12.30",
        {"type": "Dog", "name": "Rex"},
        ["a"],
        [[3, 9], [3, 5]],
    ]
    assert shop.logged == ["from TypeScript"]


@pytest.mark.slow  # npm fetches the compiler and the documents once
@pytest.mark.timeout(900)
def test_documents_of_others_become_clients(tmp_path: Path) -> None:
    modules = node_modules({"typescript": "5.6.3", "@open-rpc/examples": "1.7.2"}) / "node_modules"
    documents = sorted((modules / "@open-rpc/examples/build/service-descriptions").glob("*.json"))
    assert len(documents) == 6
    programs = tmp_path / "programs"
    programs.mkdir()
    for path in documents:
        contract = from_openrpc(json.loads(path.read_text()))
        imported(contract).Client(FakeRemoteService())
        assert differences(contract, contract, methods=True, events=False) == []
        name = path.stem.replace("-", "_")
        (programs / f"{name}.py").write_text(python_client(contract, "0.1.0"))
        (tmp_path / f"{name}.ts").write_text(typescript_client(contract, "0.1.0"))

    assert errors_of_mypy(programs) == set()
    compile_typescript(modules, tmp_path)


def _run_beside(command: list[str], folder: Path) -> str:
    """Run a program that calls a service of this process."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
