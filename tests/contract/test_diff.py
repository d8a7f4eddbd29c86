"""``gemstone diff``: each verdict beside what really happens to who was there before.

The old client, typed as the old service's class, is run against the new service; old handlers are
given what the new service emits, new handlers what old emitters sent.
"""

import dataclasses
import datetime
import enum
import functools
import json
import uuid
from typing import Annotated, Any, Literal, NamedTuple  # noqa: F401

import msgspec
import pytest
from typing_extensions import NotRequired, TypedDict  # noqa: F401  # the pairs use them

from gemstone_sync import MicroService, RemoteService, RpcError, errors, event_handler
from gemstone_sync import exposed_method as exposed
from gemstone_sync.client import HttpReply, HttpRequest
from gemstone_sync.contract.diff import RULES, Change, differences
from gemstone_sync.contract.hints import Fault, converter_for
from gemstone_sync.contract.model import (
    NOTHING,  # noqa: F401
    Contract,
    Event,
    Method,
    Parameter,
)
from gemstone_sync.contract.openrpc import to_openrpc
from gemstone_sync.contract.openrpc_reader import from_openrpc
from gemstone_sync.contract.reading import BadDocument
from gemstone_sync.protocol import decode_json, encode_json
from gemstone_sync.testing import InProcessAdapter


class Old(enum.Enum):
    A = "a"
    B = "b"


class Fewer(enum.Enum):
    A = "a"


class More(enum.Enum):
    A = "a"
    B = "b"
    C = "c"


@dataclasses.dataclass
class User:
    id: int
    name: str = ""


@dataclasses.dataclass
class Person:
    """The same as `User`, under another name."""

    id: int
    name: str = ""


@dataclasses.dataclass
class WithMail:
    id: int
    name: str = ""
    mail: str = ""


@dataclasses.dataclass
class MailWanted:
    id: int
    mail: str
    name: str = ""


@dataclasses.dataclass
class NameWanted:
    id: int
    name: str


@dataclasses.dataclass
class Anonymous:
    id: int


@dataclasses.dataclass
class TextId:
    id: str
    name: str = ""


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    id: int


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    name: str = ""


class Node(msgspec.Struct):
    value: int
    next: "Node | None" = None


class TextNode(msgspec.Struct):
    value: int | str
    next: "TextNode | None" = None


class Gone(RpcError):
    code = 1001
    message = "Gone"


class GoneElsewhere(RpcError):
    code = 1002
    message = "Gone"


class GoneForGood(RpcError):
    code = 1001
    message = "Gone for good"


class GoneWithUser(RpcError):
    code = 1001
    message = "Gone"
    data: User  # type: ignore[assignment]


class GoneWithNobody(RpcError):
    code = 1001
    message = "Gone"
    data: Anonymous  # type: ignore[assignment]


class GoneWithPerson(RpcError):
    code = 1001
    message = "Gone"
    data: WithMail  # type: ignore[assignment]


Small = Annotated[int, msgspec.Meta(le=10)]
Short = Annotated[str, msgspec.Meta(max_length=3)]
Moment = datetime.datetime
DAY = datetime.date(2026, 11, 29)
ID = uuid.UUID(int=7)
MAP = {"a": 1}


class Pair(NamedTuple):
    """Two versions of a method ``f``, in Python.

    :ivar breaks: what the verdict is: ``callers``, or nothing.
    :ivar calls: that the old client makes, as arguments: each worked with the old service.
    """

    old: str
    new: str
    breaks: str = ""
    calls: tuple[str, ...] = ("",)


