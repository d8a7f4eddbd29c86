"""Ids, notifications, the version member and the shape of a request object."""

from tests.support.cases import ABSENT, NOTHING, Error, OneOf, result

from .calls import DATA, Call, call, call_text

DIGITS_4300 = "9" * 4300
DIGITS_4301 = "9" * 4301

#: Name, the id as JSON text, and the value that must come back.
GOOD_IDS = [
    ("zero", "0", 0),
    ("one", "1", 1),
    ("negative", "-7", -7),
    ("minus-zero", "-0", 0),
    ("over-2^53", "9007199254740993", 2**53 + 1),
    ("2^63", "9223372036854775808", 2**63),
    ("2^64", "18446744073709551616", 2**64),
    ("below-minus-2^63", "-9223372036854775809", -(2**63) - 1),
    ("10^40", "1" + "0" * 40, 10**40),
    ("int-of-4300-digits", DIGITS_4300, int(DIGITS_4300)),
    ("float", "1.5", 1.5),
    ("float-without-fraction", "3.0", 3.0),
    ("float-tenth", "0.1", 0.1),
    ("float-minus-zero", "-0.0", -0.0),
    ("float-exponent", "1e2", 100.0),
    ("float-largest", "1.7976931348623157e308", 1.7976931348623157e308),
    ("float-smallest", "5e-324", 5e-324),
    ("null", "null", None),
    ("empty-string", '""', ""),
    ("string", '"abc"', "abc"),
    ("string-of-digit", '"0"', "0"),
    ("string-null", '"null"', "null"),
    ("string-128", f'"{"x" * 128}"', "x" * 128),
    ("string-128-two-bytes-each", f'"{"é" * 128}"', "é" * 128),
    ("string-128-beyond-the-bmp", f'"{"😀" * 128}"', "😀" * 128),
    ("string-escapes", r'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
    ("string-nul", r'"\u0000"', "\x00"),
    ("string-line-separator", '"\u2028"', "\u2028"),
    ("string-surrogate-pair", r'"\ud83d\ude00"', "😀"),
    ("string-markup", '"</script>"', "</script>"),
]

INVALID = Error(-32600)

BAD_IDS = [
    ("true", "true"),
    ("false", "false"),
    ("list", "[1]"),
    ("empty-list", "[]"),
    ("object", '{"a":1}'),
    ("empty-object", "{}"),
    ("string-129", f'"{"x" * 129}"'),
    ("string-129-beyond-the-bmp", f'"{"😀" * 129}"'),
    ("string-100000", f'"{"x" * 100_000}"'),
]

IDS = [
    *(
        Call(f"id-{name}", call_text("subtract", "[42,23]", text), result(19, id=value))
        for name, text, value in GOOD_IDS
    ),
    *(
        Call(f"bad-id-{name}", call_text("touch", f'["bad-id-{name}"]', text), INVALID, ran=0)
        for name, text in BAD_IDS
    ),
    Call(
        "id-of-4301-digits",
        call_text("subtract", "[42,23]", DIGITS_4301),
        OneOf(Error(-32700), INVALID),
    ),
    Call("id-1e999", call_text("subtract", "[42,23]", "1e999"), Error(-32700)),
    Call("id-nan", call_text("subtract", "[42,23]", "NaN"), Error(-32700)),
    Call("id-lone-surrogate", call_text("subtract", "[42,23]", r'"\ud800"'), Error(-32700)),
    Call(
        "id-twice-last-wins",
        b'{"jsonrpc":"2.0","id":1,"method":"get_data","id":2}',
        result(DATA, id=2),
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

BAD_VERSIONS = [
    ("number", 2.0),
    ("integer", 2),
    ("1.0", "1.0"),
    ("2", "2"),
    ("2.1", "2.1"),
    ("trailing-blank", "2.0 "),
    ("null", None),
    ("empty", ""),
    ("true", True),
    ("list", ["2.0"]),
    ("full-width", "\uff12.\uff10"),
]

#: Name, body, and the id that must be echoed.
BAD_REQUESTS = [
    ("object-empty", b"{}", None),
    ("null", b"null", None),
    ("true", b"true", None),
    ("number", b"1", None),
    ("float", b"1.5", None),
    ("empty-string", b'""', None),
    ("string", b'"subtract"', None),
    ("id-only", b'{"id":5}', 5),
    ("no-version", b'{"method":"get_data","id":5}', 5),
    ("version-in-capitals", b'{"JSONRPC":"2.0","method":"get_data","id":5}', 5),
    ("no-method", b'{"jsonrpc":"2.0","id":5}', 5),
    ("no-method-no-id", b'{"jsonrpc":"2.0"}', None),
    ("method-in-capitals", b'{"jsonrpc":"2.0","METHOD":"get_data","id":5}', 5),
    ("method-number", b'{"jsonrpc":"2.0","method":1,"id":5}', 5),
    ("method-null", b'{"jsonrpc":"2.0","method":null,"id":"x"}', "x"),
    ("method-true", b'{"jsonrpc":"2.0","method":true,"id":0}', 0),
    ("method-list", b'{"jsonrpc":"2.0","method":["get_data"],"id":""}', ""),
    ("method-object", b'{"jsonrpc":"2.0","method":{},"id":null}', None),
    ("method-number-bad-id", b'{"jsonrpc":"2.0","method":1,"id":[5]}', None),
    ("params-null", b'{"jsonrpc":"2.0","method":"get_data","params":null,"id":5}', 5),
    ("params-string", b'{"jsonrpc":"2.0","method":"get_data","params":"bar","id":5}', 5),
    ("params-empty-string", b'{"jsonrpc":"2.0","method":"get_data","params":"","id":5}', 5),
    ("params-number", b'{"jsonrpc":"2.0","method":"get_data","params":0,"id":5}', 5),
    ("params-false", b'{"jsonrpc":"2.0","method":"get_data","params":false,"id":5}', 5),
    ("params-string-no-id", b'{"jsonrpc":"2.0","method":"get_data","params":"bar"}', None),
    ("params-null-no-id", b'{"jsonrpc":"2.0","method":"get_data","params":null}', None),
    ("params-bad-and-no-such-method", b'{"jsonrpc":"2.0","method":"no","params":1,"id":5}', 5),
    ("a-response", b'{"jsonrpc":"2.0","result":19,"id":5}', 5),
    ("an-error-response", b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":5}', 5),
]

SHAPES = [
    *(
        Call(
            f"version-{name}",
            call("touch", [f"version-{name}"], jsonrpc=value),
            Error(-32600, id=1),
            ran=0,
        )
        for name, value in BAD_VERSIONS
    ),
    *(
        Call(f"invalid-request-{name}", body, Error(-32600, id=echoed))
        for name, body, echoed in BAD_REQUESTS
    ),
    Call("extra-members-ignored", call("get_data", extra=1, error=None), result(DATA)),
    Call("params-absent", call("get_data"), result(DATA)),
    Call("params-empty-list", call("get_data", []), result(DATA)),
    Call("params-empty-object", call("get_data", {}), result(DATA)),
    Call(
        "members-in-any-order",
        b'{"id":1,"params":[42,23],"method":"subtract","jsonrpc":"2.0"}',
        result(19),
    ),
    Call(
        "whitespace-everywhere",
        b' \r\n\t{ "jsonrpc" : "2.0" ,\n"method"\t: "get_data" , "id" : 1 } \r\n\t ',
        result(DATA),
    ),
    Call(
        "member-names-escaped",
        rb'{"\u006asonrpc":"2.0","m\u0065thod":"get_data","\u0069d":1}',
        result(DATA),
    ),
    Call(
        "method-twice-last-wins",
        b'{"jsonrpc":"2.0","method":"no_such","method":"get_data","id":1}',
        result(DATA),
    ),
    Call(
        "version-twice-last-wins",
        b'{"jsonrpc":"2.0","jsonrpc":"1.0","method":"get_data","id":1}',
        Error(-32600, id=1),
    ),
    Call(
        "params-twice-last-wins",
        b'{"jsonrpc":"2.0","method":"subtract","params":[1,1],"params":[42,23],"id":1}',
        result(19),
    ),
]

CASES = IDS + SHAPES
