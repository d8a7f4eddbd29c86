"""``gemstone config``: what a service would run with, and why."""

import json
import os

import pytest

from .support import line_of, run, run_process

SHOP = """
import gemstone_sync

class Shop(gemstone_sync.MicroService):
    name = "shop"
    port = 8080
    currency: str = "EUR"
    password: str | None = None
    configurables = [
        gemstone_sync.Configurable("note"),  # no attribute yet
        gemstone_sync.Configurable("currency"),
        gemstone_sync.Configurable("password", secret=True),
    ]
"""


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "shop.toml").write_text("max_hops = 3\ncurrency = 'CHF'\n")
    (tmp_path / ".env").write_text("GEMSTONE_PASSWORD=sesame\n")
    return tmp_path


def test_every_setting_with_its_value_and_its_source(shop):
    words = ("config", "shop:Shop", "--drain_grace", "2s")
    done = run_process(*words, cwd=shop, env={"GEMSTONE_DEBUG": "yes"})

    assert (done.code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in [
        "currency CHF shop.toml: currency",
        "password ******** .env: GEMSTONE_PASSWORD",
        "port 8080 class Shop",
        "debug true GEMSTONE_DEBUG",
        "drain_grace 2 --drain_grace",
        "max_hops 3 shop.toml: max_hops",
        "workers 1 default",
        "allowed_hosts none default",
        "note none default",
    ]:
        assert line in lines
    assert "sesame" not in done.stdout


def test_only_what_differs_from_the_defaults_and_for_machines(shop):
    done = run("config", "shop", "--changed", "--json", cwd=shop)

    assert done.code == 0, done.stderr
    settings = {each["name"]: (each["value"], each["source"]) for each in json.loads(done.stdout)}
    assert set(settings) == {"currency", "password", "port", "max_hops"}
    assert settings["currency"] == ("CHF", "shop.toml: currency")
    assert run("config", "--changed", "--json", "shop", cwd=shop).stdout == done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["shop:Shpo"], "gemstone config: the module shop has no Shpo; did you mean Shop?"),
        (["shpo"], "gemstone config: there is no module shpo; did you mean shop?"),
        (
            ["shop", "--max-hop", "3"],
            "gemstone config: unknown option --max-hop; did you mean --max_hops?",
        ),
        (["shop", "--max-hops", "x"], "shop: --max_hops: must be a whole number, not 'x'"),
        ([], "gemstone config: Missing argument 'TARGET'."),
    ],
)
def test_what_is_wrong_is_one_line(words, line, shop):
    assert line_of(run("config", *words, cwd=shop), 2) == line


def test_skip_configuration_shows_the_classes_own(shop):
    (shop / "fixed.py").write_text(
        SHOP.replace('name = "shop"', 'name = "shop"\n    skip_configuration = True')
    )
    done = run("config", "fixed", "--json", cwd=shop)

    values = {each["name"]: each["value"] for each in json.loads(done.stdout)}
    assert (values["currency"], values["port"]) == ("EUR", "8080")


ODD = """
import gemstone_sync

class Odd(gemstone_sync.MicroService):
    name = "odd"
    lines: str = "a\\nb"
    nothing: str = ""
    colour: str = "\\x1b[31m"
    given: str = ""
    configurables = [*map(gemstone_sync.Configurable, ("lines", "nothing", "colour", "given"))]
"""


def test_whatever_a_value_is_it_is_one_line_and_no_more(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    given = os.fsdecode(b"\xff")  # not UTF-8
    done = run("config", "odd", "--changed", "--given", given, cwd=tmp_path)

    assert (done.code, done.stderr) == (0, "")
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        r"lines 'a\nb' class Odd",
        "nothing '' class Odd",
        r"colour '\x1b[31m' class Odd",
        r"given '\udcff' --given",
    ]
    done = run("config", "odd", "--changed", "--json", "--given", given, cwd=tmp_path)
    values = {each["name"]: each["value"] for each in json.loads(done.stdout)}
    assert values == {"lines": "a\nb", "nothing": "", "colour": "\x1b[31m", "given": r"\udcff"}
