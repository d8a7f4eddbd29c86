"""Binding parameters to a signature: by position, by name, and every way to get it wrong.

No hints here; those are in cases_hints.py. Every -32602 names all of the faults at once.
"""

from tests.support.cases import ABSENT, Error, InvalidParams, OneOf, masked, result

from .calls import Call, batch, call, call_text, message

LIKE_INTERNALS = dict.fromkeys(("method", "function", "func", "timeout", "request", "context"), 1)
#: The parameters of `awkward_names`.
AWKWARD = ("id", "method", "params", "args", "kwargs", "timeout", "context", "function")


def _both(
    first: int, args: list[object], last: object = "z", **kwargs: object
) -> dict[str, object]:
    """What `echo_both` returns."""
    return {"first": first, "args": args, "last": last, "kwargs": kwargs}


#: Name, method, params, and what the method returns.
BOUND = [
    ("all-by-position", "defaults", [1, 5, 6], [1, 5, 6]),
    ("defaults-by-position", "defaults", [1], [1, 2, None]),
    ("defaults-by-name", "defaults", {"a": 1}, [1, 2, None]),
    ("default-skipped-by-name", "defaults", {"a": 1, "c": 3}, [1, 2, 3]),
    ("null-is-a-value-by-position", "defaults", [None, None], [None, None, None]),
    ("null-is-a-value-by-name", "defaults", {"a": None, "b": None}, [None, None, None]),
    ("falsy-values-survive", "defaults", [0, False, ""], [0, False, ""]),
    ("default-of-only-parameter", "echo", ABSENT, None),
    ("varargs-none", "echo_args", [], []),
    ("varargs-absent", "echo_args", ABSENT, []),
    ("varargs-many", "echo_args", [1, "a", None, [2], {"b": 3}], [1, "a", None, [2], {"b": 3}]),
    ("varargs-1000", "echo_args", list(range(1000)), list(range(1000))),
    ("varargs-with-empty-object", "echo_args", {}, []),
    ("kwargs-none", "echo_kwargs", {}, {}),
    ("kwargs-many", "echo_kwargs", {"a": 1, "b": [2]}, {"a": 1, "b": [2]}),
    ("kwargs-empty-name", "echo_kwargs", {"": 1}, {"": 1}),
    ("kwargs-not-identifiers", "echo_kwargs", {"a b": 1, "é-ü": 2}, {"a b": 1, "é-ü": 2}),
    ("kwargs-keywords", "echo_kwargs", {"class": 1, "def": 2}, {"class": 1, "def": 2}),
    ("kwargs-named-handler", "echo_kwargs", {"handler": 1}, {"handler": 1}),
    ("kwargs-named-dunder-class", "echo_kwargs", {"__class__": 1}, {"__class__": 1}),
    ("kwargs-named-kwargs", "echo_kwargs", {"kwargs": 1, "args": 2}, {"kwargs": 1, "args": 2}),
    ("kwargs-named-like-internals", "echo_kwargs", LIKE_INTERNALS, LIKE_INTERNALS),
    ("mixed-by-position", "echo_both", [1, 2, 3], _both(1, [2, 3])),
    ("mixed-by-name", "echo_both", {"first": 1, "last": 2, "other": 3}, _both(1, [], 2, other=3)),
    (
        "mixed-args-by-name-is-a-kwarg",
        "echo_both",
        {"first": 1, "args": [2]},
        _both(1, []) | {"kwargs": {"args": [2]}},
    ),
    ("positional-only", "positional_only", [1], [1, 2]),
    ("positional-only-all", "positional_only", [1, 3], [1, 3]),
    ("positional-only-in-kwargs", "positional_only_rest", {"a": 5}, {"a": 1, "rest": {"a": 5}}),
    ("keyword-only", "keyword_only", {"width": 4}, [4, 1]),
    ("keyword-only-all", "keyword_only", {"height": 2, "width": 4}, [4, 2]),
    ("internals-by-name", "awkward_names", {name: name for name in AWKWARD[::-1]}, [*AWKWARD]),
    ("internals-by-position", "awkward_names", [*"abcdefgh"], [*"abcdefgh"]),
    ("handler-not-counted-by-position", "with_handler", ["x"], ["x", True]),
    ("handler-not-counted-by-name", "with_handler", {"name": "x"}, ["x", True]),
    ("handler-as-a-value", "with_handler", ["handler"], ["handler", True]),
]

