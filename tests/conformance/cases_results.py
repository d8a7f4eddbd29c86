"""What methods give back: results of every kind, errors on purpose, failures, deadlines."""

from tests.support.cases import ABSENT, Error, masked, result

from .calls import Call, call
from .subject_data import DEEP_FAILURES, FAILURES, REFUSALS, RESULTS

#: The row of RESULTS, and what arrives. `None` of JSON is in here too, hence no default.
GIVEN = {
    "none": None,
    "false": False,
    "true": True,
    "zero": 0,
    "empty_string": "",
    "empty_list": [],
    "empty_object": {},
    "one_point_zero": 1.0,
    "minus_zero": -0.0,
    "nan": None,
    "infinity": None,
    "minus_infinity": None,
    "nested_nan": {"a": [1, None, {"b": None}]},
    "big_int": 10**40,
    "int_4300_digits": 10**4300 - 1,
    "unicode": 'Größe \u2028 \x00 \x7f 😀 "\\/',
    "tuple": [1, [2, 3]],
    "int_keys": {"1": "a", "2": "b"},
    "dataclass": {"x": 3, "y": 4},
    "struct": {"items": [{"sku": "x", "count": 2}], "note": None},
    "enum": "blue",
    "error_shape": {"error": {"code": 1, "message": "m"}, "id": 7},
    "large": "x" * 299_000,
    "long_list": [*range(5000), None, {"a": None}],
    "long_object": {str(number): [number] for number in range(5000)},
    "long_list_of_long_lists": [list(range(2000))] * 20,
}

#: Rows of RESULTS that no JSON can carry.
UNENCODABLE = [
    "object",
    "object_in_list",
    "exception",
    "circle",
    "too_deep",
    "lone_surrogate",
    "lone_surrogate_key",
    "tuple_keys",
    "generator",
    "function",
    "int_4301_digits",
    "long_list_unencodable_at_the_end",
    "long_object_unencodable_at_the_end",
]

TOO_LARGE = ["too_large", "too_large_list", "too_large_nested", "too_large_object"]

#: The row of REFUSALS, and code, message and data as they arrive.
REFUSED = {
    "plain": (-32000, "No such user", ABSENT),
    "empty_message": (-32000, "", ABSENT),
    "unicode": (-32000, "Größe \u2028 😀", ABSENT),
    "code": (418, "Teapot", ABSENT),
    "code_zero": (0, "Nothing", ABSENT),
    "code_negative": (-1, "Below", ABSENT),
    "as_invalid_params": (-32602, "Too young", ABSENT),
    "as_not_found": (-32601, "No such page", "page 7"),
    "data_zero": (-32000, "m", 0),
    "data_none": (-32000, "m", None),
    "data_false": (-32000, "m", False),
    "data_empty_string": (-32000, "m", ""),
    "data_empty_list": (-32000, "m", []),
    "data_empty_object": (-32000, "m", {}),
    "data_object": (-32000, "m", {"id": 7, "left": [0, None]}),
    "data_nan": (-32000, "m", [None]),
    "subclass": (2001, "Out of stock", ABSENT),
    "subclass_message": (2001, "Two are left", 2),
    "subclass_code": (2002, "Out of stock", ABSENT),
}

UNENCODABLE_REFUSALS = ["data_unencodable", "message_lone_surrogate"]
TOO_LARGE_REFUSALS = ["data_large", "message_large"]

# A row that no case names would be a method outcome that nobody looks at.
assert set(RESULTS) == {*GIVEN, *UNENCODABLE, *TOO_LARGE}
assert set(REFUSALS) == {*REFUSED, *UNENCODABLE_REFUSALS, *TOO_LARGE_REFUSALS}

TOO_LARGE_ERROR = Error(-32004, id=1)

CASES = [
    *(Call(f"give-{row}", call("give", [row]), result(value)) for row, value in GIVEN.items()),
    *(Call(f"give-{row}", call("give", [row]), masked()) for row in UNENCODABLE),
    *(Call(f"give-{row}", call("give", [row]), TOO_LARGE_ERROR) for row in TOO_LARGE),
    Call("give-too-large-id", call("give", ["too_large"], id="é"), Error(-32004, id="é")),
    Call(
        "give-nothing-exactly",
        call("give", ["none"], id=None),
        b'{"jsonrpc":"2.0","result":null,"id":null}',
    ),
    Call(
        "give-nested-nan-exactly",
        call("give", ["nested_nan"], id=2),
        b'{"jsonrpc":"2.0","result":{"a":[1,null,{"b":null}]},"id":2}',
    ),
    Call(
        "give-text-in-utf-8-exactly",
        call("echo", ["é😀"], id="ü"),
        '{"jsonrpc":"2.0","result":"é😀","id":"ü"}'.encode(),
    ),
    *(
        Call(f"refuse-{row}", call("refuse", [row]), Error(code, 1, text, data))
        for row, (code, text, data) in REFUSED.items()
    ),
    *(Call(f"refuse-{row}", call("refuse", [row]), masked()) for row in UNENCODABLE_REFUSALS),
    *(Call(f"refuse-{row}", call("refuse", [row]), TOO_LARGE_ERROR) for row in TOO_LARGE_REFUSALS),
    Call(
        "refuse-data-null-exactly",
        call("refuse", ["data_none"], id="a"),
        b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"m","data":null},"id":"a"}',
    ),
    Call(
        "refuse-no-data-exactly",
        call("refuse", ["code_zero"], id=0.5),
        b'{"jsonrpc":"2.0","error":{"code":0,"message":"Nothing"},"id":0.5}',
    ),
    *(
        Call(f"fail-{row}", call("fail", {"kind": row, "key": f"fail-{row}"}), masked(), ran=1)
        for row in FAILURES
    ),
    *(Call(f"fail-inside-{row}", call("fail_inside", [row]), masked()) for row in DEEP_FAILURES),
    *(
        Call(f"fail-with-id-{id!a}", call("fail", ["runtime_error"], id=id), masked(id=id))
        for id in ("é", 0, None)
    ),
    Call("deadline", call("oversleep", ["deadline"], id="late"), Error(-32002, id="late"), ran=0),
]
