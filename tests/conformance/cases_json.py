"""Hostile bodies: text that is not JSON, JSON at the edge, and sizes at the limit.

All of it is -32700 unless the JSON grammar allows it. A text that is broken deep inside a
parameter is as broken as one that is broken at the start: nothing of it runs.
"""

import json
from collections.abc import Sequence

from tests.support.cases import REFUSED, Error, OneOf, result

from .calls import Call, call, call_text

LIMIT = 600_000
GOOD = call("get_data")
TEXT = GOOD.decode()
PARSE_ERROR = Error(-32700)

#: Bodies that no JSON parser may take.
NOT_JSON = {
    "empty": (b"", b" \r\n\t "),
    "cut": (b"{", b'{"jsonrpc', b'{"jsonrpc":', b'{"jsonrpc":"2.0","method":"get_da', GOOD[:-1]),
    "cut-later": (GOOD[:-2] + b"-", GOOD[:-2] + b"nul", b"[" + GOOD + b",", b"}"),
    "two": (GOOD + GOOD, GOOD + b"\n" + GOOD),
    "trailing": (GOOD + b" x", GOOD + b"}", GOOD + b"\x00", GOOD + b"\xff"),
    "leading": (b"\x00" + GOOD, b"\x0c" + GOOD, b"\xc2\xa0" + GOOD, b")]}'," + GOOD, b"\xff"),
    "trailing-comma": (GOOD[:-1] + b",}", b"[" + GOOD + b",]"),
    "missing": (GOOD.replace(b",", b""), GOOD.replace(b":", b" ")),
    "quotes": (GOOD.replace(b'"', b"'"), b"{jsonrpc:2.0}"),
    "comment": (GOOD + b"// get", b"/* get */" + GOOD),
    "literals": (b"{'a': None, 'b': True}", GOOD.replace(b"1}", b"Null}")),
    "form": (b"jsonrpc=2.0&method=get_data&id=1",),
    "xml": (b"<methodCall><methodName>get_data</methodName></methodCall>",),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\xca\x02\x00",),
    "numbers": (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" * 4301),
    "bom": (b"\xef\xbb\xbf" + GOOD,),
    "utf": [TEXT.encode(utf) for utf in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")],
    "100000": (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000),
}

#: Broken values; each stands in a parameter, a named one, an ignored member and a batch.
BROKEN_VALUES = {
    "number": (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"[-1e400]"),
    "utf-8": (b'"\xff"', b'"caf\xe9"', b'"\xe2\x82"', b'"\xc0\xaf"'),
    "raw-surrogate": (b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"'),
    "lone-surrogate": (rb'"\ud800"', rb'"\udc00"', rb'{"\ud800":1}'),
    "surrogates": (rb'"\udc00\ud800"', rb'"\ud800\u0041"'),
    "nested": (b"[" * 100_000,),
}

#: Broken values; one place each is enough, the grammar is the parser's own.
BROKEN_GRAMMAR = {
    "number": (b"01", b"+1", b".5", b"5.", b"1e", b"0x10", b"1_000", b"--1"),
    "text": (b'"\x01"', b'"a\nb"', rb'"\x41"', rb'"\u12"'),
    "other": (b"{1:2}", b"[,]", b"True", b"undefined"),
}

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


def _numbered(table: dict[str, Sequence[bytes]]) -> list[tuple[str, bytes]]:
    return [
        (f"{name}-{n}", value) for name, values in table.items() for n, value in enumerate(values)
    ]


NOT_JSON_CASES = [
    *(Call(f"not-json-{name}", body, PARSE_ERROR) for name, body in _numbered(NOT_JSON)),
    *(
        _broken(f"broken-{name}-in-{place}", value, place)
        for name, value in _numbered(BROKEN_VALUES)
        for place in PLACES
    ),
    *(_broken(f"grammar-{name}", value) for name, value in _numbered(BROKEN_GRAMMAR)),
]


#: JSON texts without blanks whose value `echo` gives back.
ECHOED = r"""
18446744073709551617 0.1000000000000000055511151231257827 1e-999 1E+2 [] {} false "\u0000"
"\ud83d\ude00" "\uffff" "\ufeff" "\/" {"a":1,"b":2,"a":3} {"__proto__":{"x":1},"constructor":2}
{"":{"":[]}} {"jsonrpc":"2.0","id":9}
"""
LONG_ECHOED = ['"\uffff"', '"\ufeff"', "7" * 4300, "-" + "7" * 4299, f'"{"é" * 100_000}"', '"\x7f"']
NESTED_300 = "[" * 300 + "]" * 300

TOO_LONG = OneOf(PARSE_ERROR, Error(-32600), Error(-32600, id=1))


def _padded(name: str, size: int) -> bytes:
    return call("touch", [name]).ljust(size)


EDGE_CASES = [
    *(
        Call(f"echo-{text[:40]}", call_text("echo", f"[{text}]"), result(json.loads(text)))
        for text in [*ECHOED.split(), *LONG_ECHOED]
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
