"""Encoding within a limit: the same text as without, or an error that costs little memory."""

import dataclasses
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstone_sync.errors import ResponseTooLarge
from gemstone_sync.protocol import encode_json
from gemstone_sync.protocol.bounded import encode_bounded

NO_LIMIT = 1 << 40

LEAVES = st.none() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=5)
KEYS = st.text(st.characters(codec="utf-8"), max_size=5) | st.integers()


def containers(entries):
    """Lists and dicts on both sides of the lengths at which they are encoded in parts."""
    repeated = st.tuples(st.sampled_from([0, 1, 63, 65, 257]), entries)
    lists = repeated.map(lambda drawn: [drawn[1]] * drawn[0] + [drawn[1], 0])
    dicts = repeated.map(lambda drawn: {f"k{n}": drawn[1] for n in range(drawn[0])})
    return lists | lists.map(tuple) | dicts | st.dictionaries(KEYS, entries, max_size=3)


@settings(max_examples=50)
@given(containers(LEAVES | containers(LEAVES) | st.lists(containers(LEAVES), max_size=2)))
def test_the_text_is_the_same_as_without_a_limit(value):
    assert encode_bounded(value, NO_LIMIT) == encode_json(value)


@pytest.mark.parametrize(
    "value",
    [
        "abc",
        ["a"] * 1000,
        list(range(5000)),
        {"a": {"b": [{"c": 1}] * 100}},
        dict.fromkeys(range(200), "x"),
        [[1] * 100] * 100,
        [float("nan")] * 100,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_text_of_exactly_the_limit_passes_and_one_byte_less_refuses_it(value):
    size = len(encode_json(value))

    assert len(encode_bounded(value, size)) == size
    with pytest.raises(ResponseTooLarge):
        encode_bounded(value, size - 1)


@dataclasses.dataclass
class Page:
    rows: object


class Sheet(msgspec.Struct):
    rows: object


LIMIT = 100_000
#: What refusing may take: a few times the limit, never the size of the whole text.
ALLOWED = 2_000_000
TEXT = "x" * 10_000


def nested(value, width, depth):
    for _ in range(depth):
        value = [value] * width
    return value


SPIKES = {
    "one long string": "x" * 5_000_000,
    "a short list of long strings": ["x" * 1_000_000] * 5,
    "a short dict of long strings": dict.fromkeys("abcde", "x" * 1_000_000),
    "a long list of one string": [TEXT] * 5000,
    "a list just short of long": [TEXT] * 1000,
    "small entries, then large ones": [1] * 3000 + [TEXT] * 3000,
    "deep down": {"a": [{"b": [{"c": [{"d": [TEXT] * 5000}]}]}]},
    "in tuples": ((TEXT,) * 5000,),
    "in dicts with many members": [{str(i): TEXT for i in range(1000)}] * 10,
    "one row many times": [{"row": [TEXT] * 50}] * 1000,
    "a tree of small lists": nested("x" * 100, 10, 6),
    "in a dataclass": Page([TEXT] * 5000),
    "in a struct": {"sheet": Sheet([TEXT] * 5000)},
    "many keys": {"x" * 10_000 + str(i): 1 for i in range(1000)},
    "bytes": [b"x" * 10_000] * 5000,
}


@pytest.mark.parametrize("name", SPIKES)
def test_a_result_that_is_too_large_does_not_fill_the_memory(name):
    """A small graph can have a huge text: one string referenced many times."""
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLarge):
            encode_bounded(SPIKES[name], LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < ALLOWED, f"{peak:,} bytes for a limit of {LIMIT:,}"


@pytest.mark.parametrize("length", [1, 100, 5000])
def test_what_cannot_be_encoded_raises_wherever_it_stands(length):
    with pytest.raises(TypeError):
        encode_bounded([0] * (length - 1) + [object()], NO_LIMIT)
    with pytest.raises(TypeError):
        encode_bounded({"a": [0] * (length - 1) + [object()]}, NO_LIMIT)


@pytest.mark.parametrize("width", [1, 100])
def test_a_list_in_itself_raises_and_does_not_hang(width):
    endless = [0] * width
    endless[0] = endless
    with pytest.raises((RecursionError, ValueError, ResponseTooLarge)):
        encode_bounded(endless, NO_LIMIT)
