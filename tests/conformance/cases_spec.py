"""The specification's own examples, word for word: JSON-RPC 2.0, section 7.

Bodies are copied as printed there, blanks and line ends included.
"""

from tests.support.cases import NOTHING, Error, result

from .calls import DATA, Call

BATCH = b"""[
    {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
    {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
    {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
    {"foo": "boo"},
    {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
    {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
]"""

BATCH_REPLY = [
    result(7, id="1"),
    result(19, id="2"),
    Error(-32600),
    Error(-32601, id="5"),
    result(DATA, id="9"),
]

NOTIFICATIONS = b"""[
    {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
    {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
]"""

NAMED_3 = (
    b'{"jsonrpc": "2.0", "method": "subtract",'
    b' "params": {"subtrahend": 23, "minuend": 42}, "id": 3}'
)
NAMED_4 = (
    b'{"jsonrpc": "2.0", "method": "subtract",'
    b' "params": {"minuend": 42, "subtrahend": 23}, "id": 4}'
)

CASES = [
    Call(
        "spec-positional",
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        result(19),
    ),
    Call(
        "spec-positional-swapped",
        b'{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        result(-19, id=2),
    ),
    Call("spec-named", NAMED_3, result(19, id=3)),
    Call("spec-named-swapped", NAMED_4, result(19, id=4)),
    Call(
        "spec-notification",
        b'{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}',
        NOTHING,
        204,
    ),
    Call("spec-notification-of-no-method", b'{"jsonrpc": "2.0", "method": "foobar"}', NOTHING, 204),
    Call(
        "spec-method-not-found",
        b'{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        Error(-32601, id="1"),
    ),
    Call(
        "spec-invalid-json",
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        Error(-32700),
    ),
    Call(
        "spec-invalid-request",
        b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
        Error(-32600),
    ),
    Call(
        "spec-batch-invalid-json",
        b"""[
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
]""",
        Error(-32700),
    ),
    Call("spec-batch-empty", b"[]", Error(-32600)),
    Call("spec-batch-of-one-number", b"[1]", [Error(-32600)]),
    Call("spec-batch-of-numbers", b"[1,2,3]", [Error(-32600)] * 3),
    Call("spec-batch", BATCH, BATCH_REPLY),
    Call("spec-batch-of-notifications", NOTIFICATIONS, NOTHING, 204),
]
