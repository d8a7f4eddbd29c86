"""Compare two JSON Schemas: do all values of one fit the other?

Decided by structure, keyword by keyword (JSON Schema, draft 2020-12, and what draft 7 wrote
otherwise). Where that cannot tell, the answer is no: a change is then looked at once too often. An
object is taken to have the properties that its schema lists, and others only when it says of what
kind they are. Nothing is fetched: a reference that does not lead into the contract is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ..number_checks import is_number
from ..protocol import encode_json
from .reading import BadDocument
from .schema_reading import (
    TYPE_OF,
    alternatives,
    as_json,
    fields,
    identity,
    items_of,
    names_in,
    number,
    resolved,
    same,
    says,
    schema_of,
)

__all__ = ["Comparer", "Misfit"]

#: Upper and lower bounds, and how they are told.
_LEAST = {
    "minLength": "at least {} characters long",
    "minItems": "at least {} items long",
    "minProperties": "at least {} fields large",
}
_MOST = {
    "maxLength": "at most {} characters long",
    "maxItems": "at most {} items long",
    "maxProperties": "at most {} fields large",
}
#: Pairs of schemas that two may come down to: those of a service are some hundreds.
_MOST_PAIRS = 20_000
#: Reasons that are told of one value.
_MOST_MISFITS = 20

_Path: TypeAlias = tuple[str, ...]
_Pair: TypeAlias = tuple[int, int]


class Misfit(NamedTuple):
    """Why a value of one schema may not fit another.

    :ivar path: the fields to it; ``[]`` stands for an item.
    :ivar sent: said of what is sent to the service: it takes less now.
    :ivar received: said of what comes from it: it may be more now.
    """

    path: _Path
    sent: str
    received: str

    def below(self, step: str) -> Misfit:
        return self._replace(path=(step, *self.path))

    @property
    def where(self) -> str:
        """Return the path as text: ``.items[].name``."""
        return "".join(step if step == "[]" else f".{step}" for step in self.path)


class Comparer:
    """Compares schemas of two contracts.

    :param given: the named schemas of the contract whose values are looked at.
    :param taken: those of the contract that they must fit.
    :param receiving: whether a caller receives these values: then it may want each field that it
        knew, and one that is gone is a misfit though it was optional.

    >>> Comparer({}, {}).misfits({"type": "integer"}, {"type": "number"})
    []
    >>> Comparer({}, {}).misfits({"type": ["integer", "null"]}, {"type": "number"})[0].sent
    'no longer takes null'
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        taken: Mapping[str, Any],
        *,
        receiving: bool = False,
    ) -> None:
        self._named = {"given": given, "taken": taken}
        self._receiving = receiving
        #: Whether all values of one schema fit another, by their identities. What holds itself fits
        #: until something in it does not: then those that relied on it are looked at again.
        self._fits_all: dict[_Pair, bool] = {}
        self._schemas: dict[_Pair, tuple[Any, Any]] = {}
        self._dependents: dict[_Pair, list[_Pair]] = {}
        self._queue: list[_Pair] = []
        self._pairs_left = 0
        #: Reasons of what does not fit, once that is known; None while they are being found.
        self._reasons: dict[_Pair, list[Misfit] | None] = {}
        self._current: _Pair | None = None
        #: Answers by the text of both: methods of one service are much alike.
        self._told: dict[tuple[bytes, bytes], list[Misfit]] = {}
        self._shapes: dict[tuple[str, int], tuple[Any, list[Any]]] = {}
        self._resolved: dict[tuple[str, int], tuple[Any, Any]] = {}
        self._merged: dict[tuple[str, bytes], Any] = {}
        self._enums: dict[int, tuple[Any, frozenset[Any]]] = {}

    def misfits(self, given: Any, taken: Any) -> list[Misfit]:
        """List why values of `given` may not fit `taken`; empty when all of them do.

        :raises BadDocument: for references that lead nowhere or in a circle, and for what is
            nested too deeply.
        """
        try:
            key = encode_json(given), encode_json(taken)
            if key not in self._told:
                self._told[key] = self._all_misfits(given, taken)
            return self._told[key]
        except RecursionError:
            raise BadDocument("schemas are nested too deeply to be compared") from None

    def _all_misfits(self, given: Any, taken: Any) -> list[Misfit]:
        self._pairs_left = _MOST_PAIRS
        pair = self._queue_pair(given, taken)
        while self._queue:
            self._compare_again(self._queue.pop())
        self._current = None
        return self._reasons_of(pair)[:_MOST_MISFITS]

    # All pairs that matter

    def _queue_pair(self, given: Any, taken: Any) -> _Pair:
        """Return what stands for two schemas; it is looked at when it is new."""
        both = self._resolve("given", given), self._resolve("taken", taken)
        pair = (id(both[0]), id(both[1]))
        if pair not in self._fits_all:
            self._pairs_left -= 1
            if self._pairs_left < 0:
                raise BadDocument("schemas are too entangled to be compared")
            self._fits_all[pair] = True
            self._schemas[pair] = both
            self._queue.append(pair)
        return pair

    def _compare_again(self, pair: _Pair) -> None:
        if not self._fits_all[pair]:
            return
        self._current = pair
        if self._compare(pair):
            self._fits_all[pair] = False
            self._queue += self._dependents.pop(pair, ())

    def _misfits(self, given: Any, taken: Any) -> list[Misfit]:
        """List the misfits of two schemas inside others: while these settle, any will do."""
        pair = self._queue_pair(given, taken)
        if self._current is None:
            return self._reasons_of(pair)
        if self._fits_all[pair]:
            self._dependents.setdefault(pair, []).append(self._current)
            return []
        return [_DIFFERS]

    def _reasons_of(self, pair: _Pair) -> list[Misfit]:
        if self._fits_all[pair]:
            return []
        if pair not in self._reasons:
            self._reasons[pair] = None
            self._reasons[pair] = self._compare(pair)
        found = self._reasons[pair]
        return [_DIFFERS] if found is None else found

    def _resolve(self, side: str, schema: Any) -> Any:
        key = (side, id(schema))
        if key not in self._resolved:
            found = resolved(schema, self._named[side])
            if isinstance(found, Mapping) and "allOf" in found:
                # It may be a new object each time: of models that hold themselves, without end.
                found = self._merged.setdefault((side, encode_json(found)), found)
            self._resolved[key] = schema, found
        return self._resolved[key][1]

    def _shapes_of(self, side: str, schema: Any) -> list[Any]:
        key = (side, id(schema))
        if key not in self._shapes:
            self._shapes[key] = schema, alternatives(schema, self._named[side])
        return self._shapes[key][1]

    # One pair

    def _compare(self, pair: _Pair) -> list[Misfit]:
        given, taken = self._schemas[pair]
        if taken is True or taken == {}:
            return []
        options = self._shapes_of("taken", taken)
        found: dict[Misfit, None] = {}
        for one in self._shapes_of("given", given):
            found |= dict.fromkeys(self._misfits_of_nearest(one, options))
            if len(found) >= _MOST_MISFITS:
                break
        return [*found]

    def _misfits_of_nearest(self, given: Any, options: list[Any]) -> list[Misfit]:
        """Return the misfits with the option that fits best: none when one fits."""
        if "enum" in given or given.get("type") in _FEW:
            values = given["enum"] if "enum" in given else _FEW[given["type"]]
            wrong = [v for v in values if not self._fits_any(v, options)]
            if "enum" not in given and len(wrong) == len(values):
                return [_extra_values(_kind_of(given))]
            return [_extra_values(as_json(v)) for v in wrong]
        best: list[Misfit] | None = None
        for option in options:
            found = self._plain_misfits(given, option)
            if not found:
                return []
            if best is None or _distance(found) < _distance(best):
                best = found
        if best is None:
            return [_extra_values("any value")]
        # Of several of one kind that are all far off, this was another one.
        kinds = [option.get("type") for option in options]
        alike = kinds.count(given.get("type"))
        if len(options) > 1 and (not alike or (alike > 1 and len(best) > 1)):
            return [_extra_values(_kind_of(given))]
        return best

    # A value

    def _fits_any(self, value: Any, options: list[Any]) -> bool:
        return any(self._fits(value, option) for option in options)

    def _fits(self, value: Any, taken: Any) -> bool:
        if "enum" in taken:
            # As a set, since there may be 100,000 on both sides.
            if id(taken) not in self._enums:
                self._enums[id(taken)] = taken, frozenset(map(identity, taken["enum"]))
            return identity(value) in self._enums[id(taken)][1]
        return not self._plain_misfits(schema_of(value), taken)

    # Two schemas of one type each

    def _plain_misfits(self, given: Any, taken: Any) -> list[Misfit]:
        if "enum" in taken:
            told = [
                *map(as_json, taken["enum"][:_MOST_MISFITS]),
                *["..."][: len(taken["enum"]) > _MOST_MISFITS],
            ]
            return [_new_limit("one of " + ", ".join(told))]
        own, other = given.get("type"), taken.get("type")
        if own is None and other is not None:
            return [_extra_values("any value")]
        if own != other and other is not None and (own, other) != ("integer", "number"):
            return [_extra_values(_kind_of(given))]
        found = self._of_others(given, taken, own)
        if own in ("integer", "number", None):
            found += _of_numbers(given, taken)
        if own in ("string", "array", "object", None):
            found += _of_sizes(given, taken)
        if own in ("array", None):
            found += self._of_items(given, taken)
        if own in ("object", None):
            found += self._of_properties(given, taken)
        return found

    def _of_others(self, given: Any, taken: Any, own: str | None) -> list[Misfit]:
        """Compare keywords that are equal or are not: patterns, formats, and the rare ones."""
        found = []
        for keyword, value in taken.items():
            is_said = keyword not in _COMPARED and says({keyword: value})
            if not is_said or (own is not None and TYPE_OF.get(keyword, own) != own):
                continue
            if keyword not in given or not same(given[keyword], value):
                told = _SAID.get(keyword, f"within its {keyword!r:.40} of ")
                found.append(_new_limit(told + as_json(value)))
        return found

    def _of_items(self, given: Any, taken: Any) -> list[Misfit]:
        found: list[Misfit] = []
        first, rest = items_of(given)
        wanted, others = items_of(taken)
        most = given.get("maxItems")
        for place in range(max(len(first), len(wanted))):
            if is_number(most) and place >= most:
                break
            one = first[place] if place < len(first) else rest
            other = wanted[place] if place < len(wanted) else others
            found += [m.below("[]") for m in self._misfits(one, other)]
        if not (is_number(most) and most <= len(first)):
            found += [m.below("[]") for m in self._misfits(rest, others)]
        return found

    def _of_properties(self, given: Any, taken: Any) -> list[Misfit]:
        has, wants = fields(given, "properties"), fields(taken, "properties")
        others = taken.get("additionalProperties", True)
        # Of one that lists no field nothing is known: it may have any.
        more = given.get("additionalProperties", None if "properties" in given else True)
        is_open = isinstance(more, Mapping) or more is True
        found: list[Misfit] = []
        needed = names_in(taken, "required")
        for name in needed:
            if name not in names_in(given, "required"):
                told = _MISSING if name in has or is_open else _GONE
                found.append(_in_field(name, "is newly required", told))
        for name, schema in wants.items():
            if name in has or is_open:
                found += [m.below(name) for m in self._misfits(has.get(name, more), schema)]
            elif self._receiving and name not in needed:
                found.append(_in_field(name, "is new", _GONE))
        for name in sorted(has.keys() - wants.keys()) if others is False else ():
            found.append(_in_field(name, "is no longer taken", "is new where none may be"))
        for name in [name for name in has if name not in wants and others is not False]:
            found += [m.below(name) for m in self._misfits(has[name], others)]
        if is_open and others is False:
            found.append(_new_limit("without other fields"))
        elif is_open:
            found += [m.below("*") for m in self._misfits(more, others)]
        return found + self._of_keys(given, taken, is_open)

    def _of_keys(self, given: Any, taken: Any, is_open: bool) -> list[Misfit]:
        wanted = taken.get("propertyNames", True)
        if not is_open or wanted is True:
            return []
        return [m.below("(key)") for m in self._misfits(given.get("propertyNames", True), wanted)]


