"""Parameters against type hints: what is taken, what is converted, and who is named at fault.

The hints are strings in the service under test, as under ``from __future__ import annotations``.
"""

from tests.support.cases import InvalidParams, result

from .calls import Call, call, call_text

ITEM = {"sku": "a", "count": 2}
#: Name, method, params, and what the method returns.
TAKEN = [
    ("plain", "register", ["Ann", 7], ["Ann", 7, None]),
    ("optional-given", "register", ["Ann", 7, "a@b.c"], ["Ann", 7, "a@b.c"]),
    ("optional-null", "register", {"name": "Ann", "age": 7, "email": None}, ["Ann", 7, None]),
    ("int-zero", "register", ["", 0, ""], ["", 0, ""]),
    ("int-big", "register", ["Ann", 10**40], ["Ann", 10**40, None]),
    ("int-for-float", "scale", [2], 2.0),
    ("float", "scale", [1.5, 2], 3.0),
    ("bool-false", "switch", [False], False),
    ("literal", "pick", ["small"], "small"),
    ("required-optional-null", "maybe", [None], "None"),
    ("required-optional-zero", "maybe", [0], "0"),
    ("union-int", "either", [1], "int"),
    ("union-str", "either", ["1"], "str"),
    ("any-null", "anything", [None], None),
    ("any-nested", "anything", [{"a": [1, {"b": None}]}], {"a": [1, {"b": None}]}),
    ("dataclass", "place", [{"x": 3, "y": 4}], [3, 4]),
    ("dataclass-default", "place", {"point": {"x": 3}}, [3, 0]),
    ("struct-nested", "ship", [{"items": [ITEM, {"sku": "b", "count": 3}]}], 5),
    ("struct-empty-list", "ship", [{"items": [], "note": None}], 0),
    ("typed-dict", "profile", [{"name": "Ann", "age": 7}], "Ann 7"),
    ("constraint-lower-edge", "level", [0], 0),
    ("constraint-upper-edge", "level", [10], 10),
    ("enum", "paint", ["red"], "RED"),
    ("tuple", "pair", [[1, "a"]], "tuple"),
    ("list-of-lists", "grid", [[[1, 2], [], [3]]], 6),
    ("union-none-given", "grid", [[[1]], {"a": 1}], 1),
    ("varargs", "add_all", [1, 2, 3], 6),
    ("varargs-none", "add_all", [], 0),
    ("kwargs", "set_limits", {"cpu": 1, "memory": 2}, {"cpu": 1, "memory": 2}),
    ("half-typed", "half_typed", [1, {"any": "thing"}], [1, {"any": "thing"}, "c"]),
    ("half-typed-null", "half_typed", {"a": 1, "b": None, "c": "d"}, [1, None, "d"]),
    ("module", "v2.tools.sum_3", {"a": 1, "b": 2, "c": 3}, 6),
]

