"""Batches: order, notifications, items that fail each on their own, and the cap."""

from .case import Case, call, encode, executed, message
from .matchers import ABSENT, ANY_STRING, NOTHING, Error, InvalidParams, Masked, OneOf, result

CAP = 100
LARGE = "x" * 299_000


def _batch(*items: object) -> bytes:
    return encode(list(items))


def _touches(key: str, count: int) -> list[object]:
    return [message("touch", [key], id=ABSENT) for _ in range(count)]


TEN_THOUSAND = b"[" + b",".join([call("touch", ["T"])] * 10_000) + b"]"

CASES = [
    Case("batch-of-one", _batch(message("get_data")), [result(["hello", 5])]),
    Case(
        "batch-exactly",
        _batch(message("get_data", id="a"), message("no", id=0)),
        b'[{"jsonrpc":"2.0","result":["hello",5],"id":"a"},'
        b'{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":0}]',
    ),
    Case("batch-of-one-notification", _batch(*_touches("one-note", 1)), NOTHING, 204),
    Case(
        "batch-notifications-are-executed",
        _batch(*_touches("batch-notes", 7)),
        NOTHING,
        204,
        effect=executed("batch-notes", 7),
    ),
    Case(
        "batch-of-failing-notifications",
        _batch(
            message("no_such", id=ABSENT),
            message("subtract", [1], id=ABSENT),
            message("fail", ["runtime_error"], id=ABSENT),
            message("vault", id=ABSENT),
        ),
        NOTHING,
        204,
    ),
    Case(
        "batch-order-is-kept",
        _batch(
            message("nap", [0.15, "slow"], id=1),
            message("nap", [0.0, "fast"], id=2),
            message("nap", [0.05, "middle"], id=3),
        ),
        [result("slow", id=1), result("fast", id=2), result("middle", id=3)],
    ),
    Case(
        "batch-same-id-twice",
        _batch(message("echo", ["a"], id=1), message("echo", ["b"], id=1)),
        [result("a"), result("b")],
    ),
    Case(
        "batch-every-id-kind",
        _batch(*(message("echo", id=id) for id in (0, "", None, 1.5, 2**64, "é"))),
        [result(None, id=id) for id in (0, "", None, 1.5, 2**64, "é")],
    ),
    Case(
        "batch-every-error",
        _batch(
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
            Masked(id=3),
            Error(418, id=4, message="Teapot", data=ABSENT),
            Error(-32001, id=5),
            Masked(id=6),
            Error(-32002, id=7),
            Error(-32600, id=8),
            result(["hello", 5], id=9),
        ],
    ),
    Case(
        "batch-items-not-objects",
        _batch(None, True, 1, 1.5, "x", "", [], [1], {}),
        [Error(-32600)] * 9,
    ),
    Case(
        "batch-nested",
        b"[[" + call("touch", ["nested"]) + b"]]",
        [Error(-32600)],
        effect=executed("nested", 0),
    ),
    Case("batch-of-empty-batch", b"[[]]", [Error(-32600)]),
    Case("batch-of-null", b"[null]", [Error(-32600)]),
    Case(
        "batch-bad-ids",
        _batch(*(message("touch", ["batch-bad-id"], id=id) for id in (True, [], {}, "x" * 129))),
        [Error(-32600)] * 4,
        effect=executed("batch-bad-id", 0),
    ),
    Case(
        "batch-invalid-items-keep-their-ids",
        _batch({"id": 5}, {"jsonrpc": "2.0", "method": 1, "id": "six"}, {"id": [7]}),
        [Error(-32600, id=5), Error(-32600, id="six"), Error(-32600)],
    ),
    Case(
        "batch-invalid-item-beside-notifications",
        _batch(*_touches("beside", 2), 1),
        [Error(-32600)],
        effect=executed("beside", 2),
    ),
    Case(
        "batch-one-answer-among-notifications",
        _batch(*_touches("among", 3), message("get_data"), *_touches("among", 3)),
        [result(["hello", 5])],
        effect=executed("among", 6),
    ),
    Case(
        "batch-params-null-in-one",
        _batch(message("get_data", None, id=1), message("get_data", id=2)),
        [Error(-32600, id=1), result(["hello", 5], id=2)],
    ),
    Case(
        "batch-whitespace",
        b" \n[ \t" + call("get_data") + b" \r\n, " + call("get_data", id=2) + b" ] \n",
        [result(["hello", 5]), result(["hello", 5], id=2)],
    ),
    Case(
        "batch-at-cap",
        _batch(*(message("echo", [number], id=number) for number in range(CAP))),
        [result(number, id=number) for number in range(CAP)],
    ),
    Case(
        "batch-over-cap-by-1",
        _batch(*(message("touch", ["cap+1"], id=number) for number in range(CAP + 1))),
        Error(-32600, message=ANY_STRING),
        effect=executed("cap+1", 0),
    ),
    Case(
        "batch-over-cap-of-notifications",
        _batch(*_touches("cap-notes", CAP + 1)),
        Error(-32600, message=ANY_STRING),
        effect=executed("cap-notes", 0),
    ),
    Case("batch-over-cap-of-numbers", _batch(*range(CAP + 1)), Error(-32600, message=ANY_STRING)),
    Case(
        "batch-of-10000",
        TEN_THOUSAND.replace(b" ", b""),
        Error(-32600, message=ANY_STRING),
        effect=executed("T", 0),
    ),
    Case(
        "batch-of-200000-numbers", b"[" + b"1," * 199_999 + b"1]", Error(-32600, message=ANY_STRING)
    ),
    Case(
        "batch-exceptions-outside-exception",
        _batch(
            message("fail", ["generator_exit"], id=1),
            message("fail", ["system_exit"], id=2),
            message("fail", ["own_base_exception"], id=3),
            message("fail", ["gevent_timeout"], id=4),
            message("nap", [0.01, "x"], id=5),
        ),
        [Masked(id=1), Masked(id=2), Masked(id=3), Masked(id=4), result("x", id=5)],
    ),
    Case(
        "batch-all-items-fail",
        _batch(*(message("fail", ["runtime_error"], id=number) for number in range(CAP))),
        [Masked(id=number) for number in range(CAP)],
    ),
    Case(
        "batch-too-large-altogether",
        _batch(*(message("give", ["large"], id=number) for number in range(3))),
        OneOf(
            Error(-32004),
            [result(LARGE, id=0), Error(-32004, id=1), Error(-32004, id=2)],
            [Error(-32004, id=0), Error(-32004, id=1), Error(-32004, id=2)],
        ),
    ),
    Case(
        "batch-result-too-large-in-one",
        _batch(message("give", ["too_large"], id=1), message("get_data", id=2)),
        [Error(-32004, id=1), result(["hello", 5], id=2)],
    ),
]
