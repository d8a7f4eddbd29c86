"""Tables of requests, and what each of them must be answered.

A `Case` says what is sent and expected; how it travels is the test's. Values compare by JSON type
as well (1, 1.0 and true are three values). A `Matcher` may stand anywhere in an expected value.
"""

import contextlib
import dataclasses
import enum
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest


class Special(enum.Enum):
    """What may be expected in place of a value."""

    NOTHING = "the reply has no body at all"
    ANY_BODY = "the body is not looked at"
    ABSENT = "the member or header is not there"


NOTHING, ANY_BODY, ABSENT = Special

#: What the message of an error is when a case does not say otherwise.
MESSAGES = {
    -32700: "Parse error",
    -32600: "Invalid Request",
    -32601: "Method not found",
    -32602: "Invalid params",
    -32603: "Internal error",
    -32001: "Access denied",
    -32002: "Deadline exceeded",
    -32003: "Too many hops",
    -32004: "Response too large",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One request and the one reply that it must get, however it travels.

    :ivar reply: the body: JSON, bytes, `NOTHING` or `ANY_BODY`.
    :ivar status: several where what is right leaves a choice.
    :ivar reply_headers: headers of the reply by name: a value, a matcher, or `ABSENT`.
    """

    name: str
    sent: bytes
    reply: Any
    status: int | tuple[int, ...] = 200
    reply_headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def every(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """A test for each case of a table, by its name."""
    names = [case.name for case in cases]
    twice = [name for name, count in Counter(names).items() if count > 1]
    assert not twice, f"cases of the same name: {twice}"
    return pytest.mark.parametrize("case", cases, ids=names)


@contextlib.contextmanager
def way(name: str) -> Iterator[None]:
    """Say, when a case fails, in which of its ways it was sent."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{name}: {error}") from error


def check(case: Case, reply: Any) -> None:
    """Fail, saying where the reply differs from what the case expects."""
    statuses = case.status if isinstance(case.status, tuple) else (case.status,)
    shown = f"{reply.status} {reply.headers} {reply.body[:600]!r}"
    assert reply.status in statuses, f"expected status {case.status}, got {shown}"
    for name, expected in case.reply_headers.items():
        got = reply.headers.get(name)
        wrong = difference(expected, ABSENT if got is None else got, name)
        assert not wrong, f"{wrong} in {shown}"
    check_body(case.reply, reply)


def check_body(expected: Any, reply: Any) -> None:
    """The body is the one expected, and JSON where that is expected."""
    shown = f"{reply.status} {reply.headers} {reply.body[:600]!r}"
    if expected is ANY_BODY:
        return
    if expected is NOTHING or isinstance(expected, bytes):
        text = b"" if expected is NOTHING else expected
        assert reply.body == text, f"expected the bytes {text!r}, got {shown}"
        return
    kind = reply.headers.get("Content-Type") or ""
    assert kind.split(";")[0].strip() == "application/json", f"content type {kind!r} in {shown}"
    wrong = difference(expected, decode(reply.body))
    assert not wrong, f"{wrong}\nin {shown}"


def decode(body: bytes) -> Any:
    """The value of a JSON text, strictly."""

    def refuse(text: str) -> Any:
        raise AssertionError(f"{text} is not JSON")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), f"a member stands twice: {pairs}"
        return dict(pairs)

    return json.loads(body.decode("utf-8"), parse_constant=refuse, object_pairs_hook=members)


def difference(expected: Any, got: Any, path: str = "$") -> str:
    """Where `got` first differs from `expected`, or an empty text."""
    if isinstance(expected, Matcher):
        return expected.mismatch(got, path)
    if isinstance(expected, dict) and isinstance(got, dict):
        return Object(expected, extra=False).mismatch(got, path)
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{path}: expected {len(expected)} items, got {len(got)}: {_short(got)}"
        return _first(
            difference(one, other, f"{path}[{index}]")
            for index, (one, other) in enumerate(zip(expected, got, strict=True))
        )
    return "" if _same(expected, got) else f"{path}: expected {_short(expected)}, got {_short(got)}"


def _same(expected: Any, got: Any) -> bool:
    # repr, because 0.0 == -0.0 and 1 == True.
    return type(expected) is type(got) and expected == got and repr(expected) == repr(got)