#: Name, method, params, parameters at fault, words that every reason has.
REFUSED = [
    ("str-for-int", "register", ["Ann", "7"], ("age",), ("int",)),
    ("int-for-str", "register", [7, 7], ("name",), ("str",)),
    ("both-swapped", "register", [7, "Ann"], ("name", "age"), ()),
    ("both-by-name", "register", {"age": "7", "name": None}, ("name", "age"), ()),
    ("all-three", "register", [1, "2", 3], ("name", "age", "email"), ()),
    ("bool-for-int", "register", ["Ann", True], ("age",), ("int",)),
    ("fraction-for-int", "register", ["Ann", 1.5], ("age",), ("int",)),
    ("null-for-int", "register", ["Ann", None], ("age",), ("int",)),
    ("null-for-str", "register", [None, 7], ("name",), ("str",)),
    ("list-for-str", "register", [["Ann"], 7], ("name",), ("str",)),
    ("object-for-str", "register", [{"name": "Ann"}, 7], ("name",), ("str",)),
    ("list-for-int", "register", ["Ann", []], ("age",), ("int",)),
    ("wrong-and-missing", "register", [7], ("name", "age"), ()),
    ("wrong-and-surplus", "register", ["Ann", "7", None, 1], ("age", 3), ()),
    ("wrong-and-unknown", "register", {"name": "A", "age": "7", "x": 1}, ("age", "x"), ()),
    ("all", "register", {"email": 7, "name": 1, "x": 1}, ("email", "name", "x", "age"), ()),
    ("wrong-default-parameter", "scale", {"value": 1, "times": "2"}, ("times",), ("int",)),
    ("str-for-float", "scale", ["1.5"], ("value",), ("float",)),
    ("bool-for-float", "scale", [True], ("value",), ("float",)),
    ("int-for-bool", "switch", [1], ("on",), ("bool",)),
    ("zero-for-bool", "switch", [0], ("on",), ("bool",)),
    ("str-for-bool", "switch", ["true"], ("on",), ("bool",)),
    ("null-for-bool", "switch", [None], ("on",), ("bool",)),
    ("literal-other", "pick", ["medium"], ("size",), ()),
    ("literal-other-case", "pick", ["Small"], ("size",), ()),
    ("literal-null", "pick", [None], ("size",), ()),
    ("optional-wrong-type", "maybe", ["1"], ("value",), ("int",)),
    ("required-optional-missing", "maybe", {}, ("value",), ()),
    ("union-neither", "either", [1.5], ("value",), ("int",)),
    ("union-null", "either", [None], ("value",), ()),
    ("any-missing", "anything", [], ("value",), ()),
    ("dataclass-wrong-field", "place", [{"x": "3"}], ("point",), ("x",)),
    ("dataclass-missing-field", "place", [{"y": 3}], ("point",), ("x",)),
    ("dataclass-as-list", "place", [[3, 4]], ("point",), ()),
    ("dataclass-null", "place", [None], ("point",), ()),
    ("struct-missing-field", "ship", [{}], ("order",), ("items",)),
    ("struct-nested", "ship", [{"items": [ITEM, {**ITEM, "count": "2"}]}], ("order",), ("count",)),
    ("struct-as-string", "ship", ["{}"], ("order",), ()),
    ("typed-dict-missing-key", "profile", [{"name": "Ann"}], ("person",), ("age",)),
    ("typed-dict-wrong-value", "profile", [{"name": 1, "age": 7}], ("person",), ("name",)),
    ("constraint-below", "level", [-1], ("value",), ("0",)),
    ("constraint-above", "level", [11], ("value",), ("10",)),
    ("constraint-wrong-type", "level", ["5"], ("value",), ("int",)),
    ("enum-other", "paint", ["green"], ("color",), ()),
    ("enum-by-member-name", "paint", ["RED"], ("color",), ()),
    ("tuple-too-short", "pair", [[1]], ("value",), ()),
    ("tuple-too-long", "pair", [[1, "a", 2]], ("value",), ()),
    ("tuple-wrong-item", "pair", [["a", 1]], ("value",), ()),
    ("list-item-deep-inside", "grid", [[[1], [2, "3"]]], ("rows",), ("int",)),
    ("list-as-object", "grid", [{"0": [1]}], ("rows",), ()),
    ("dict-wrong-value", "grid", [[[1]], {"a": "b"}], ("labels",), ("int",)),
    ("two-structures", "grid", {"rows": 1, "labels": []}, ("rows", "labels"), ()),
    # The decisions do not say whether a fault inside *args bears the position or the name.
    ("varargs-one", "add_all", [1, "2", 3], ((1, "numbers"),), ("int",)),
    ("kwargs-one", "set_limits", {"cpu": 1, "memory": "2"}, ("memory",), ("int",)),
    ("kwargs-two", "set_limits", {"cpu": None, "memory": "2", "disk": 1}, ("memory", "cpu"), ()),
    ("half-typed-typed-one", "half_typed", ["1", "1"], ("a",), ("int",)),
    ("half-typed-typed-two", "half_typed", {"a": "1", "c": 1}, ("a", "b", "c"), ()),
    ("module-all", "v2.tools.sum_3", ["1", "2", "3"], ("a", "b", "c"), ()),
    ("module-wrong-missing-unknown", "v2.tools.sum_3", {"a": "", "d": 1}, ("a", "b", "c", "d"), ()),
]

CASES = [
    *(
        Call(f"hint-{name}", call(method, params), result(got))
        for name, method, params, got in TAKEN
    ),
    *(
        Call(f"hint-wrong-{name}", call(method, params), InvalidParams(*faults, words=words))
        for name, method, params, faults, words in REFUSED
    ),
    Call(
        "hint-wrong-varargs-several",
        call("add_all", [None, 1, "2"]),
        InvalidParams((0, "numbers"), (2, "numbers")),
    ),
    Call("hint-float-out-of-range", call_text("scale", f"[{'9' * 400}]"), InvalidParams("value")),
    Call(
        "hint-name-twice-last-wins",
        call_text("register", '{"name":"Ann","age":"seven","age":7}'),
        result(["Ann", 7, None]),
    ),
]