#: ``given`` is what a caller gave, by the names of the parameters.
PAIRS: dict[str, Pair] = {
    # the method
    "gone": Pair("def f(self): pass", "def g(self): pass", "callers"),
    "another one is new": Pair(
        "def f(self): pass", "def f(self): pass\n@exposed()\ndef g(self): pass"
    ),
    "renamed": Pair("def f(self): pass", "@exposed('g')\ndef f(self): pass", "callers"),
    "private": Pair("def f(self): pass", "@exposed(private=True)\ndef f(self): pass", "callers"),
    "deprecated": Pair("def f(self): pass", "@exposed(deprecated='use g')\ndef f(self): pass"),
    "another time limit": Pair("def f(self): pass", "@exposed(timeout=7)\ndef f(self): pass"),
    "idempotent": Pair("def f(self): pass", "@exposed(idempotent=True)\ndef f(self): pass"),
    "idempotent no longer": Pair(
        "@exposed(idempotent=True)\ndef f(self): pass", "def f(self): pass", "callers"
    ),
    # which parameters there are
    "a parameter is gone": Pair(
        "def f(self, a: int, b: int = 0): given", "def f(self, a: int): given", "callers", ("1, 2",)
    ),
    "an optional parameter is new": Pair(
        "def f(self, a: int): given", "def f(self, a: int, b: int = 0): given", "", ("1", "a=1")
    ),
    "a required parameter is new": Pair(
        "def f(self, a: int): given", "def f(self, a: int, b: int): given", "callers", ("1",)
    ),
    "a parameter is newly required": Pair(
        "def f(self, a: int = 0): given", "def f(self, a: int): given", "callers", ("", "1")
    ),
    "a parameter is required no longer": Pair(
        "def f(self, a: int): given", "def f(self, a: int = 0): given", "", ("1", "a=1")
    ),
    "a parameter is renamed": Pair(
        "def f(self, a: int): given", "def f(self, b: int): given", "callers", ("a=1",)
    ),
    "a positional-only parameter is renamed": Pair(
        "def f(self, a: int, /): given", "def f(self, b: int, /): given", "", ("1",)
    ),
    "parameters of one type changed places": Pair(
        "def f(self, a: int, b: int): given",
        "def f(self, b: int, a: int): given",
        "callers",
        ("1, 2",),
    ),
    "positional-only parameters changed places": Pair(
        "def f(self, a: int, b: int, /): given",
        "def f(self, b: int, a: int, /): given",
        "callers",
        ("1, 2",),
    ),
    "an optional parameter is new in the middle": Pair(
        "def f(self, a: int, b: int = 0): given",
        "def f(self, a: int, c: int = 0, b: int = 0): given",
        "callers",
        ("1, 2",),
    ),
    "parameters by name changed places": Pair(
        "def f(self, *, a: int, b: int): given",
        "def f(self, *, b: int, a: int): given",
        "",
        ("a=1, b=2",),
    ),
    "a parameter by name is new": Pair(
        "def f(self, a: int): given", "def f(self, a: int, *, b: int = 0): given", "", ("1", "a=1")
    ),
    "by name only": Pair(
        "def f(self, a: int): given", "def f(self, *, a: int): given", "callers", ("1",)
    ),
    "by position only": Pair(
        "def f(self, a: int): given", "def f(self, a: int, /): given", "callers", ("a=1",)
    ),
    "by position only no longer": Pair(
        "def f(self, a: int, /): given", "def f(self, a: int): given", "", ("1",)
    ),
    "by name only no longer": Pair(
        "def f(self, *, a: int): given", "def f(self, a: int): given", "", ("a=1",)
    ),
    "another default": Pair(
        "def f(self, a: int, b: int = 0): given",
        "def f(self, a: int, b: int = 1): given",
        "",
        ("1, 2",),
    ),
    "no more arguments": Pair(
        "def f(self, *rest: int): given", "def f(self): given", "callers", ("1, 2",)
    ),
    "more arguments": Pair(
        "def f(self, a: int): given", "def f(self, a: int, *rest: int): given", "", ("1",)
    ),
    "no more names": Pair(
        "def f(self, **rest: int): given",
        "def f(self, a: int = 0): given",
        "callers",
        ("x=1",),
    ),
    "other arguments": Pair(
        "def f(self, *rest: int): given", "def f(self, *rest: str): given", "callers", ("1, 2",)
    ),
    "a parameter is one of more arguments now": Pair(
        "def f(self, a: int, /): given", "def f(self, *rest: int): given", "", ("1",)
    ),
    "a new parameter takes what more arguments took": Pair(
        "def f(self, *rest: int): given",
        "def f(self, a: str = '', *rest: int): given",
        "callers",
        ("1, 2",),
    ),
    # what parameters may be
    "a parameter is narrowed": Pair(
        "def f(self, a: int | None): given",
        "def f(self, a: int): given",
        "callers",
        ("1", "None"),
    ),
    "a parameter is widened": Pair(
        "def f(self, a: int): given", "def f(self, a: int | str | None): given", "", ("1",)
    ),
    "an int is a float": Pair(
        "def f(self, a: int): given", "def f(self, a: float): given", "", ("1",)
    ),
    "a float is an int": Pair(
        "def f(self, a: float): given", "def f(self, a: int): given", "callers", ("1.5",)
    ),
    "a hint is new": Pair(
        "def f(self, a): given", "def f(self, a: int): given", "callers", ("'x'",)
    ),
    "a hint is gone": Pair("def f(self, a: int): given", "def f(self, a): given", "", ("1",)),
    "a bound is new": Pair(
        "def f(self, a: int): given", "def f(self, a: Small): given", "callers", ("11",)
    ),
    "a bound is gone": Pair(
        "def f(self, a: Short): given", "def f(self, a: str): given", "", ("'x'",)
    ),
    "a length is new": Pair(
        "def f(self, a: str): given", "def f(self, a: Short): given", "callers", ("'long'",)
    ),
    "one choice less": Pair(
        "def f(self, a: Old): given", "def f(self, a: Fewer): given", "callers", ("Old.A", "Old.B")
    ),
    "one choice more": Pair(
        "def f(self, a: Old): given", "def f(self, a: More): given", "", ("Old.A", "Old.B")
    ),
    "a text is one of few": Pair(
        "def f(self, a: str): given",
        "def f(self, a: Literal['a', 'b']): given",
        "callers",
        ("'x'",),
    ),
    "a text is a date": Pair(
        "def f(self, a: str): given", "def f(self, a: datetime.date): given", "callers", ("'x'",)
    ),
    "a date is a text": Pair(
        "def f(self, a: datetime.date): given", "def f(self, a: str): given", "", ("DAY",)
    ),
    "a UUID is a text": Pair(
        "def f(self, a: uuid.UUID): given", "def f(self, a: str): given", "", ("ID",)
    ),
    "items are narrowed": Pair(
        "def f(self, a: list[int | str]): given",
        "def f(self, a: list[int]): given",
        "callers",
        ("['x']",),
    ),
    "values of a dict are narrowed": Pair(
        "def f(self, a: dict[str, int | None]): given",
        "def f(self, a: dict[str, int]): given",
        "callers",
        ("{'x': None}",),
    ),
    "a field is newly required": Pair(
        "def f(self, a: User): given", "def f(self, a: MailWanted): given", "callers", ("User(1)",)
    ),
    "an optional field is new": Pair(
        "def f(self, a: User): given", "def f(self, a: WithMail): given", "", ("User(1)",)
    ),
    "a field of what is sent is of another type": Pair(
        "def f(self, a: User): given", "def f(self, a: TextId): given", "callers", ("User(1)",)
    ),
    "a field of what is sent is not looked at any more": Pair(
        "def f(self, a: User): pass", "def f(self, a: Anonymous): pass", "", ("User(1)",)
    ),
    "a field of what is sent is refused": Pair(
        "def f(self, a: User): given", "def f(self, a: Strict): given", "callers", ("User(1)",)
    ),
    "a type has another name": Pair(
        "def f(self, a: User): given", "def f(self, a: Person): given", "", ("User(1)",)
    ),
    "one of a union is gone": Pair(
        "def f(self, a: Cat | Dog): given", "def f(self, a: Cat): given", "callers", ("Dog()",)
    ),
    "one of a union is new": Pair(
        "def f(self, a: Cat): given", "def f(self, a: Cat | Dog): given", "callers", ("Cat()",)
    ),
    "a type that holds itself is widened": Pair(
        "def f(self, a: Node): given", "def f(self, a: TextNode): given", "", ("Node(1, Node(2))",)
    ),
    "a type that holds itself is narrowed": Pair(
        "def f(self, a: TextNode): given",
        "def f(self, a: Node): given",
        "callers",
        ("TextNode(1, TextNode('x'))",),
    ),
    # results
    "a result is widened": Pair(
        "def f(self) -> int: return 1", "def f(self) -> int | None: return None", "callers"
    ),
    "a result is narrowed": Pair(
        "def f(self) -> int | None: return None", "def f(self) -> int: return 1"
    ),
    "a result is of another type": Pair(
        "def f(self) -> int: return 1", "def f(self) -> str: return 'x'", "callers"
    ),
    "an int comes as a float": Pair(
        "def f(self) -> int: return 1", "def f(self) -> float: return 1.5", "callers"
    ),
    "a float comes as an int": Pair(
        "def f(self) -> float: return 1.5", "def f(self) -> int: return 1"
    ),
    "a field of a result is gone": Pair(
        "def f(self) -> NameWanted: return NameWanted(1, 'x')",
        "def f(self) -> Anonymous: return Anonymous(1)",
        "callers",
    ),
    "a field of a result is new": Pair(
        "def f(self) -> Anonymous: return Anonymous(1)", "def f(self) -> User: return User(1)"
    ),
    "a field of a result is of another type": Pair(
        "def f(self) -> User: return User(1)",
        "def f(self) -> TextId: return TextId('x')",
        "callers",
    ),
    "a field of a result may be missing": Pair(
        "def f(self) -> NameWanted: return NameWanted(1, '')",
        "def f(self) -> TypedDict('T', {'id': int, 'name': NotRequired[str]}): return {'id': 1}",
        "callers",
    ),
    "a choice of a result is new": Pair(
        "def f(self) -> Old: return Old.A", "def f(self) -> More: return More.C", "callers"
    ),
    "a choice of a result is gone": Pair(
        "def f(self) -> Old: return Old.A", "def f(self) -> Fewer: return Fewer.A"
    ),
    "a bound of a result is gone": Pair(
        "def f(self) -> Small: return 1", "def f(self) -> int: return 11", "callers"
    ),
    "a bound of a result is new": Pair(
        "def f(self) -> int: return 11", "def f(self) -> Small: return 1"
    ),
    "items of a result are widened": Pair(
        "def f(self) -> list[int]: return [1]",
        "def f(self) -> list[int | str]: return ['x']",
        "callers",
    ),
    "a result that holds itself is widened": Pair(
        "def f(self) -> Node: return Node(1)",
        "def f(self) -> TextNode: return TextNode(1, TextNode('x'))",
        "callers",
    ),
    "a hint of a result is gone": Pair(
        "def f(self) -> int: return 1", "def f(self): return 'x'", "callers"
    ),
    "a hint of a result is new": Pair("def f(self): return 'x'", "def f(self) -> int: return 1"),
    "a date comes as a text": Pair(
        "def f(self) -> datetime.date: return DAY", "def f(self) -> str: return 'x'", "callers"
    ),
    "no result": Pair(
        "def f(self) -> int: return 1", "@exposed(result=NOTHING)\ndef f(self): pass", "callers"
    ),
    # errors
    "an error is added": Pair(
        "def f(self): pass", "@exposed(errors=[Gone])\ndef f(self): raise Gone()", "callers"
    ),
    "an error is gone": Pair("@exposed(errors=[Gone])\ndef f(self): pass", "def f(self): pass"),
    "an error has another code": Pair(
        "@exposed(errors=[Gone])\ndef f(self): pass",
        "@exposed(errors=[GoneElsewhere])\ndef f(self): raise GoneElsewhere()",
        "callers",
    ),
    "an error has another message": Pair(
        "@exposed(errors=[Gone])\ndef f(self): pass",
        "@exposed(errors=[GoneForGood])\ndef f(self): raise GoneForGood()",
    ),
    "the data of an error lacks a field": Pair(
        "@exposed(errors=[GoneWithPerson])\ndef f(self): pass",
        "@exposed(errors=[GoneWithNobody])\ndef f(self): raise GoneWithNobody(data={})",
        "callers",
    ),
    "the data of an error is anything": Pair(
        "@exposed(errors=[GoneWithUser])\ndef f(self): pass",
        "@exposed(errors=[Gone])\ndef f(self): raise Gone(data='x')",
        "callers",
    ),
    "the data of an error is known": Pair(
        "@exposed(errors=[Gone])\ndef f(self): pass",
        "@exposed(errors=[GoneWithUser])\ndef f(self): raise GoneWithUser(data={'id': 1})",
    ),
    "the data of an error has one field more": Pair(
        "@exposed(errors=[GoneWithUser])\ndef f(self): pass",
        "@exposed(errors=[GoneWithPerson])\ndef f(self): raise GoneWithPerson(data={'id': 1})",
    ),
}