#: Name, method, params, and the parameters at fault (a number is a position).
FAULTY = [
    ("missing-one", "subtract", [1], ("subtrahend",)),
    ("missing-all", "subtract", [], ("minuend", "subtrahend")),
    ("missing-all-absent", "subtract", ABSENT, ("minuend", "subtrahend")),
    ("missing-all-by-name", "subtract", {}, ("minuend", "subtrahend")),
    ("missing-one-by-name", "subtract", {"subtrahend": 1}, ("minuend",)),
    ("surplus-one", "subtract", [1, 2, 3], (2,)),
    ("surplus-three", "subtract", [1, 2, 3, 4, 5], (2, 3, 4)),
    ("surplus-null", "get_data", [None], (0,)),
    ("surplus-to-no-parameters", "get_data", [1, 2], (0, 1)),
    ("surplus-beyond-defaults", "defaults", [1, 2, 3, 4], (3,)),
    ("unknown-one", "get_data", {"x": 1}, ("x",)),
    ("unknown-null", "get_data", {"x": None}, ("x",)),
    ("unknown-several", "get_data", {"x": 1, "y": 2, "z": 3}, ("x", "y", "z")),
    ("unknown-beside-good-ones", "subtract", {"minuend": 1, "subtrahend": 2, "by": 3}, ("by",)),
    ("unknown-and-missing", "subtract", {"minuend": 1, "sub": 2}, ("sub", "subtrahend")),
    ("unknown-in-capitals", "echo", {"Value": 1}, ("Value",)),
    ("unknown-empty-name", "echo", {"": 1}, ("",)),
    ("unknown-with-blank", "echo", {"value ": 1}, ("value ",)),
    ("unknown-outside-ascii", "echo", {"välue": 1, "😀": 2}, ("välue", "😀")),
    ("unknown-number-as-name", "echo", {"0": 1}, ("0",)),
    ("unknown-dotted", "echo", {"value.x": 1}, ("value.x",)),
    ("unknown-markup", "echo", {"<b>": 1, "\u2028": 2, "\x00": 3}, ("<b>", "\u2028", "\x00")),
    ("named-self", "subtract", {"self": 1, "minuend": 1, "subtrahend": 2}, ("self",)),
    ("named-self-and-missing", "subtract", {"self": 1}, ("self", "minuend", "subtrahend")),
    ("named-cls", "echo", {"cls": 1}, ("cls",)),
    ("named-handler", "echo", {"handler": 1}, ("handler",)),
    ("named-dunder-class", "echo", {"__class__": 1}, ("__class__",)),
    ("named-dunder-init", "echo", {"__init__": 1, "__dict__": {}}, ("__init__", "__dict__")),
    ("named-microservice", "v2.tools.sum_3", {"microservice": 1}, ("microservice", "a", "b", "c")),
    ("named-self-into-kwargs", "echo_kwargs", {"self": 1, "a": 2}, ("self",)),
    ("varargs-by-name", "echo_args", {"args": [1]}, ("args",)),
    ("varargs-by-other-name", "sum", {"numbers": [1]}, ("numbers",)),
    ("kwargs-by-position", "echo_kwargs", [1], (0,)),
    ("kwargs-object-by-position", "echo_kwargs", [{"a": 1}], (0,)),
    ("mixed-missing-first", "echo_both", {"last": 1, "other": 2}, ("first",)),
    ("positional-only-missing", "positional_only", [], ("a",)),
    ("positional-only-surplus", "positional_only", [1, 2, 3], (2,)),
    ("positional-only-rest-surplus", "positional_only_rest", [1, 2], (1,)),
    ("keyword-only-missing", "keyword_only", {"height": 1}, ("width",)),
    ("keyword-only-missing-and-unknown", "keyword_only", {"depth": 1}, ("width", "depth")),
    ("keyword-only-by-position", "keyword_only", [1], (0, "width")),
    ("keyword-only-all-by-position", "keyword_only", [1, 2], (0, 1, "width")),
    ("handler-by-name", "with_handler", {"handler": 1, "name": "x"}, ("handler",)),
    ("handler-by-name-alone", "with_handler", {"handler": None}, ("handler", "name")),
    ("handler-surplus-by-position", "with_handler", ["h", "x"], (1,)),
    ("handler-missing-name", "with_handler", [], ("name",)),
]

TOO_MANY = OneOf(Error(-32602, id=1), Error(-32004, id=1))

CASES = [
    *(
        Call(f"bind-{name}", call(method, params), result(got))
        for name, method, params, got in BOUND
    ),
    *(
        Call(f"params-{name}", call(method, params), InvalidParams(*faults))
        for name, method, params, faults in FAULTY
    ),
    # The name of a positional-only parameter is unknown, and the parameter itself missing:
    # one entry under that name, or one for each of the two faults.
    Call(
        "params-positional-only-by-name",
        call("positional_only", {"a": 1}),
        OneOf(InvalidParams("a"), InvalidParams("a", "a")),
    ),
    Call(
        "params-positional-only-by-name-both",
        call("positional_only", {"a": 1, "b": 2}),
        OneOf(InvalidParams("a", "b"), InvalidParams("a", "a", "b")),
    ),
    Call("params-surplus-100", call("get_data", [*range(100)]), InvalidParams(*range(100))),
    # Naming all of these would be a reply many times as long as the request.
    Call("params-surplus-150000", call("get_data", [1] * 150_000), TOO_MANY),
    Call(
        "params-unknown-30000",
        call("subtract", dict.fromkeys(map(str, range(30_000)))),
        TOO_MANY,
    ),
    Call("params-wrong-100000", call("add_all", [""] * 100_000), TOO_MANY),
    Call("params-not-run", call("touch", ["params-not-run", 1]), InvalidParams(1), ran=0),
    *(
        Call(
            f"params-{id!a}-echoed",
            call("subtract", [1], id=id),
            InvalidParams("subtrahend", id=id),
        )
        for id in ("é", None, 0)
    ),
    Call(
        "params-name-twice-last-wins",
        call_text("subtract", '{"minuend":1,"subtrahend":23,"minuend":42}'),
        result(19),
    ),
    Call("params-not-checked-before-name", call("no_such", {"self": 1}), Error(-32601, id=1)),
    # Right for the signature, wrong for the method: the method's own fault, so -32603.
    Call("params-without-hints-unchecked", call("subtract", ["a", 1]), masked()),
    Call("params-varargs-without-hints-unchecked", call("sum", [1, "a"]), masked()),
    Call(
        "params-bad-in-batch",
        batch(
            message("subtract", [1], id=1),
            message("subtract", [42, 23], id=2),
            message("get_data", {"x": 1, "y": 2}, id=3),
        ),
        [InvalidParams("subtrahend", id=1), result(19, id=2), InvalidParams("x", "y", id=3)],
    ),
]
