"""Hostile bodies: text that is not JSON, JSON at the edge, and sizes at the limit.

All of it is -32700 unless the JSON grammar allows it. A text that is broken deep inside a
parameter is as broken as one that is broken at the start: nothing of it runs.
"""

from tests.support.cases import REFUSED, Error, OneOf, result

from .calls import Call, call, call_text

LIMIT = 600_000
GOOD = call("get_data")
PARSE_ERROR = Error(-32700)

#: Name and a body that no JSON parser may take.
NOT_JSON = [
    ("empty", b""),
    ("blank", b" \r\n\t "),
    ("cut-after-brace", b"{"),
    ("cut-in-name", b'{"jsonrpc'),
    ("cut-after-colon", b'{"jsonrpc":'),
    ("cut-before-last-brace", GOOD[:-1]),
    ("cut-in-string", b'{"jsonrpc":"2.0","method":"get_da'),
    ("cut-in-number", b'{"jsonrpc":"2.0","method":"get_data","id":-'),
    ("cut-in-literal", b'{"jsonrpc":"2.0","method":"get_data","id":nul'),
    ("cut-in-batch", b"[" + GOOD + b","),
    ("only-closing-brace", b"}"),
    ("two-documents", GOOD + GOOD),
    ("two-lines", GOOD + b"\n" + GOOD),
    ("trailing-text", GOOD + b" x"),
    ("trailing-brace", GOOD + b"}"),
    ("trailing-nul", GOOD + b"\x00"),
    ("leading-nul", b"\x00" + GOOD),
    ("leading-form-feed", b"\x0c" + GOOD),
    ("leading-no-break-space", b"\xc2\xa0" + GOOD),
    ("xssi-prefix", b")]}'," + GOOD),
    ("trailing-comma-object", GOOD[:-1] + b",}"),
    ("trailing-comma-batch", b"[" + GOOD + b",]"),
    ("missing-comma", GOOD.replace(b",", b"")),
    ("missing-colon", GOOD.replace(b":", b" ")),
    ("single-quotes", GOOD.replace(b'"', b"'")),
    ("no-quotes", b"{jsonrpc:2.0}"),
    ("line-comment", GOOD + b"// get"),
    ("block-comment", b"/* get */" + GOOD),
    ("python-literals", b"{'a': None, 'b': True}"),
    ("capital-null", GOOD.replace(b"1}", b"Null}")),
    ("form", b"jsonrpc=2.0&method=get_data&id=1"),
    ("xml", b"<methodCall><methodName>get_data</methodName></methodCall>"),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\xca\x02\x00"),
    ("nan", b"NaN"),
    ("infinity", b"Infinity"),
    ("minus-infinity", b"-Infinity"),
    ("1e999", b"1e999"),
    ("minus-1e999", b"-1e999"),
    ("bom", b"\xef\xbb\xbf" + GOOD),
    ("utf-16", GOOD.decode().encode("utf-16")),
    ("utf-16-le", GOOD.decode().encode("utf-16-le")),
    ("utf-16-be", GOOD.decode().encode("utf-16-be")),
    ("utf-32", GOOD.decode().encode("utf-32")),
    ("byte-ff", b"\xff"),
    ("byte-ff-after", GOOD + b"\xff"),
    ("100000-brackets", b"[" * 100_000),
    ("100000-objects", b'{"a":' * 100_000),
    ("100000-brackets-closed", b"[" * 100_000 + b"]" * 100_000),
    ("int-alone-of-4301-digits", b"1" * 4301),
]

#: Name and a broken value; each stands in a parameter, a named one, an ignored member and a batch.
BROKEN_VALUES = [
    ("nan", b"NaN"),
    ("infinity", b"Infinity"),
    ("minus-infinity", b"-Infinity"),
    ("1e999", b"1e999"),
    ("minus-1e400", b"[-1e400]"),
    ("byte-ff", b'"\xff"'),
    ("latin-1", b'"caf\xe9"'),
    ("cut-utf-8", b'"\xe2\x82"'),
    ("overlong-slash", b'"\xc0\xaf"'),
    ("raw-surrogate", b'"\xed\xa0\x80"'),
    ("beyond-unicode", b'"\xf4\x90\x80\x80"'),
    ("lone-high-surrogate", rb'"\ud800"'),
    ("lone-low-surrogate", rb'"\udc00"'),
    ("surrogates-swapped", rb'"\udc00\ud800"'),
    ("high-surrogate-and-letter", rb'"\ud800\u0041"'),
    ("surrogate-as-name", rb'{"\ud800":1}'),
]

#: Name and a broken value; one place each is enough, the grammar is the parser's own.
BROKEN_GRAMMAR = [
    ("leading-zero", b"01"),
    ("leading-plus", b"+1"),
    ("no-digit-before-point", b".5"),
    ("no-digit-after-point", b"5."),
    ("no-exponent", b"1e"),
    ("hexadecimal", b"0x10"),
    ("underscore", b"1_000"),
    ("double-minus", b"--1"),
    ("raw-control-character", b'"\x01"'),
    ("raw-newline-in-string", b'"a\nb"'),
    ("bad-escape", rb'"\x41"'),
    ("short-unicode-escape", rb'"\u12"'),
    ("number-as-name", b"{1:2}"),
    ("only-comma", b"[,]"),
    ("true-in-capitals", b"True"),
    ("undefined", b"undefined"),
]


