"""JSON text <-> values: strict in what is read, exact in what is written."""

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import ipaddress
import pathlib
import uuid

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstone_sync.errors import ParseError
from gemstone_sync.protocol import Encoder, decode_json, encode_json

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@settings(max_examples=50)
@given(JSON_VALUES)
def test_what_is_written_is_read_back(value):
    again = decode_json(encode_json(value))

    assert again == value
    assert repr(again) == repr(value)  # 1 is not 1.0, and True is not 1


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" ", b"{", b'{"a":1', b"nul", b"1 2", b"// comment\n1"),
        *(b"NaN", b"Infinity", b"-Infinity", b"[1e999]", b"[-1e999]", b"1" * 4301),
        *(b"01", b"+1", b"1.", b".5", b"0x10", b"'a'", b"{a:1}", b"[1,]", b'{"a":1,}'),
        *(b'"\x01"', b'"\\x41"', b'"\xff"', b'"\\ud800"', b'"\\udc00\\ud800"'),
        *(b"\xef\xbb\xbf1", "1".encode("utf-16"), "1".encode("utf-32")),
        *(b"[" * 100_000, b'{"a":' * 100_000),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_json_text_in_utf_8_is_a_parse_error(text):
    with pytest.raises(ParseError):
        decode_json(text)


def test_big_ints_are_exact():
    numbers = [2**64, -(2**70), 10**4299 + 7]

    assert decode_json(encode_json(numbers)) == numbers


def test_of_duplicate_keys_the_last_wins():
    assert decode_json(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Color(enum.Enum):
    RED = "red"


class Box(msgspec.Struct):
    size: int


class User(pydantic.BaseModel):
    name: str
    born: datetime.date


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1), '{"x":1,"y":0.5}'),
        (Color.RED, '"red"'),
        (Box(3), '{"size":3}'),
        (User(name="a", born=datetime.date(2000, 1, 2)), '{"name":"a","born":"2000-01-02"}'),
        ([User(name="a", born=datetime.date(1, 1, 1))], '[{"name":"a","born":"0001-01-01"}]'),
        ("é😀\u2028", '"é😀\u2028"'),
        ({"x": [float("nan"), float("inf"), -float("inf")]}, '{"x":[null,null,null]}'),
        ((1, 2), "[1,2]"),
        ({3}, "[3]"),
        (b"ab", '"YWI="'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (datetime.datetime(2000, 1, 2, 3, 4, 5), '"2000-01-02T03:04:05"'),
        ({1: "a"}, '{"1":"a"}'),
    ],
)
def test_what_a_method_may_return_is_written_as_json(value, text):
    assert encode_json(value).decode() == text


def endless():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [object(), print, {"a": object()}, "\ud800", {(1, 2): 3}, 1j, endless()]
)
def test_what_cannot_be_represented_raises_and_does_not_crash(value):
    with pytest.raises((TypeError, ValueError, RecursionError)):
        encode_json(value)


def test_a_large_text_is_decoded_without_collecting_garbage():
    text = b"[" + b",".join([b"[]"] * 50_000) + b"]"
    collections = []

    def note(phase, info):
        collections.append(phase)

    gc.collect()
    gc.callbacks.append(note)
    try:
        assert len(decode_json(text)) == 50_000
    finally:
        gc.callbacks.remove(note)
    assert collections == []
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_the_program_has_set_of_the_garbage_collector_stays():
    text = b"[" + b",".join([b"[]"] * 50_000) + b"]"
    gc.disable()
    decode_json(text)
    assert not gc.isenabled()
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    decode_json(text)
    try:
        assert gc.get_freeze_count() > frozen / 2  # some may have ended meanwhile
    finally:
        gc.unfreeze()
    assert gc.isenabled()


class Text(str):
    def __str__(self) -> str:
        return "other"


class Moment(datetime.datetime):
    pass


class Span(datetime.timedelta):
    pass


class Clock(datetime.time):
    pass


class Number(float):
    pass


class Count(int):
    pass


class Price(decimal.Decimal):
    pass


class Blob(bytes):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Text("x"), b'"x"'),
        (Number(1.5), b"1.5"),
        (Number("nan"), b"null"),
        (Count(2**70), str(2**70).encode()),
        (Moment(2020, 1, 1), b'"2020-01-01T00:00:00"'),
        ({Text("k"): [Text("x")]}, b'{"k":["x"]}'),
        ({None: 1, True: 2, False: 3}, b'{"null":1,"true":2,"false":3}'),
        (Span(1), b'"P1D"'),
        (Clock(10, 30), b'"10:30:00"'),
        (Price("1.10"), b'"1.10"'),
        (Blob(b"ab"), b'"YWI="'),
        (collections.deque([1, Text("x")]), b'[1,"x"]'),
        (pathlib.PurePosixPath("a/b"), b'"a/b"'),
        (ipaddress.ip_address("10.0.0.1"), b'"10.0.0.1"'),
        ({pathlib.PurePosixPath("a"): ipaddress.ip_network("::/8")}, b'{"a":"::/8"}'),
    ],
    ids=repr,
)
def test_subclasses_and_keys_are_written_as_the_standard_library_writes_them(value, text):
    assert encode_json(value) == text


def test_numpys_scalars_are_written_as_numbers_and_texts():
    numpy = pytest.importorskip("numpy")
    values = [numpy.float64(1.5), numpy.float32(0.5), numpy.int64(2**40), numpy.bool_(True)]

    assert encode_json(values) == b"[1.5,0.5,1099511627776,true]"
    assert encode_json({numpy.int64(1): numpy.str_("x")}) == b'{"1":"x"}'
    with pytest.raises(TypeError, match="an instance of ndarray cannot"):
        encode_json(numpy.zeros(2))


class Tuples(enum.Enum):
    ONE = (1, 2)


@dataclasses.dataclass
class Table:
    cells: dict


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({(1, 2): 3}, "tuple"),
        ([{"a": {frozenset(): 1}}], "frozenset"),
        (Table({object(): 1}), "object"),
        ({Tuples.ONE: 1}, "Tuples"),
    ],
    ids=["a tuple", "in a list", "in a dataclass", "an enumeration's"],
)
def test_a_wrong_key_is_called_a_key(value, key):
    with pytest.raises(TypeError, match=f"a key of type {key} cannot be represented as JSON"):
        encode_json(value)


# What a service knows itself


def plain(value):
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, range):
        return collections.deque(value)
    if isinstance(value, slice):
        raise KeyError("a fault of its own")
    return value if isinstance(value, type) else None


def test_an_encoder_asks_for_what_it_does_not_know():
    encoder = Encoder(plain)

    assert encoder.encode({"a": 1j, "b": range(2), "c": Text("x")}) == (
        b'{"a":[0.0,1.0],"b":[0,1],"c":"x"}'
    )
    for value in (object(), int, slice(1)):
        with pytest.raises(TypeError, match=f"an instance of {type(value).__name__} cannot be"):
            encoder.encode([value])
    with pytest.raises(TypeError, match="a key of type"):
        encoder.encode({1j: 1})
