"""Batches: order, notifications, items that fail each on their own, and the cap."""

from typing import Any

from tests.support.cases import (
    ABSENT,
    NOTHING,
    REFUSED,
    Error,
    InvalidParams,
    OneOf,
    masked,
    result,
)

from .calls import DATA, Call, batch, call, message

CAP = 100
#: Rows of FAILURES outside `Exception`.
UNUSUAL = ("generator_exit", "system_exit", "own_base_exception", "gevent_timeout")
INVALID = Error(-32600)
#: Ids of every kind.
IDS = (0, "", None, 1.5, 2**64, "é")


def _touches(name: str, before: int, *between: object, after: int = 0) -> bytes:
    """A batch of notifications of `touch`, and others between them."""
    touch = message("touch", [name], id=ABSENT)
    return batch(*[touch] * before, *between, *[touch] * after)


def _calls(*calls: tuple[Any, ...]) -> bytes:
    """A batch of calls, each a method and its parameters; their ids are numbers from 0."""
    return batch(*(message(*call, id=number) for number, call in enumerate(calls)))


def _each(method: str, params: list[object], count: int) -> bytes:
    return _calls(*[(method, params)] * count)


CASES = [
    Call("batch-of-one", batch(message("get_data")), [result(DATA)]),
    Call(
        "batch-exactly",
        batch(message("get_data", id="a"), message("no", id=0)),
        b'[{"jsonrpc":"2.0","result":["hello",5],"id":"a"},'
        b'{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":0}]',
    ),
    Call("batch-one-note", _touches("batch-one-note", 1), NOTHING, 204, ran=1),
    Call("batch-notes", _touches("batch-notes", 7), NOTHING, 204, ran=7),
    Call(
        "batch-of-failing-notifications",
        batch(
            message("no_such", id=ABSENT),
            message("subtract", [1], id=ABSENT),
            message("fail", ["runtime_error"], id=ABSENT),
            message("vault", id=ABSENT),
        ),
        NOTHING,
        204,
    ),
    Call(
        "batch-order-is-kept",
        _calls(("nap", [0.15, "slow"]), ("nap", [0.0, "fast"]), ("nap", [0.05, "middle"])),
        [result("slow", id=0), result("fast", id=1), result("middle", id=2)],
    ),
    Call(
        "batch-same-id-twice",
        batch(message("echo", ["a"], id=1), message("echo", ["b"], id=1)),
        [result("a"), result("b")],
    ),
    Call(
        "batch-every-id-kind",
        batch(*(message("echo", id=id) for id in IDS)),
        [result(None, id=id) for id in IDS],
    ),
    Call(
        "batch-every-error",
        _calls(
            *(("no_such",), ("get_data", [1]), ("fail", ["runtime_error"]), ("refuse", ["code"])),
            *(("vault",), ("give", ["object"]), ("oversleep",), (1,), ("get_data",)),
        ),
        [
            *(Error(-32601, id=0), InvalidParams(0, id=1), masked(id=2)),
            *(Error(418, 3, "Teapot", ABSENT), Error(-32001, id=4), masked(id=5)),
            *(Error(-32002, id=6), Error(-32600, id=7), result(DATA, id=8)),
        ],
    ),
    Call("batch-no-objects", batch(None, True, 1, 1.5, "x", "", [], [1], {}), [INVALID] * 9),
    Call("batch-nested", b"[[%b]]" % call("touch", ["batch-nested"]), [INVALID], ran=0),
    Call("batch-of-empty-batch", b"[[]]", [INVALID]),
    Call("batch-of-null", b"[null]", [INVALID]),
    Call(
        "batch-bad-ids",
        batch(*(message("touch", ["batch-bad-ids"], id=id) for id in (True, [], {}, "x" * 129))),
        [INVALID] * 4,
        ran=0,
    ),
    Call(
        "batch-invalid-items-keep-their-ids",
        batch({"id": 5}, {"jsonrpc": "2.0", "method": 1, "id": "six"}, {"id": [7]}),
        [Error(-32600, id=5), Error(-32600, id="six"), INVALID],
    ),
    Call(
        "batch-invalid-beside-notes", _touches("batch-invalid-beside-notes", 2, 1), [INVALID], ran=2
    ),
    Call(
        "batch-one-answer-among-notifications",
        _touches("batch-one-answer-among-notifications", 3, message("get_data"), after=3),
        [result(DATA)],
        ran=6,
    ),
    Call(
        "batch-params-null-in-one",
        batch(message("get_data", None, id=1), message("get_data", id=2)),
        [Error(-32600, id=1), result(DATA, id=2)],
    ),
    Call(
        "batch-whitespace",
        b" \n[ \t" + call("get_data") + b" \r\n, " + call("get_data", id=2) + b" ] \n",
        [result(DATA), result(DATA, id=2)],
    ),
    Call(
        "batch-at-cap",
        _calls(*(("echo", [number]) for number in range(CAP))),
        [result(number, id=number) for number in range(CAP)],
    ),
    Call("batch-over-cap-by-1", _each("touch", ["batch-over-cap-by-1"], CAP + 1), REFUSED, ran=0),
    Call("batch-over-cap-of-notes", _touches("batch-over-cap-of-notes", CAP + 1), REFUSED, ran=0),
    Call("batch-over-cap-of-numbers", batch(*range(CAP + 1)), REFUSED),
    Call("batch-of-10000", batch(*[message("get_data")] * 10_000), REFUSED),
    Call("batch-of-200000-numbers", b"[" + b"1," * 199_999 + b"1]", REFUSED),
    Call(
        "batch-exceptions-outside-exception",
        _calls(*(("fail", [row]) for row in UNUSUAL), ("nap", [0.01, "x"])),
        [*(masked(id=number) for number in range(4)), result("x", id=4)],
    ),
    Call(
        "batch-all-items-fail",
        _each("fail", ["runtime_error"], CAP),
        [masked(id=number) for number in range(CAP)],
    ),
    Call(
        "batch-too-large-altogether",
        _each("give", ["large"], 3),
        OneOf(
            Error(-32004),
            [result("x" * 299_000, id=0), *(Error(-32004, id=number) for number in (1, 2))],
            [Error(-32004, id=number) for number in range(3)],
        ),
    ),
    Call(
        "batch-result-too-large-in-one",
        _calls(("give", ["too_large"]), ("get_data",)),
        [Error(-32004, id=0), result(DATA, id=1)],
    ),
]