_GONE = "is gone"
_MISSING = "may be missing now"
#: Types of so few values that they are looked at one by one.
_FEW: dict[Any, list[Any]] = {"null": [None], "boolean": [True, False]}
#: Keywords that `Comparer` looks at one by one; all others are equal or not.
_COMPARED = {
    *("type", "enum", "const", "$ref", "allOf", "anyOf", "oneOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", *_LEAST, *_MOST, "multipleOf"),
    *("items", "prefixItems", "properties", "required", "additionalProperties", "propertyNames"),
}
_SAID = {
    "pattern": "matching ",
    "format": "of the format ",
    "contentEncoding": "in ",
    "uniqueItems": "without duplicates: ",
}


def _extra_values(what: str) -> Misfit:
    return Misfit((), f"no longer takes {what}", f"may be {what} now")


def _new_limit(what: str) -> Misfit:
    return Misfit((), f"must be {what} now", f"need not be {what} any more")


def _in_field(name: str, sent: str, received: str) -> Misfit:
    return Misfit((name,), sent, received)


#: Stands for reasons that are not known, or told elsewhere.
_DIFFERS = Misfit((), "is another type now", "is another type now")


def _distance(found: list[Misfit]) -> tuple[int, int]:
    """Tell how far off an option is: one of another kind is further than one with other fields."""
    return (sum(not misfit.path for misfit in found), len(found))