def made(text: str, name: str) -> type[MicroService]:
    """A service with the methods of a text; ``given`` in one returns its arguments by name."""
    lines = text if text.startswith("@") else f"@exposed()\n{text}"
    lines = lines.replace(": given", ": return {k: v for k, v in locals().items() if k != 'self'}")
    body = "\n".join(f"    {line}" for line in lines.splitlines())
    members: dict[str, Any] = {}
    source = f"class Service(MicroService):\n    name = {name!r}\n{body}\n"
    exec(source, globals(), members)
    service: type[MicroService] = members["Service"]
    return service


@functools.cache
def contract_by(text: str) -> Contract:
    return made(text, "shop")().contract


def outcome(api: Any, call: str) -> Any:
    """What a call comes to: a value, or an exception that its caller does not expect."""
    return eval(f"api.f({call})", globals(), {"api": api})


class LosesFirst(InProcessAdapter):
    """The connection breaks when the service has answered, the first time."""

    count = 0

    def send(self, request: HttpRequest) -> HttpReply:
        reply = super().send(request)
        self.count += 1
        if self.count == 1:
            raise errors.ConnectionLost("lost")
        return reply


def really_breaks(old: type[MicroService], new: type[MicroService], pair: Pair) -> bool:
    """Tell whether something is not as it was for a caller that knows the old service only."""
    before = RemoteService("http://old/api", adapter=InProcessAdapter(old())).typed(old)
    adapter = InProcessAdapter(new())
    after = RemoteService("http://new/api", adapter=adapter).typed(old)
    declared = _declared(old)
    for call in pair.calls:
        expected = outcome(before, call)
        try:
            found = outcome(after, call)
        except errors.TransportError:
            return True
        except RpcError as error:
            if not isinstance(error, declared):
                return True
            continue
        if isinstance(expected, dict) and isinstance(found, dict):
            both = expected.keys() & found.keys()
            if any(expected[name] != found[name] for name in both):
                return True
    return False


