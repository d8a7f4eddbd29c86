"""Ids, notifications, the version member and the shape of a request object."""

import json

from tests.support.cases import ABSENT, NOTHING, Error, OneOf, result

from .calls import DATA, Call, call, call_text

INVALID = Error(-32600)
INVALID_1 = Error(-32600, id=1)
PARSE_ERROR = Error(-32700)
GOT = result(DATA)

#: Ids as JSON text: those without blanks, and other ones.
GOOD_IDS = r"""
0 1 -7 -0 9007199254740993 9223372036854775808 18446744073709551616 -9223372036854775809
1.5 3.0 0.1 -0.0 1e2 1.7976931348623157e308 5e-324 null "" "abc" "0" "null" "\"\\\/\b\f\n\r\t"
"\u0000" "\u2028" "\ud83d\ude00" "</script>"
"""
LONG_IDS = ['"\u2028"', "1" + "0" * 40, "9" * 4300, *(f'"{letter * 128}"' for letter in "xé😀")]
BAD_IDS = ["true", "false", "[1]", "[]", '{"a":1}', "{}"]
LONG_BAD_IDS = [f'"{letter * 129}"' for letter in "x😀"] + [f'"{"x" * 100_000}"']
BAD_VERSIONS = (2.0, 2, "1.0", "2", "2.1", "2.0 ", None, "", True, ["2.0"], "\uff12.\uff10")


def _short(text: str) -> str:
    return text if len(text) < 40 else f"{text[:8]}...{len(text)}"


IDS = [
    *(
        Call(
            f"id-{_short(text)}",
            call_text("subtract", "[42,23]", text),
            result(19, json.loads(text)),
        )
        for text in [*GOOD_IDS.split(), *LONG_IDS]
    ),
    *(
        Call(name, call_text("touch", json.dumps([name]), text), INVALID, ran=0)
        for text in [*BAD_IDS, *LONG_BAD_IDS]
        for name in [f"bad-id-{_short(text)}"]
    ),
    Call(
        "id-of-4301-digits",
        call_text("subtract", "[42,23]", "9" * 4301),
        OneOf(PARSE_ERROR, INVALID),
    ),
    *(
        Call(f"broken-id-{text}", call_text("subtract", "[42,23]", text), PARSE_ERROR)
        for text in ("1e999", "NaN", r'"\ud800"')
    ),
    Call("ID", b'{"jsonrpc":"2.0","method":"touch","params":["ID"],"ID":1}', NOTHING, 204, ran=1),
    Call("id-exactly", call("get_data", id=0), b'{"jsonrpc":"2.0","result":["hello",5],"id":0}'),
    *(
        Call(f"id-{id!r}-in-error", call("no_such", id=id), Error(-32601, id=id))
        for id in (None, 0, "", 2**64)
    ),
    Call("note-is-executed", call("touch", ["note-is-executed"], id=ABSENT), NOTHING, 204, ran=1),
    Call("null-is-an-id", call("touch", ["null-is-an-id"], id=None), result(1, id=None), ran=1),
    Call(
        "note-fails", call("fail", ["runtime_error", "note-fails"], id=ABSENT), NOTHING, 204, ran=1
    ),
    Call("note-with-bad-params", call("subtract", [1], id=ABSENT), NOTHING, 204),
    Call("note-refused", call("refuse", ["plain"], id=ABSENT), NOTHING, 204),
    Call("note-unencodable", call("give", ["object"], id=ABSENT), NOTHING, 204),
    Call("note-of-reserved-name", call("rpc.x", id=ABSENT), NOTHING, 204),
]

#: Name, body, and the id that must be echoed.
BAD_REQUESTS = [
    *(
        (text, text.encode(), None)
        for text in ("{}", "null", "true", "1", "1.5", '""', '"subtract"')
    ),
    ("id-only", b'{"id":5}', 5),
    ("no-version", call("get_data", jsonrpc=ABSENT, id=5), 5),
    ("version-in-capitals", b'{"JSONRPC":"2.0","method":"get_data","id":5}', 5),
    ("no-method", call(ABSENT, id=5), 5),
    ("no-method-no-id", call(ABSENT, id=ABSENT), None),
    ("method-in-capitals", b'{"jsonrpc":"2.0","METHOD":"get_data","id":5}', 5),
    *(
        (f"method-{method}", call(method, id=id), id)
        for method, id in ((1, 5), (None, "x"), (True, 0), (["get_data"], ""), ({}, None))
    ),
    ("method-number-bad-id", call(1, id=[5]), None),
    *(
        (f"params-{params!a}", call("get_data", params, id=5), 5)
        for params in (None, "bar", "", 0, False)
    ),
    *(
        (f"params-{params!a}-no-id", call("get_data", params, id=ABSENT), None)
        for params in ("bar", None)
    ),
    ("params-bad-and-no-such-method", call("no", 1, id=5), 5),
    ("a-response", b'{"jsonrpc":"2.0","result":19,"id":5}', 5),
    ("an-error-response", b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":5}', 5),
]

#: Odd ones that are right, or not; of what stands twice the last one wins.
ODD_REQUESTS = [
    ("order", b'{"id":1,"params":[42,23],"method":"subtract","jsonrpc":"2.0"}', result(19)),
    ("blanks", b' \r\n\t{ "jsonrpc" : "2.0" ,\n"method"\t: "get_data" , "id" : 1 } \r\n\t ', GOT),
    ("escapes", rb'{"\u006asonrpc":"2.0","m\u0065thod":"get_data","\u0069d":1}', GOT),
    ("id-twice", b'{"jsonrpc":"2.0","id":2,"method":"get_data","id":1}', GOT),
    ("method-twice", b'{"jsonrpc":"2.0","method":"no_such","method":"get_data","id":1}', GOT),
    ("params-twice", call_text("echo", '[1],"params":[["hello",5]]'), GOT),
    ("version-twice", b'{"jsonrpc":"2.0","jsonrpc":"1.0","method":"get_data","id":1}', INVALID_1),
]

SHAPES = [
    *(
        Call(name, call("touch", [name], jsonrpc=value), INVALID_1, ran=0)
        for value in BAD_VERSIONS
        for name in [f"version-{value!a}"]
    ),
    *(
        Call(f"invalid-request-{name}", body, Error(-32600, id=echoed))
        for name, body, echoed in BAD_REQUESTS
    ),
    Call("extra-members-ignored", call("get_data", extra=1, error=None), GOT),
    *(
        Call(f"params-{params}", call("get_data", params), result(DATA))
        for params in (ABSENT, [], {})
    ),
    *(Call(f"odd-{name}", body, expected) for name, body, expected in ODD_REQUESTS),
]

CASES = IDS + SHAPES