#: Where a broken value stands in a call of `touch(key)`.
PLACES = {
    "param": b'{"jsonrpc":"2.0","method":"touch","params":["%(key)b",%(value)b],"id":1}',
    "named-param": b'{"jsonrpc":"2.0","method":"touch",'
    b'"params":{"key":"%(key)b","x":{"y":%(value)b}},"id":1}',
    "ignored-member": b'{"jsonrpc":"2.0","method":"touch",'
    b'"params":["%(key)b"],"id":1,"ignored":%(value)b}',
    "batch": b'[{"jsonrpc":"2.0","method":"touch","params":["%(key)b"],"id":1},'
    b'{"jsonrpc":"2.0","method":"touch","params":["%(key)b"],"id":1,"ignored":%(value)b}]',
}


def _broken(name: str, value: bytes, place: str = "param") -> Call:
    body = PLACES[place] % {b"key": name.encode(), b"value": value}
    return Call(name, body, PARSE_ERROR, ran=0)


NOT_JSON_CASES = [
    *(Call(f"not-json-{name}", body, PARSE_ERROR) for name, body in NOT_JSON),
    *(
        _broken(f"broken-{name}-in-{place}", value, place)
        for name, value in [*BROKEN_VALUES, ("nested-100000", b"[" * 100_000)]
        for place in PLACES
    ),
    *(_broken(f"grammar-{name}", value) for name, value in BROKEN_GRAMMAR),
]

#: Name, the value as JSON text, and the value that `echo` gives back.
ECHOED = [
    ("int-of-4300-digits", "7" * 4300, int("7" * 4300)),
    ("negative-int-of-4299-digits", "-" + "7" * 4299, -int("7" * 4299)),
    ("2^64-plus-1", str(2**64 + 1), 2**64 + 1),
    ("float-of-many-digits", "0.1000000000000000055511151231257827", 0.1),
    ("float-underflow", "1e-999", 0.0),
    ("exponent-capital", "1E+2", 100.0),
    ("nul-escaped", r'"\u0000"', "\x00"),
    ("delete-raw", '"\x7f"', "\x7f"),
    ("surrogate-pair", r'"\ud83d\ude00"', "😀"),
    ("noncharacter", '"\uffff"', "\uffff"),
    ("bom-inside-string", '"\ufeff"', "\ufeff"),
    ("solidus-escaped", r'"\/"', "/"),
    ("key-twice-last-wins", '{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
    ("key-proto", '{"__proto__":{"x":1},"a":2}', {"__proto__": {"x": 1}, "a": 2}),
    ("key-constructor", '{"constructor":2}', {"constructor": 2}),
    ("key-empty", '{"":{"":[]}}', {"": {"": []}}),
    ("empty-list", "[]", []),
    ("empty-object", "{}", {}),
    ("false", "false", False),
    ("pretending-response", '{"jsonrpc":"2.0","id":9}', {"jsonrpc": "2.0", "id": 9}),
    ("string-of-100000", '"' + "é" * 100_000 + '"', "é" * 100_000),
]


NESTED_300 = "[" * 300 + "]" * 300

TOO_LONG = OneOf(PARSE_ERROR, Error(-32600), Error(-32600, id=1))


def _padded(name: str, size: int) -> bytes:
    return call("touch", [name]).ljust(size)


EDGE_CASES = [
    *(
        Call(f"echo-{name}", call_text("echo", f"[{text}]"), result(got))
        for name, text, got in ECHOED
    ),
    Call(
        "echo-nested-300",
        call_text("echo", f"[{NESTED_300}]"),
        b'{"jsonrpc":"2.0","result":%b,"id":1}' % NESTED_300.encode(),
    ),
    Call(
        "echo-negative-int-of-4300-digits",
        call_text("echo", "[-" + "7" * 4300 + "]"),
        # msgspec counts the sign as a digit and refuses this one; Python alone takes it.
        OneOf(result(-int("7" * 4300)), PARSE_ERROR),
    ),
    *(
        Call(f"echo-int-of-{digits}-digits", call_text("echo", f"[{'7' * digits}]"), TOO_LONG)
        for digits in (4301, 100_000)
    ),
    Call("body-at-limit", _padded("body-at-limit", LIMIT), result(1), ran=1),
    *(
        Call(name, _padded(name, size), REFUSED, 413, ran=0)
        for name, size in {"body-over-limit-by-1": LIMIT + 1, "body-of-3-limits": 3 * LIMIT}.items()
    ),
    Call("body-over-limit-by-1-not-json", b"[" * (LIMIT + 1), REFUSED, 413),
]

CASES = NOT_JSON_CASES + EDGE_CASES