def _declared(service: type[MicroService]) -> tuple[type[RpcError], ...]:
    marks: Any = service.f  # type: ignore[attr-defined]
    found: tuple[type[RpcError], ...] = marks.__gemstone_marks__.told.errors
    return found


def breaking(changes: list[Change]) -> set[str]:
    return {party for change in changes for party in change.breaks}


#: Verdicts that a call or two cannot show: what is promised counts, not what is done today.
UNSEEN = {
    "idempotent no longer",
    "one of a union is new",  # msgspec wants the tag then, and a lone Cat has it too
    "no result",
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_verdict_is_what_happens(name: str) -> None:
    pair = PAIRS[name]
    old, new = made(pair.old, "shop"), made(pair.new, "shop")
    contracts = contract_by(pair.old), contract_by(pair.new)
    changes = differences(*contracts, methods=True, events=True)
    changes = [change for change in changes if change.where in ("f", "g")]
    assert breaking(changes) == set(filter(None, [pair.breaks])), changes
    assert changes or name in ("a type has another name", "parameters by name changed places")
    for change in changes:
        assert "\n" not in change.what
    if name not in UNSEEN:
        assert really_breaks(old, new, pair) is bool(pair.breaks), changes
    # The same by the documents that both publish.
    documents = [json.loads(encode_json(to_openrpc(contract))) for contract in contracts]
    by_documents = differences(*map(from_openrpc, documents), methods=True, events=False)
    assert [c for c in by_documents if c.where in ("f", "g")] == changes


def test_a_call_that_is_idempotent_no_longer_may_run_twice() -> None:
    old = made("@exposed(idempotent=True)\ndef f(self): pass", "shop")
    new = made("def f(self): self.count = getattr(self, 'count', 0) + 1", "shop")()
    RemoteService("http://new/api", adapter=LosesFirst(new)).typed(old).f()  # type: ignore[attr-defined]
    assert new.count == 2  # type: ignore[attr-defined]


# Events


class EventPair(NamedTuple):
    """Two versions of a type, and a body of the side that has not changed or has."""

    old: Any
    new: Any
    body: Any
    breaks: bool


#: What is emitted: `body` is one of the new type.
EMITTED = {
    "a field is gone": EventPair(NameWanted, Anonymous, Anonymous(1), True),
    "a field is new": EventPair(User, WithMail, WithMail(1), False),
    "a field is of another type": EventPair(User, TextId, TextId("x"), True),
    "it may be null": EventPair(User, User | None, None, True),
    "it is never null": EventPair(User | None, User, User(1), False),
    "one choice more": EventPair(Old, More, More.C, True),
    "one choice less": EventPair(Old, Fewer, Fewer.A, False),
    "anything": EventPair(User, Any, "x", True),
    "nothing was said": EventPair(Any, User, User(1), False),
}
#: What is handled: `body` is one of the old type.
HANDLED = {
    "a field is newly required": EventPair(User, MailWanted, User(1), True),
    "a field is not looked at any more": EventPair(User, Anonymous, User(1), False),
    "an optional field is new": EventPair(User, WithMail, User(1), False),
    "a field is of another type": EventPair(User, TextId, User(1), True),
    "it must not be null": EventPair(User | None, User, None, True),
    "it may be null": EventPair(User, User | None, User(1), False),
    "one choice less": EventPair(Old, Fewer, Old.B, True),
    "anything": EventPair(User, Any, User(1), False),
}
EVENTS = {
    f"{way}: {name}": (way, pair)
    for way, pairs in (("emitted", EMITTED), ("handled", HANDLED))
    for name, pair in pairs.items()
}


def with_event(way: str, body: Any) -> Contract:
    class Service(MicroService):
        name = "shop"

    if way == "emitted":
        Service.emits = {"shop.sold": body}
    else:

        def handle(self: Any, event: Any) -> None: ...

        handle.__annotations__["event"] = body
        Service.handle = event_handler("shop.sold")(handle)  # type: ignore[attr-defined]
    return Service().contract


@pytest.mark.parametrize("name", EVENTS)
def test_the_verdict_of_an_event_is_what_happens(name: str) -> None:
    way, pair = EVENTS[name]
    changes = differences(
        with_event(way, pair.old), with_event(way, pair.new), methods=True, events=True
    )
    party = "handlers" if way == "emitted" else "emitters"
    assert breaking(changes) == ({party} if pair.breaks else set()), changes
    assert {change.where for change in changes} == {"shop.sold"}
    # As a handler takes it: checked against its hint.
    convert = converter_for(pair.old if way == "emitted" else pair.new)
    try:
        convert and convert(decode_json(encode_json(pair.body)))  # type: ignore[truthy-function]
    except Fault:
        assert pair.breaks
    else:
        assert not pair.breaks


def told(changes: list[Change]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(change.where, change.what, change.breaks) for change in changes]


@pytest.mark.parametrize(
    "signature",
    [
        "a, /, b='x', *rest: int, **more: int",
        "a=1, /, b=2, *, c=3",
        "a, *rest: int, b: int, **more: int",
        "a=1, /, *, b: int, c=3",
        "*rest, a=1",
        "a=1, /, *rest, **more",
    ],
)
def test_a_service_and_its_document_do_not_differ(signature: str) -> None:
    contract = contract_by(f"def f(self, {signature}): pass")

    read = from_openrpc(to_openrpc(contract))

    assert differences(contract, read, methods=True, events=False) == []


def test_events_that_come_and_go() -> None:
    def contract(emits: dict[str, bool | None], handles: dict[str, str]) -> Contract:
        return Contract(
            name="shop",
            emits=tuple(Event(name=n, broadcast=b) for n, b in sorted(emits.items())),
            handles=tuple(Event(name=n, scope=s) for n, s in sorted(handles.items())),
        )

    old = contract(
        {"a.old": None, "b.kind": True, "c.same": None},
        {"x.gone": "service", "x.by.star": "service", "x.scope": "service", "#": "service"},
    )
    new = contract(
        {"a.new": None, "b.kind": False, "c.same": True},
        {"x.*.star": "service", "x.scope": "instance", "y.new": "service"},
    )
    assert told(differences(old, new, methods=True, events=True)) == [
        ("a.new", "the event is newly emitted", ()),
        ("a.old", "the event is no longer emitted", ("handlers",)),
        ("b.kind", "the event is emitted as work for one now", ("handlers",)),
        ("#", "the event is no longer handled", ("emitters",)),
        ("x.gone", "the event is no longer handled", ("emitters",)),
        ("x.scope", "the event is handled by every instance now", ()),
        ("x.*.star", "the event is newly handled", ()),
        ("y.new", "the event is newly handled", ()),
    ]
    assert differences(old, new, methods=True, events=False) == []


@pytest.mark.parametrize(
    ("pattern", "name", "covers"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#", "a.*.#", True),
        ("*", "#", False),
        ("a.*", "a.#", False),
        ("#.c", "a.b.c", True),
        ("#.c", "a.b.d", False),
        ("#.#.#.#.#.#.#.#.x", ".".join(["a"] * 200), False),
    ],
)
def test_a_pattern_takes_over(pattern: str, name: str, covers: bool) -> None:
    old = Contract(name="s", handles=(Event(name=name),))
    new = Contract(name="s", handles=(Event(name=pattern),))
    gone = "the event is no longer handled"
    assert any(c.what == gone for c in differences(old, new, methods=True, events=True)) is (
        not covers
    )


def test_what_concerns_the_service_as_a_whole() -> None:
    old = Contract(name="shop", version="1.0.0", servers=("http://a/api",))
    new = Contract(name="shop.two", version="1.1.0", servers=())
    assert told(differences(old, new, methods=True, events=True)) == [
        ("shop", "the service is called 'shop.two' now", ()),
        ("shop.two", "the version is '1.1.0' now", ()),
        ("shop.two", "the addresses changed", ()),
    ]


def test_a_change_says_where_in_a_value() -> None:
    @dataclasses.dataclass
    class Before:
        users: list[dict[str, User]]

    @dataclasses.dataclass
    class After:
        users: list[dict[str, TextId]]

    def contract(cls: type) -> Contract:
        def f(self: Any, a: Any) -> Any: ...

        f.__annotations__.update({"a": cls, "return": cls})
        members = {"name": "shop", "f": exposed("users.f")(f)}
        return type("Service", (MicroService,), members)().contract

    changes = differences(contract(Before), contract(After), methods=True, events=True)
    assert told(changes) == [
        (
            "users.f",
            "parameter 'a' is narrowed: users[].*.id no longer takes integer",
            ("callers",),
        ),
        ("users.f", "the result is widened: users[].*.id may be string now", ("callers",)),
    ]


# Schemas of others


def both_ways(old: Any, new: Any, named: dict[str, Any] | None = None) -> tuple[bool, bool]:
    """Tell whether a change of a parameter's schema breaks its callers, and of a result's."""

    def contract(schema: Any) -> Contract:
        method = Method(name="f", parameters=(Parameter(name="a", schema=schema),), result=schema)
        return Contract(name="s", methods=(method,), schemas=named or {})

    changes = differences(contract(old), contract(new), methods=True, events=False)
    parameter = any(c.breaks for c in changes if c.what.startswith("parameter"))
    return parameter, any(c.breaks for c in changes if c.what.startswith("the result"))


INT, TEXT, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}
ANY_OF = {"anyOf": [INT, NULL]}


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        (INT, INT, (False, False)),
        (INT, {**INT, "title": "A", "description": "b", "x-y": 1, "examples": [1]}, (False, False)),
        ({"type": "boolean", "summary": "a"}, {"type": "boolean", "unit": "b"}, (False, False)),
        ({"oneOf": [{**NULL, "summary": "a"}, INT]}, ANY_OF, (False, False)),
        (ANY_OF, {"type": ["integer", "null"]}, (False, False)),
        ({"oneOf": [INT, NULL]}, ANY_OF, (False, False)),
        (ANY_OF, INT, (True, False)),
        (INT, ANY_OF, (False, True)),
        ({}, INT, (True, False)),
        (INT, {}, (False, True)),
        (
            {"allOf": [INT, {"minimum": 1}]},
            {"type": "integer", "exclusiveMinimum": 0},
            (False, False),
        ),
        (
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "number", "minimum": 0},
            (False, True),
        ),
        ({"type": "integer", "multipleOf": 6}, {"type": "integer", "multipleOf": 3}, (False, True)),
        ({"const": 1}, {"enum": [1, 2]}, (False, True)),
        ({"const": True}, {"const": 1}, (True, True)),
        ({"type": "boolean"}, {"enum": [True, False]}, (False, False)),
        ({"enum": [1, 5]}, {"type": "integer", "maximum": 4}, (True, True)),
        ({"enum": [1, 3]}, {"type": "integer", "maximum": 4}, (False, True)),
        ({"enum": [{"a": 1}]}, {"type": "object", "properties": {"a": INT}}, (False, True)),
        ({"minimum": 1}, {"minimum": 2}, (True, False)),
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}, (True, True)),
        ({"type": "array", "items": INT}, {"type": "array"}, (False, True)),
        (
            {"type": "array", "items": [INT]},
            {"type": "array", "prefixItems": [INT]},
            (False, False),
        ),
        (
            {"type": "array", "prefixItems": [INT], "minItems": 1, "maxItems": 1},
            {"type": "array", "items": INT},
            (False, True),
        ),
        ({"type": "array"}, {"type": "array", "uniqueItems": True}, (True, False)),
        ({"not": INT}, {"not": INT}, (False, False)),
        ({"not": INT}, {"not": TEXT}, (True, True)),
        ({"type": "object"}, {"type": "object", "properties": {"a": INT}}, (True, False)),
        (
            {"type": "object", "properties": {}, "additionalProperties": INT},
            {"type": "object", "properties": {}, "additionalProperties": ANY_OF},
            (False, True),
        ),
        ({"type": "object", "patternProperties": {"^x": INT}}, {"type": "object"}, (False, True)),
        ({"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}, (False, True)),
        (
            {"$ref": "#/components/schemas/A", "maximum": 3},
            {"$ref": "#/components/schemas/A"},
            (False, True),
        ),
        ({"anyOf": [INT, TEXT], "title": "a"}, {"anyOf": [TEXT, INT]}, (False, False)),
        ({"allOf": [INT, TEXT]}, INT, (False, True)),
    ],
)
def test_schemas_in_the_words_of_others(old: Any, new: Any, breaks: tuple[bool, bool]) -> None:
    assert both_ways(old, new, {"A": INT, "B": {"type": "number"}}) == breaks


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = INT
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def tangled(count: int) -> dict[str, Any]:
    """Types that all hold one another."""
    every = {f"p{n}": ref(f"A{n}") for n in range(count)}
    return {
        f"A{n}": {"type": "object", "properties": {**every, "own": {"const": n}}}
        for n in range(count)
    }