def _first(found: Iterable[str]) -> str:
    return next((text for text in found if text), "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-60:]} ({len(text)} characters)"


class Matcher:
    """Stands in for a value in an expected reply."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_short(vars(self))})"

    def mismatch(self, got: Any, path: str) -> str:
        """What is wrong with `got`, or an empty text."""
        raise NotImplementedError


class Where(Matcher):
    """Any value for which `test` holds."""

    def __init__(self, name: str, test: Callable[[Any], bool]) -> None:
        self.name = name
        self.test = test

    def mismatch(self, got: Any, path: str) -> str:
        return "" if self.test(got) else f"{path}: expected {self.name}, got {_short(got)}"


ANY = Where("a value", lambda got: got is not ABSENT)
ANY_OR_ABSENT = Where("anything", lambda got: True)
ANY_STRING = Where("a text", lambda got: isinstance(got, str) and bool(got))


class Contains(Matcher):
    """A text, list or object that has all of these parts."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def mismatch(self, got: Any, path: str) -> str:
        missing = [part for part in self.parts if got is ABSENT or part not in got]
        return f"{path}: {_short(got)} lacks {missing}" if missing else ""


class OneOf(Matcher):
    """Any of several values: where what is right leaves more than one reading."""

    def __init__(self, *choices: Any) -> None:
        self.choices = choices

    def mismatch(self, got: Any, path: str) -> str:
        found = [difference(choice, got, path) for choice in self.choices]
        return "" if "" in found else " / or: ".join(found)


class Object(Matcher):
    """A JSON object with at least these members; `extra=False`: no others, and in this order."""

    def __init__(self, members: Mapping[str, Any], *, extra: bool = True) -> None:
        self.members = members
        self.extra = extra

    def mismatch(self, got: Any, path: str) -> str:
        if not isinstance(got, dict):
            return f"{path}: expected an object, got {_short(got)}"
        there = [name for name in self.members if name in got]
        if not self.extra and list(got) != there:
            return f"{path}: expected the members {list(self.members)}, got {_short(got)}"
        return _first(
            difference(value, got.get(name, ABSENT), f"{path}.{name}")
            for name, value in self.members.items()
        )


class Error(Matcher):
    """An error response. `message` is the code's own when left out; `data` is then free."""

    def __init__(
        self, code: int, id: Any = None, message: Any = ABSENT, data: Any = ANY_OR_ABSENT
    ) -> None:
        message = MESSAGES[code] if message is ABSENT else message
        error = Object({"code": code, "message": message, "data": data}, extra=False)
        self.response = {"jsonrpc": "2.0", "error": error, "id": id}

    def mismatch(self, got: Any, path: str) -> str:
        return difference(self.response, got, path)


#: How a transport's fault is refused: HTTP's own status, and an error with id null.
REFUSED = Error(-32600, message=ANY_STRING)


def masked(id: Any = 1) -> Error:
    """-32603 that says nothing but an error id."""
    is_hex = Where(
        "hexadecimal digits",
        lambda got: isinstance(got, str) and len(got) >= 8 and not set(got) - {*"0123456789abcdef"},
    )
    return Error(-32603, id, data={"error_id": is_hex})


class InvalidParams(Matcher):
    """-32602 whose data names exactly these faults: text is a name, a number a position.

    A tuple in place of a name accepts any of its members. Each reason is a text that is not empty
    and holds every word of `words`, whatever its wording.
    """

    def __init__(self, *faults: Any, id: Any = 1, words: Sequence[str] = ()) -> None:
        self.faults = faults
        self.words = words
        named = Where("a list", lambda got: isinstance(got, list))
        self.error = Error(-32602, id, data={"parameters": named})

    def mismatch(self, got: Any, path: str) -> str:
        if wrong := self.error.mismatch(got, path):
            return wrong
        path = f"{path}.error.data.parameters"
        left = []
        for fault in got["error"]["data"]["parameters"]:
            if wrong := self._wrong_fault(fault, path):
                return wrong
            left.append(fault["name"] if "name" in fault else fault["position"])
        for fault in self.faults:
            choices = fault if isinstance(fault, tuple) else (fault,)
            match = [name for name in left if any(_same(name, choice) for choice in choices)]
            if not match:
                return f"{path}: {fault!r} is not named as at fault, only {left}"
            left.remove(match[0])
        return f"{path}: named as at fault without being so: {left}" if left else ""

    def _wrong_fault(self, fault: Any, path: str) -> str:
        shapes = ({"name", "reason"}, {"position", "reason"})
        if not isinstance(fault, dict) or set(fault) not in shapes:
            return f"{path}: not a name or position with a reason: {_short(fault)}"
        reason = fault["reason"]
        if isinstance(reason, str) and reason and all(word in reason for word in self.words):
            return ""
        return f"{path}: not a reason, or without one of {self.words}: {_short(fault)}"


def result(value: Any, id: Any = 1) -> dict[str, Any]:
    """The response that carries `value`."""
    return {"jsonrpc": "2.0", "result": value, "id": id}
