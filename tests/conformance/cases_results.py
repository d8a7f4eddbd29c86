"""What methods give back: results of every kind, errors on purpose, failures, deadlines."""

from tests.support.cases import ABSENT, Error, masked, result

from . import subject_data as data
from .calls import Call, call

#: The other rows of REFUSALS: code, message and data as they arrive.
REFUSED = {
    "data_nan": (-32000, "m", [None]),
    "subclass": (2001, "Out of stock", ABSENT),
    "subclass_message": (2001, "Two are left", 2),
    "subclass_code": (2002, "Out of stock", ABSENT),
}
UNENCODABLE_REFUSALS = ["data_unencodable", "message_lone_surrogate"]
TOO_LARGE_REFUSALS = ["data_large", "message_large"]

TOO_LARGE_ERROR = Error(-32004, id=1)

CASES = [
    *(Call(f"give-{row}", call("give", [row]), result(value)) for row, value in data.SAME.items()),
    *(
        Call(f"give-{row}", call("give", [row]), result(got))
        for row, (_, got) in data.CHANGED.items()
    ),
    *(Call(f"give-{row}", call("give", [row]), masked()) for row in data.UNENCODABLE),
    *(Call(f"give-{row}", call("give", [row]), TOO_LARGE_ERROR) for row in data.TOO_LARGE),
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
        Call(f"refuse-{row}", call("refuse", [row]), Error(code, 1, text, details))
        for row, (code, text, details) in REFUSED.items()
    ),
    *(
        Call(
            f"refuse-{row}",
            call("refuse", [row]),
            Error(given.get("code", -32000), 1, given["message"], given.get("data", ABSENT)),
        )
        for row, given in data.REFUSED_AS_GIVEN.items()
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
        for row in data.FAILURES
    ),
    *(
        Call(f"fail-inside-{row}", call("fail_inside", [row]), masked())
        for row in data.DEEP_FAILURES
    ),
    *(
        Call(f"fail-with-id-{id!a}", call("fail", ["runtime_error"], id=id), masked(id=id))
        for id in ("é", 0, None)
    ),
    Call("deadline", call("oversleep", ["deadline"], id="late"), Error(-32002, id="late"), ran=0),
]