@pytest.mark.parametrize(
    ("old", "new", "named", "reason"),
    [
        (ref("A"), INT, {"A": ref("B"), "B": ref("A")}, "refers to nothing but itself"),
        (INT, ref("A"), {"A": {"anyOf": [ref("A"), INT]}}, "holds itself and nothing else"),
        (ref("A"), INT, {"A": {"allOf": [ref("A")]}}, "holds itself and nothing else"),
        (ref("X"), INT, {}, "leads to no schema"),
        ({"$ref": "http://example.com/x.json"}, INT, {}, "leads to no schema"),
        ({"$ref": "file:///etc/passwd"}, INT, {}, "leads to no schema"),
        ({"$ref": 7}, INT, {}, "leads to no schema"),
        (nested(5000), nested(4999), {}, "nested too deeply"),
        (7, INT, {}, "is no JSON Schema"),
        ({"type": "integr"}, INT, {}, "there is no type"),
        ({"type": {}}, INT, {}, "there is no type"),
        ({"anyOf": 7}, INT, {}, "anyOf is no list"),
        ({"enum": 7}, INT, {}, "enum is no list"),
        ({"type": "object", "properties": []}, {"type": "object"}, {}, "properties is no object"),
        ({"type": "object", "required": 3}, {"type": "object"}, {}, "required is no list"),
        (
            {"allOf": [{"anyOf": [{"const": n + 10 * m} for n in range(9)]} for m in range(9)]},
            INT,
            {},
            "too many alternatives",
        ),
    ],
)
def test_hostile_schemas_are_one_line(old: Any, new: Any, named: Any, reason: str) -> None:
    with pytest.raises(BadDocument, match=reason) as caught:
        both_ways(old, new, named)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("'f': ")