def _kind_of(schema: Any) -> str:
    kind = schema.get("type")
    if kind is None:
        return "any value"
    title = schema.get("title")
    return f"{kind} ({title})" if isinstance(title, str) and len(title) < 60 else str(kind)


def _of_sizes(given: Any, taken: Any) -> list[Misfit]:
    kind = given.get("type")
    found = []
    for keyword, told in (_LEAST | _MOST).items():
        bound, own = taken.get(keyword), given.get(keyword)
        if not is_number(bound) or kind not in (None, TYPE_OF[keyword]):
            continue
        is_least = keyword in _LEAST
        if not (bound <= number(own) if is_least else is_number(own) and own <= bound):
            found.append(_new_limit(told.format(bound)))
    return found


def _of_numbers(given: Any, taken: Any) -> list[Misfit]:
    found = []
    least, above = _lower_bound(given)
    wanted, wanted_above = _lower_bound(taken)
    if wanted is not None and (least is None or (least, above) < (wanted, wanted_above)):
        found.append(_new_limit(f"{'above' if wanted_above else 'at least'} {wanted}"))
    most, below = _upper_bound(given)
    allowed, allowed_below = _upper_bound(taken)
    if allowed is not None and (most is None or (-most, below) < (-allowed, allowed_below)):
        found.append(_new_limit(f"{'below' if allowed_below else 'at most'} {allowed}"))
    step, own = taken.get("multipleOf"), given.get("multipleOf")
    if is_number(step) and not (is_number(own) and step and own % step == 0):
        found.append(_new_limit(f"a multiple of {step}"))
    return found


def _lower_bound(schema: Any) -> tuple[Any, bool]:
    """Return the lower bound of numbers, None for none, and whether it is exclusive."""
    return max(_bounds(schema, "minimum", "exclusiveMinimum", 1), default=(None, False))


def _upper_bound(schema: Any) -> tuple[Any, bool]:
    bounds = _bounds(schema, "maximum", "exclusiveMaximum", -1)
    return min(bounds, key=lambda bound: (bound[0], not bound[1]), default=(None, False))


def _bounds(schema: Any, inclusive: str, exclusive: str, step: int) -> list[tuple[Any, bool]]:
    found = [(schema[inclusive], False)] if is_number(schema.get(inclusive)) else []
    bound = schema.get(exclusive)
    if is_number(bound):
        whole = schema.get("type") == "integer" and bound == int(bound)
        found.append((int(bound) + step, False) if whole else (bound, True))
    return found
