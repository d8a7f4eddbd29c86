"""How parameters, headers and times stand on the command line, and what is wrong with others."""

import click
import pytest

from gemstone_sync.cli.options import params_of
from tests.cli.support import line_of, run
from tests.support.machine import free_port

BIG = 2**200


@pytest.mark.parametrize(
    ("words", "args", "params"),
    [
        ([], None, None),
        (["name=world"], None, {"name": "world"}),
        (["name="], None, {"name": ""}),
        (["a=b=c", "url=http://x/?y=z"], None, {"a": "b=c", "url": "http://x/?y=z"}),
        (["n=1", "m:=1", "t:=true", "z:=null"], None, {"n": "1", "m": 1, "t": True, "z": None}),
        (['text:="1"', "f:=-2.5e3"], None, {"text": "1", "f": -2500.0}),
        (['deep:={"a": [1, {"b": []}]}'], None, {"deep": {"a": [1, {"b": []}]}}),
        (["a:b=1", "x-y=2"], None, {"a:b": "1", "x-y": "2"}),
        (["größe=☃", 'snow:="☃"'], None, {"größe": "☃", "snow": "☃"}),
        ([f"big:={BIG}"], None, {"big": BIG}),
        (["a== ", "b:= 1 "], None, {"a": "= ", "b": 1}),
        ([], '[1, "a", null]', [1, "a", None]),
        ([], "[]", None),
        ([], "{}", None),
        ([], '{"a": 1}', {"a": 1}),
        (["b=2"], '{"a": 1}', {"a": 1, "b": "2"}),
    ],
)
def test_parameters_are_read(words, args, params):
    assert params_of(tuple(words), args) == params


@pytest.mark.parametrize(
    ("words", "args", "said"),
    [
        (["world"], None, "'world' is no parameter: write name=text or name:=JSON"),
        (["=world"], None, "'=world' is no parameter"),
        ([":=1"], None, "':=1' is no parameter"),
        ([""], None, "'' is no parameter"),
        (["w" * 99], None, "w..."),
        (["a=1", "a=2"], None, "the parameter a is given twice"),
        (["a=1", "a:=2"], None, "the parameter a is given twice"),
        (["a=2"], '{"a": 1}', "the parameter a is given twice"),
        (["a=1"], "[1]", "by name or by position, not both"),
        (["a=1"], "[]", "by name or by position, not both"),
        (["a:=world"], None, "a:= is no JSON: invalid character (byte 0); a text is written a=tex"),
        *(([f"a:={x}"], None, "a:= is no JSON") for x in ("", "NaN", "1e999", "1 2", "[" * 5000)),
        ([], "[1", "--args is no JSON"),
        ([], "", "--args is no JSON"),
        *(([], args, "--args is a JSON array or object") for args in ("null", '"text"')),
        (["password:=sesame"], None, "password"),
        (["password=sesame"], "[1]", "password"),
    ],
)
def test_what_is_wrong_with_others_is_said(words, args, said):
    with pytest.raises(click.UsageError) as caught:
        params_of(tuple(words), args)

    assert said in caught.value.format_message()
    assert "sesame" not in caught.value.format_message()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["world"], "'world' is no parameter: write name=text or name:=JSON"),
        (["a=1", "--args", "[1]"], "not both"),
        (["--header", "sesame"], "'--header': write it like 'Name: value'"),
        (["--header", "X-A: sesame\r\nX-B: 1"], "forbids"),
        (["--header", "X-A:"], "forbids"),
        (["--header", "X A: sesame"], "not a header's name: 'X A'"),
        (["--header", "X-A: 1", "--header", "x-a: 2"], "x-a is given twice"),
        (["--header", "Content-Length: 7"], "Content-Length is for the client to say"),
        (["--header", "X-A: sesame\u2603"], "forbids"),
        (["--token", ""], "--token"),
        (["--token", "sesame\n"], "--token"),
        (["--timeout", "0"], "'0' is no duration: write 10, 500ms"),
        (["--timeout", "nan"], "'nan' is no duration"),
        (["--timeout", "1e9"], "at most 1d"),
        (["--timeout", "soon"], "'soon' is no duration"),
        (["--tokn", "sesame"], "--token"),
        (["a=\udcff"], "not UTF-8"),
    ],
    ids=ascii,
)
def test_a_wrong_command_line_is_one_line(options, said):
    # Nobody is there, which would be another exit code: it is told before anything is sent.
    line = line_of(run("call_raw", f"http://127.0.0.1:{free_port()}/api", "m", *options), 2)

    assert line.startswith("gemstone call_raw: ")
    assert said in line
    assert "sesame" not in line


@pytest.mark.parametrize(
    "url", ["", "greeter", "127.0.0.1:8000/api", "ftp://127.0.0.1/api", "http://", "http://a:x/"]
)
def test_what_is_no_url_is_one_line(url):
    line = line_of(run("call_raw", url, "m"), 2)

    assert line.startswith("gemstone call_raw: Invalid value for URL: not a service's endpoint")


def test_no_word_is_one_line():
    assert "Missing argument 'URL'" in line_of(run("call_raw"), 2)
    assert "Missing argument 'METHOD'" in line_of(run("call_raw", "http://127.0.0.1:1/api"), 2)


def test_help_names_arguments_and_variables():
    help = run("call", "--help").stdout

    for word in ("NAME METHOD [PARAMS]...", "--registry URL", "--args JSON", "--token TEXT"):
        assert word in help
    for variable in ("GEMSTONE_REGISTRY", "GEMSTONE_TOKEN"):
        assert variable in help