def test_types_that_hold_one_another_end() -> None:
    named = tangled(30)
    assert both_ways(ref("A0"), ref("A0"), named) == (False, False)
    assert both_ways(ref("A0"), ref("A1"), named) == (True, True)


@pytest.mark.parametrize("other", ["A", "B"])
def test_types_that_hold_themselves_end_when_both_must_hold(other: str) -> None:
    """What an item must be is merged anew with each level."""

    def holds_itself(name: str, **said: Any) -> dict[str, Any]:
        items = {"type": "array", "items": ref(name)}
        return {"type": "object", "properties": {"items": items, **said}}

    named = {"A": holds_itself("A", a=INT), "B": holds_itself("B", b=INT)}
    once = {"allOf": [ref("A"), ref(other)]}
    twice = {"allOf": [{"type": "array", "items": each} for each in (ref("A"), once)]}
    assert both_ways(once, once, named) == (False, False)
    assert both_ways(twice, twice, named) == (False, False)
    assert both_ways(once, {**once, "maxProperties": 1}, named) == (True, False)


def test_what_was_found_within_another_type_holds_outside_it() -> None:
    """A holds B, and B holds A: that A fits is taken for granted within, and not outside."""

    def named(kind: str) -> dict[str, Any]:
        a = {"type": "object", "properties": {"b": ref("B"), "x": {"type": kind}}}
        return {"A": a, "B": {"type": "object", "properties": {"a": ref("A")}}}

    def contract(kind: str) -> Contract:
        methods = (Method(name="a", result=ref("A")), Method(name="b", result=ref("B")))
        return Contract(name="s", methods=methods, schemas=named(kind))

    changes = differences(contract("integer"), contract("string"), methods=True, events=False)
    assert {change.where for change in changes if change.breaks} == {"a", "b"}


