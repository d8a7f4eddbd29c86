"""Compare two contracts of a service: what changed, and for whom it breaks.

Variance decides: what a caller sends may only widen, what it receives may only narrow. What is
emitted is received by handlers; what is handled is sent by emitters. `RULES` is the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..errors import UNSET
from .model import Contract, ErrorInfo, Event, Kind, Method, Parameter
from .reading import BadDocument
from .schema_comparison import Comparer, Misfit
from .schema_reading import same

__all__ = ["RULES", "Change", "Party", "differences"]

Party: TypeAlias = Literal["callers", "emitters", "handlers"]

_CALLERS: tuple[Party, ...] = ("callers",)
_EMITTERS: tuple[Party, ...] = ("emitters",)
_HANDLERS: tuple[Party, ...] = ("handlers",)
_NOBODY: tuple[Party, ...] = ()

#: What may change, in the words that tell it, and for whom it breaks. ``{}`` is filled in.
RULES: Mapping[str, tuple[Party, ...]] = {
    # methods
    "the method is gone": _CALLERS,
    "the method is private now": _CALLERS,
    "the method is idempotent no longer": _CALLERS,
    "the method is new": _NOBODY,
    "the method is public now": _NOBODY,
    "the method is idempotent now": _NOBODY,
    "the method is deprecated now": _NOBODY,
    "the method is deprecated no longer": _NOBODY,
    "the time limit of the method changed: {}": _NOBODY,
    # parameters
    "parameter {} is gone": _CALLERS,
    "parameter {} is newly required": _CALLERS,
    "parameter {} moved: {}": _CALLERS,
    "parameter {} is taken by name only": _CALLERS,
    "parameter {} is taken by position only": _CALLERS,
    "parameter {} is narrowed: {}": _CALLERS,
    "parameter {} is widened": _NOBODY,
    "parameter {} is new": _NOBODY,
    "parameter {} is required no longer": _NOBODY,
    "parameter {} is called {} now, which is by position only": _NOBODY,
    "parameter {} is taken in more ways": _NOBODY,
    "the default of parameter {} changed: {}": _NOBODY,
    # results
    "the result is gone": _CALLERS,
    "the result is widened: {}": _CALLERS,
    "the result is narrowed": _NOBODY,
    "there is a result now": _NOBODY,
    # errors
    "error {} is added": _CALLERS,
    "the data of error {} is widened: {}": _CALLERS,
    "error {} is gone": _NOBODY,
    "the data of error {} is narrowed": _NOBODY,
    "the message of error {} changed": _NOBODY,
    # events
    "the event is no longer emitted": _HANDLERS,
    "the emitted payload is widened: {}": _HANDLERS,
    "the event is emitted as {} now": _HANDLERS,
    "the event is newly emitted": _NOBODY,
    "the emitted payload is narrowed": _NOBODY,
    "the event is no longer handled": _EMITTERS,
    "the handled payload is narrowed: {}": _EMITTERS,
    "the event is newly handled": _NOBODY,
    "the handled payload is widened": _NOBODY,
    "the event is handled by {} now": _NOBODY,
    # the service
    "the service is called {} now": _NOBODY,
    "the version is {} now": _NOBODY,
    "the addresses changed": _NOBODY,
}


@dataclass(frozen=True)
class Change:
    """A difference between two contracts.

    :ivar where: the method or event; the service's name for what concerns all of it.
    :ivar what: one line.
    :ivar breaks: for whom; empty for nobody.
    """

    where: str
    what: str
    breaks: tuple[Party, ...]


def differences(old: Contract, new: Contract, *, methods: bool, events: bool) -> list[Change]:
    """List what changed between two contracts of one service.

    :param methods: whether both say which methods there are.
    :param events: whether both say which events there are.
    :raises BadDocument: for schemas that cannot be compared, in one line.

    >>> old = Contract(name="shop", methods=(Method(name="buy"),))
    >>> differences(old, Contract(name="shop"), methods=True, events=False)
    [Change(where='buy', what='the method is gone', breaks=('callers',))]
    """
    found = list(_compare_service(old, new))
    pair = _ContractComparer(old, new)
    if methods:
        found += _compare_by_name(old.methods, new.methods, pair.method, "the method is {}")
    if events:
        found += _compare_by_name(old.emits, new.emits, pair.emitted, "the event is {} emitted")
        found += pair.all_handled()
    return found


def _change(where: str, rule: str, *details: object) -> Change:
    # Not format: details come from documents, rules do not.
    return Change(where, rule.format(*map(_one_line, details)), RULES[rule])


def _one_line(detail: object) -> str:
    return " ".join(str(detail).split())


def _compare_service(old: Contract, new: Contract) -> Iterator[Change]:
    if old.name != new.name:
        yield _change(old.name, "the service is called {} now", repr(new.name))
    if old.version != new.version:
        yield _change(new.name, "the version is {} now", repr(new.version))
    if old.servers != new.servers:
        yield _change(new.name, "the addresses changed")


def _compare_by_name(old: Any, new: Any, compare: Any, rule: str) -> Iterator[Change]:
    """Compare what both have by its name; `rule` tells what one of them has not."""
    gone, added = ("no longer", "newly") if "event" in rule else ("gone", "new")
    before, now = {each.name: each for each in old}, {each.name: each for each in new}
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield _change(name, rule.replace("{}", gone))
        elif name not in before:
            yield _change(name, rule.replace("{}", added))
        else:
            try:
                yield from compare(before[name], now[name])
            except BadDocument as error:
                raise BadDocument(f"{name!r:.80}: {error}") from None


class _ContractComparer:
    """Compares parts of two contracts."""

    def __init__(self, old: Contract, new: Contract) -> None:
        self._old, self._new = old, new
        #: What was sent, by what is taken.
        self._sent = Comparer(old.schemas, new.schemas)
        #: What comes back, by what was expected; and the other way round, to see what is new.
        self._received = Comparer(new.schemas, old.schemas, receiving=True)
        self._received_back = Comparer(old.schemas, new.schemas, receiving=True)

    # Methods

    def method(self, old: Method, new: Method) -> Iterator[Change]:
        where = old.name
        for is_so, was_so, word in (
            (new.private, old.private, ("private now", "public now")),
            (not new.idempotent, not old.idempotent, ("idempotent no longer", "idempotent now")),
            (new.deprecated, old.deprecated, ("deprecated now", "deprecated no longer")),
        ):
            if is_so != was_so:
                yield _change(where, f"the method is {word[not is_so]}")
        if old.timeout != new.timeout:
            told = [f"{limit:g} s" if limit else "none" for limit in (old.timeout, new.timeout)]
            rule = "the time limit of the method changed: {}"
            yield _change(where, rule, " to ".join(told))
        yield from _Parameters(where, old, new, self).changes()
        yield from self._compare_results(where, old, new)
        yield from self._compare_errors(where, old.errors, new.errors)

    def _compare_results(self, where: str, old: Method, new: Method) -> Iterator[Change]:
        if old.result is None or new.result is None:
            if new.result is not None:
                yield _change(where, "there is a result now")
            elif old.result is not None:
                yield _change(where, "the result is gone")
            return
        yield from self.received(where, "the result is {}", old.result, new.result)

    def _compare_errors(
        self, where: str, old: tuple[ErrorInfo, ...], new: tuple[ErrorInfo, ...]
    ) -> Iterator[Change]:
        before, now = _by_code(old), _by_code(new)
        for code in sorted(before.keys() | now.keys()):
            if code not in before:
                yield _change(where, "error {} is added", _error_label(now[code][0]))
                continue
            name = _error_label(before[code][0])
            if code not in now:
                yield _change(where, "error {} is gone", name)
                continue
            if before[code][0].message != now[code][0].message:
                yield _change(where, "the message of error {} changed", name)
            # Several classes may have one code: its data is what any of them has.
            was, is_ = (_data_schema(each[code]) for each in (before, now))
            yield from self.received(where, "the data of error {} is {}", was, is_, name)

    # Values

    def received(self, where: str, rule: str, old: Any, new: Any, *names: str) -> Iterator[Change]:
        """Compare what comes from the service; `rule` ends with what became of it."""
        front = rule.removesuffix("{}")
        misfits = self._received.misfits(new, old)
        for misfit in misfits:
            yield _change(
                where, front + "widened: {}", *names, _describe_misfit(misfit, misfit.received)
            )
        if not misfits and self._received_back.misfits(old, new):
            yield _change(where, front + "narrowed", *names)

    def sent(self, where: str, rule: str, old: Any, new: Any, *names: str) -> Iterator[Change]:
        """Compare what goes to the service."""
        front = rule.removesuffix("{}")
        misfits = self._sent.misfits(old, new)
        for misfit in misfits:
            yield _change(
                where, front + "narrowed: {}", *names, _describe_misfit(misfit, misfit.sent)
            )
        if not misfits and (
            self._received.misfits(new, old) or self._received_back.misfits(old, new)
        ):
            yield _change(where, front + "widened", *names)

    # Events

    def emitted(self, old: Event, new: Event) -> Iterator[Change]:
        if None not in (old.broadcast, new.broadcast) and old.broadcast != new.broadcast:
            kind = "broadcast" if new.broadcast else "work for one"
            yield _change(old.name, "the event is emitted as {} now", kind)
        yield from self.received(old.name, "the emitted payload is {}", old.schema, new.schema)

    def all_handled(self) -> Iterator[Change]:
        """Compare the handlers: a pattern may take over from a name."""
        before = {event.name: event for event in self._old.handles}
        now = {event.name: event for event in self._new.handles}
        for name, old in sorted(before.items()):
            new = now.get(name) or next((e for e in now.values() if _covers(e.name, name)), None)
            if new is None:
                yield _change(name, "the event is no longer handled")
                continue
            if old.scope != new.scope:
                one = "every instance" if new.scope == "instance" else "one instance"
                yield _change(name, "the event is handled by {} now", one)
            yield from self.sent(name, "the handled payload is {}", old.schema, new.schema)
        for name in sorted(now.keys() - before.keys()):
            yield _change(name, "the event is newly handled")


def _covers(pattern: str, name: str) -> bool:
    """Tell whether a pattern matches all that a name or pattern does."""
    wanted, words = pattern.split("."), name.split(".")
    #: How many words of the pattern may have been used up.
    reached = _after_hashes({0}, wanted)
    for word in words:
        stays = {n for n in reached if n < len(wanted) and wanted[n] == "#"}
        steps = {
            n + 1
            for n in reached
            if n < len(wanted) and (wanted[n] == word or (wanted[n] == "*" and word != "#"))
        }
        reached = _after_hashes(stays | steps, wanted)
    return len(wanted) in reached


def _after_hashes(reached: set[int], wanted: list[str]) -> set[int]:
    """Add what is reached when a ``#`` stands for no word."""
    for n in sorted(reached):
        while n < len(wanted) and wanted[n] == "#":
            n += 1
            reached = reached | {n}
    return reached


