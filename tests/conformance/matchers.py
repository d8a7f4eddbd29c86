"""Comparing a reply with what was expected, and saying where they differ.

Values compare by JSON type as well (1, 1.0 and true are three values). A `Matcher` may stand
anywhere in an expected value. Nothing here knows HTTP or the cases.
"""

import dataclasses
from collections.abc import Callable
from typing import Any


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: The reply has no body at all.
NOTHING = _Sentinel("NOTHING")
#: The body is not looked at.
ANY_BODY = _Sentinel("ANY_BODY")
#: The member is not there.
ABSENT = _Sentinel("ABSENT")

#: The code table of the brief: what the message is when a case does not say otherwise.
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


class Matcher:
    """Stands in for a value in an expected reply."""

    def mismatch(self, got: Any, path: str) -> str:
        """What is wrong with `got`, or an empty text."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Where(Matcher):
    """Any value for which `test` holds."""

    name: str
    test: Callable[[Any], bool]

    def __repr__(self) -> str:
        return self.name

    def mismatch(self, got: Any, path: str) -> str:
        return "" if self.test(got) else f"{path}: expected {self.name}, got {_short(got)}"


ANY = Where("ANY", lambda got: True)
ANY_OR_ABSENT = Where("ANY_OR_ABSENT", lambda got: True)
ANY_STRING = Where("ANY_STRING", lambda got: isinstance(got, str) and bool(got))
ANY_INT = Where("ANY_INT", lambda got: type(got) is int)


@dataclasses.dataclass(frozen=True)
class Contains(Matcher):
    """A text, list or object that has all of these parts."""

    parts: tuple[Any, ...]

    def __init__(self, *parts: Any) -> None:
        object.__setattr__(self, "parts", parts)

    def mismatch(self, got: Any, path: str) -> str:
        missing = [part for part in self.parts if part not in got]
        return f"{path}: {_short(got)} lacks {missing}" if missing else ""


@dataclasses.dataclass(frozen=True)
class OneOf(Matcher):
    """Any of several values: where the decisions leave more than one reading."""

    choices: tuple[Any, ...]

    def __init__(self, *choices: Any) -> None:
        object.__setattr__(self, "choices", choices)

    def mismatch(self, got: Any, path: str) -> str:
        found = [difference(choice, got, path) for choice in self.choices]
        return "" if "" in found else " / or: ".join(found)


@dataclasses.dataclass(frozen=True)
class Object(Matcher):
    """A JSON object with at least these members; `extra=False`: with no others."""

    members: dict[str, Any]
    extra: bool = True

    def mismatch(self, got: Any, path: str) -> str:
        if not isinstance(got, dict):
            return f"{path}: expected an object, got {_short(got)}"
        surplus = [] if self.extra else sorted(set(got) - set(self.members))
        if surplus:
            return f"{path}: unexpected members {surplus} in {_short(got)}"
        return _first(
            difference(value, got.get(name, ABSENT), f"{path}.{name}")
            for name, value in self.members.items()
        )


@dataclasses.dataclass(frozen=True)
class Error(Matcher):
    """An error response. `message` is the code's own when left out; `data` is then free."""

    code: int
    id: Any = None
    message: Any = ABSENT
    data: Any = ANY_OR_ABSENT

    def mismatch(self, got: Any, path: str) -> str:
        message = MESSAGES[self.code] if self.message is ABSENT else self.message
        error = Object({"code": self.code, "message": message, "data": self.data}, extra=False)
        response = Object({"jsonrpc": "2.0", "error": error, "id": self.id}, extra=False)
        return response.mismatch(got, path)


@dataclasses.dataclass(frozen=True)
class InvalidParams(Matcher):
    """-32602 whose data names exactly these faults: text is a name, a number a position.

    A tuple in place of a name accepts any of its members. Each reason is a text that is not empty
    and holds every word of `words`, whatever its wording.
    """

    faults: tuple[Any, ...]
    id: Any = 1
    words: tuple[str, ...] = ()

    def __init__(self, *faults: Any, id: Any = 1, words: tuple[str, ...] = ()) -> None:
        object.__setattr__(self, "faults", faults)
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "words", words)

    def mismatch(self, got: Any, path: str) -> str:
        shape = Object({"parameters": Where("a list", lambda v: isinstance(v, list))}, extra=False)
        wrong = Error(-32602, self.id, data=shape).mismatch(got, path)
        if wrong:
            return wrong
        path = f"{path}.error.data.parameters"
        return self._wrong_faults(got["error"]["data"]["parameters"], path)

    def _wrong_faults(self, got: list[Any], path: str) -> str:
        named = []
        for fault in got:
            if not isinstance(fault, dict) or set(fault) not in (
                {"name", "reason"},
                {"position", "reason"},
            ):
                return f"{path}: not a name or position with a reason: {_short(fault)}"
            reason = fault["reason"]
            if not isinstance(reason, str) or not reason:
                return f"{path}: no reason in {_short(fault)}"
            if not all(word in reason for word in self.words):
                return f"{path}: the reason lacks one of {self.words}: {_short(fault)}"
            named.append(fault["name"] if "name" in fault else fault["position"])
        left = list(named)
        for fault in self.faults:
            choices = fault if isinstance(fault, tuple) else (fault,)
            match = [name for name in left if any(_same(name, choice) for choice in choices)]
            if not match:
                return f"{path}: {fault!r} is not named as at fault, only {named}"
            left.remove(match[0])
        return f"{path}: named as at fault without being so: {left}" if left else ""


@dataclasses.dataclass(frozen=True)
class Masked(Matcher):
    """-32603 that says nothing but an error id."""

    id: Any = 1

    def mismatch(self, got: Any, path: str) -> str:
        is_hex = Where("hexadecimal digits", lambda v: isinstance(v, str) and _is_hex(v))
        data = Object({"error_id": is_hex}, extra=False)
        return Error(-32603, self.id, data=data).mismatch(got, path)


def result(value: Any, id: Any = 1) -> dict[str, Any]:
    """The response that carries `value`."""
    return {"jsonrpc": "2.0", "result": value, "id": id}


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


def _first(found: Any) -> str:
    return next((text for text in found if text), "")


def _is_hex(text: str) -> bool:
    return len(text) >= 8 and all(digit in "0123456789abcdef" for digit in text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-60:]} ({len(text)} characters)"