@pytest.mark.slow  # so many are seconds of work
def test_a_hundred_thousand_methods() -> None:
    """Some ten seconds where nothing else runs: the methods take as long to make."""

    def methods(schema: Any, count: int) -> tuple[Method, ...]:
        parameters = (Parameter(name="a", schema=schema),)
        return tuple(
            Method(name=f"m{n}", parameters=parameters, result=ref("A")) for n in range(count)
        )

    schemas = {"A": {"type": "object", "properties": {"a": INT}}}
    old = Contract(name="s", methods=methods(INT, 100_000), schemas=schemas)
    assert differences(old, old, methods=True, events=True) == []
    wider = methods(ANY_OF, 10_000) + old.methods[10_000:]
    changes = differences(dataclasses.replace(old, methods=wider), old, methods=True, events=True)
    assert len(changes) == 10_000


def test_each_rule_is_told_by_some_pair() -> None:
    """The table holds nothing that never happens."""
    seen = set()
    for pair in PAIRS.values():
        contracts = [contract_by(text) for text in (pair.old, pair.new)]
        for order in (contracts, contracts[::-1]):
            seen |= {c.what for c in differences(order[0], order[1], methods=True, events=True)}
    starts = {
        rule.partition("{}")[0] for rule in RULES if "event" not in rule and "payload" not in rule
    }
    starts -= {"the service is called ", "the version is ", "the addresses changed"}
    assert {start for start in starts if not any(what.startswith(start) for what in seen)} == set()


def test_there_are_at_least_sixty_pairs() -> None:
    assert len(PAIRS) + len(EVENTS) >= 60


def test_enums_are_compared_whatever_their_size() -> None:
    """Value by value it would take minutes."""
    old, new = [*range(100_000), True], [*range(1, 100_001), True, 0.0]

    def contract(values: list[Any]) -> Contract:
        params = [{"name": "a", "schema": {"enum": values}}]
        methods = [{"name": "f", "params": params, "result": {"name": "r", "schema": {}}}]
        return from_openrpc({"openrpc": "1.3.2", "info": {}, "methods": methods})

    (change,) = differences(contract(old), contract(new), methods=True, events=False)
    assert change.breaks == ()
    (change,) = differences(contract(new), contract(old), methods=True, events=False)
    assert "no longer takes 100000" in change.what