def _by_code(errors: tuple[ErrorInfo, ...]) -> dict[int, list[ErrorInfo]]:
    found: dict[int, list[ErrorInfo]] = {}
    for error in errors:
        found.setdefault(error.code, []).append(error)
    return found


def _data_schema(errors: list[ErrorInfo]) -> Any:
    schemas = [{} if error.data is None else error.data for error in errors]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _error_label(error: ErrorInfo) -> str:
    return f"{error.code} ({error.name or error.message:.60})"


def _describe_misfit(misfit: Misfit, text: str) -> str:
    return f"{misfit.where[:200].removeprefix('.')} {text}" if misfit.path else text


class _Parameters:
    """Compares the parameters of one method.

    Callers write them by position, by name, or both ways, as their kind lets them; each way must go
    on meaning the same.
    """

    def __init__(self, where: str, old: Method, new: Method, pair: _ContractComparer) -> None:
        self._where = where
        self._comparer = pair
        self._old = [p for p in old.parameters if p.kind not in ("rest", "named_rest")]
        self._new = [p for p in new.parameters if p.kind not in ("rest", "named_rest")]
        self._rest_parameters = [{p.kind: p for p in m.parameters} for m in (old, new)]
        self._placed = [p for p in self._new if p.kind != "named"]
        self._by_name = {p.name: p for p in self._new}
        self._compared: set[str] = set()

    def changes(self) -> Iterator[Change]:
        place = 0
        for old in self._old:
            yield from self._compare_parameter(old, None if old.kind == "named" else place)
            place += old.kind != "named"
        yield from self._new_parameters(place)
        yield from self._compare_rest("rest")
        yield from self._compare_rest("named_rest")

    def _compare_parameter(self, old: Parameter, place: int | None) -> Iterator[Change]:
        there = self._placed[place] if place is not None and place < len(self._placed) else None
        named = self._by_name.get(old.name)
        new = there if old.kind == "positional" and named is None else named
        if new is None:
            yield from self._taken_by_rest(old, place)
            return
        self._compared.add(new.name)
        yield from self._compare_kinds(old, new, there)
        if new.required and not old.required:
            yield self._change("parameter {} is newly required", old)
        elif old.required and not new.required:
            yield self._change("parameter {} is required no longer", old)
        elif not _same_default(old.default, new.default):
            told = f"{_default_text(old)} to {_default_text(new)}"
            yield self._change("the default of parameter {} changed: {}", old, told)
        yield from self._comparer.sent(
            self._where, "parameter {} is {}", old.schema, new.schema, repr(old.name)
        )

    def _compare_kinds(
        self, old: Parameter, new: Parameter, there: Parameter | None
    ) -> Iterator[Change]:
        """Compare how it may be given."""
        if old.name != new.name:
            rule = "parameter {} is called {} now, which is by position only"
            if new.kind == "positional":
                yield self._change(rule, old, repr(new.name))
        if old.kind != "named" and new.kind == "named":
            yield self._change("parameter {} is taken by name only", old)
        elif old.kind != "positional" and new.kind == "positional":
            yield self._change("parameter {} is taken by position only", old)
        elif old.kind != "named" and there is not new:
            told = f"it is number {self._placed.index(new) + 1} now"
            yield self._change("parameter {} moved: {}", old, told)
        elif old.kind != new.kind:
            yield self._change("parameter {} is taken in more ways", old)

    def _taken_by_rest(self, old: Parameter, place: int | None) -> Iterator[Change]:
        """Look whether ``*args`` or ``**kwargs`` take what has no parameter of its own now."""
        rests = self._rest_parameters[1]
        ways: dict[Kind, list[Kind]] = {"positional": ["rest"], "named": ["named_rest"]}
        wanted = ways.get(old.kind, ["rest", "named_rest"])
        full = place is None or place >= len(self._placed)
        if not all(way in rests for way in wanted) or not full:
            yield self._change("parameter {} is gone", old)
            return
        for way in wanted:
            yield from self._comparer.sent(
                self._where, "parameter {} is {}", old.schema, rests[way].schema, repr(old.name)
            )

    def _new_parameters(self, place: int) -> Iterator[Change]:
        before = self._rest_parameters[0]
        for new in self._new:
            if new.name in self._compared:
                continue
            if new.required:
                yield self._change("parameter {} is newly required", new)
                continue
            yield self._change("parameter {} is new", new)
            # It takes over what *args or **kwargs took.
            for way, kinds in (
                ("rest", ("positional", "either")),
                ("named_rest", ("named", "either")),
            ):
                if way in before and new.kind in kinds:
                    changes = self._comparer.sent(
                        self._where,
                        "parameter {} is {}",
                        before[way].schema,
                        new.schema,
                        repr(new.name),
                    )
                    yield from (change for change in changes if change.breaks)

    def _compare_rest(self, kind: Literal["rest", "named_rest"]) -> Iterator[Change]:
        old, new = (each.get(kind) for each in self._rest_parameters)
        stars = "*" if kind == "rest" else "**"
        if old is None and new is None:
            return
        name = repr(stars + (old or new).name)  # type: ignore[union-attr]
        if new is None:
            yield _change(self._where, "parameter {} is gone", name)
        elif old is None:
            yield _change(self._where, "parameter {} is new", name)
        else:
            yield from self._comparer.sent(
                self._where, "parameter {} is {}", old.schema, new.schema, name
            )

    def _change(self, rule: str, parameter: Parameter, *details: str) -> Change:
        return _change(self._where, rule, repr(parameter.name), *details)


def _same_default(one: Any, other: Any) -> bool:
    return one is other if UNSET in (one, other) else same(one, other)


def _default_text(parameter: Parameter) -> str:
    return "none" if parameter.default is UNSET else f"{parameter.default!r:.60}"
