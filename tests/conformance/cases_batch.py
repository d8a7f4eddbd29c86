"""Batches: order, notifications, items that fail each on their own, and the cap."""

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
INVALID = Error(-32600)
#: Ids of every kind.
IDS = (0, "", None, 1.5, 2**64, "é")


def _touches(name: str, before: int, *between: object, after: int = 0) -> bytes:
    """A batch of notifications of `touch`, and others between them."""
    touch = message("touch", [name], id=ABSENT)
    return batch(*[touch] * before, *between, *[touch] * after)


def _each(method: str, params: list[object], count: int) -> bytes:
    """A batch of so many calls; their ids are numbers from 0."""
    return batch(*(message(method, params, id=number) for number in range(count)))


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
        batch(
            message("nap", [0.15, "slow"], id=1),
            message("nap", [0.0, "fast"], id=2),
            message("nap", [0.05, "middle"], id=3),
        ),
        [result("slow", id=1), result("fast", id=2), result("middle", id=3)],
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
        batch(
            message("no_such", id=1),
            message("get_data", [1], id=2),
            message("fail", ["runtime_error"], id=3),
            message("refuse", ["code"], id=4),
            message("vault", id=5),
            message("give", ["object"], id=6),
            message("oversleep", id=7),
            message("get_data", id=8, jsonrpc="1.0"),
            message("get_data", id=9),
        ),
        [
            Error(-32601, id=1),
            InvalidParams(0, id=2),
            masked(id=3),
            Error(418, id=4, message="Teapot", data=ABSENT),
            Error(-32001, id=5),
            masked(id=6),
            Error(-32002, id=7),
            Error(-32600, id=8),
            result(DATA, id=9),
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
        batch(*(message("echo", [number], id=number) for number in range(CAP))),
        [result(number, id=number) for number in range(CAP)],
    ),
    Call("batch-over-cap-by-1", _each("touch", ["batch-over-cap-by-1"], CAP + 1), REFUSED, ran=0),
    Call("batch-over-cap-of-notes", _touches("batch-over-cap-of-notes", CAP + 1), REFUSED, ran=0),
    Call("batch-over-cap-of-numbers", batch(*range(CAP + 1)), REFUSED),
    Call("batch-of-10000", batch(*[message("get_data")] * 10_000), REFUSED),
    Call("batch-of-200000-numbers", b"[" + b"1," * 199_999 + b"1]", REFUSED),
    Call(
        "batch-exceptions-outside-exception",
        batch(
            message("fail", ["generator_exit"], id=1),
            message("fail", ["system_exit"], id=2),
            message("fail", ["own_base_exception"], id=3),
            message("fail", ["gevent_timeout"], id=4),
            message("nap", [0.01, "x"], id=5),
        ),
        [*(masked(id=number) for number in (1, 2, 3, 4)), result("x", id=5)],
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
            [result("x" * 299_000, id=0), Error(-32004, id=1), Error(-32004, id=2)],
            [Error(-32004, id=0), Error(-32004, id=1), Error(-32004, id=2)],
        ),
    ),
    Call(
        "batch-result-too-large-in-one",
        batch(message("give", ["too_large"], id=1), message("get_data", id=2)),
        [Error(-32004, id=1), result(DATA, id=2)],
    ),
]
