"""What test_fuzz.py sends: mutated streams of requests, and mutated JSON bodies."""

import json
from collections.abc import Sequence

from hypothesis import strategies as st

from .requests_table import CASES

_TOKENS = [
    *b"\r \n \t \0 : ; , . / ? # % * + - _ 0 1 5 a f \x7f \x80 \xff".split(b" "),
    *[b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"  ", b"\r\n ", b"\r\n\t"],
    *[b"0\r\n\r\n", b"3\r\nabc\r\n"],
    *[b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /", b" HTTP/1.1", b" HTTP/1.0"],
    *[b"Host: a\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content_Length: 3\r\n"],
    *[b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding:\r\n"],
    *[b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"],
    *[b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"X-Forwarded-For: 1.2.3.4\r\n", b"chunked"],
    *[b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n", b"100000000000000000000", b"ffffffffffffffff"],
    *[b"{", b"}", b"[", b"]", b'"', b"null", b"true", b"1e999", b"NaN", b"\\u0000", b"\\ud800"],
    *[b'"id":1', b'"method":"echo"', b'"params":[]', b'"jsonrpc":"2.0"', b"[" * 300],
]
_KINDS = ["insert", "delete", "replace", "repeat", "flip", "swap"]

mutations = st.tuples(
    st.sampled_from(_KINDS), st.integers(0, 1 << 16), st.integers(1, 40), st.sampled_from(_TOKENS)
)


def mutate(text: bytes, many: Sequence[tuple[str, int, int, bytes]]) -> bytes:
    for kind, place, size, token in many:
        place %= len(text) + 1
        before, here, after = text[:place], text[place : place + size], text[place + size :]
        if kind == "insert":
            text = before + token + here + after
        elif kind == "delete":
            text = before + after
        elif kind == "replace":
            text = before + token + after
        elif kind == "repeat":
            text = before + here + here + after
        elif kind == "flip" and here:
            text = before + bytes([here[0] ^ 1 << size % 8]) + here[1:] + after
        elif kind == "swap":
            text = after + here + before
    return text


# Streams of requests

#: Longer ones would only be slow.
_LONGEST = 2000
_REQUESTS = [case.sent for case in CASES if len(case.sent) <= _LONGEST]
_GOOD = [case.sent for case in CASES if case.kept and len(case.sent) <= _LONGEST]

streams = st.builds(
    lambda before, one, after, many: mutate(b"".join([*before, one, *after]), many),
    st.lists(st.sampled_from(_GOOD), max_size=2),
    st.sampled_from(_REQUESTS),
    st.lists(st.sampled_from(_REQUESTS), max_size=1),
    st.lists(mutations, max_size=6),
)
places = st.lists(st.integers(1, 1 << 12), max_size=4)


# JSON bodies

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**30, 1e308, "", "2.0", "echo", "\ud800"]),
)
_values = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=3),
    st.dictionaries(st.text(max_size=4), st.lists(_scalars, max_size=2), max_size=3),
)
#: What the methods take, so that some calls get as far as the method.
_fitting = st.sampled_from(
    [
        ("echo", ["x"]),
        ("echo", {"value": None}),
        ("add", [1, 2]),
        ("add", {"a": 10**30}),
        ("join", [["a", "b"]]),
        ("join", {"words": [], "by": "-"}),
        ("total", [1, 2.5, 1e308, 1e308]),
        ("named", {"first": 3, "more": {"x": 1}}),
    ]
).map(lambda call: {"jsonrpc": "2.0", "method": call[0], "params": call[1], "id": 1})
_odd = st.fixed_dictionaries(
    {
        "jsonrpc": st.sampled_from(["2.0"] * 7 + ["1.0", 2]),
        "method": st.sampled_from(["echo", "add", "join", "total", "named", "rpc.x", "", 5]),
    },
    optional={
        "id": st.one_of(st.integers(0, 5), st.text(max_size=3), _scalars),
        "params": st.one_of(
            st.lists(_values, max_size=3),
            st.dictionaries(st.sampled_from(["a", "by", "words", "value"]), _values, max_size=2),
            _values,
        ),
        "more": _values,
    },
)
_calls = st.one_of(_fitting, _odd)
_bodies = st.one_of(
    _fitting, _odd, st.lists(_calls, max_size=4), st.lists(_values, max_size=2)
).map(lambda value: json.dumps(value).encode())
#: Most mutations end what is JSON: many bodies have none.
bodies = st.one_of(
    _bodies, _bodies, st.builds(mutate, _bodies, st.lists(mutations, min_size=1, max_size=3))
)
