"""Settings that a class declares: default, type, help, secret, rule, in one place."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemstone_sync import (
    BasePlugin,
    Configurable,
    Container,
    MicroService,
    Module,
    ServiceConfigurationError,
    setting,
)
from gemstone_sync.config import Seconds
from gemstone_sync.config.declaration import declarations_of
from gemstone_sync.config.rules import choice, list_of, whole

README = Path(__file__).parents[2] / "README.md"


class Shop(MicroService):
    name = "shop"
    #: What prices are in.
    currency: str = setting("EUR", template=str.upper)
    basket_timeout: Seconds = setting("15m")  # type: ignore[assignment]
    pin: int | None = setting(None, secret=True)
    colour: str = setting("red", choice("red", "blue"))
    shelves: int = setting(3, whole(1, 9))
    tags: list[str] = setting([], list_of("tags", str))
    key: str = setting("k", in_code="is made by the program")


class Corner(Shop):
    shelves = 2
    colour: str = setting("blue")


def test_the_attribute_is_its_default():
    assert (Shop.currency, Shop.shelves, Corner.shelves, Corner.colour) == ("EUR", 3, 2, "blue")
    assert Shop().pin is None


def test_each_is_an_option_a_variable_and_a_key(monkeypatch, tmp_path):
    monkeypatch.setenv("GEMSTONE_PIN", "7")
    Path("shop.toml").write_text("shelves = 5\n")
    shop = Shop()
    shop.configure(["--currency=chf", "--tags", "a,b"])

    assert (shop.currency, shop.pin, shop.shelves, shop.tags) == ("CHF", 7, 5, ["a", "b"])
    shown = {one.name: one for one in shop.get_settings()}
    assert shown["pin"].value == "********"
    assert (shown["shelves"].value, shown["shelves"].source) == ("5", "shop.toml: shelves")
    assert "key" not in shown
    assert "What prices are in." in shop.configuration_help()


def test_a_text_is_read_by_the_hint():
    shop = Shop()
    _ = shop.app
    assert shop.basket_timeout == 900


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("shelves", 10, "Corner.shelves must be a whole number from 1 to 9, not 10"),
        ("shelves", "many", "Corner.shelves: must be a whole number"),
        ("colour", "green", "Corner.colour must be 'red' or 'blue', not 'green'"),
        ("tags", [1], "Corner.tags must be a list of tags, not [1]"),
    ],
)
def test_a_rule_counts_for_subclasses_too_wherever_the_value_comes_from(name, value, told, capsys):
    with pytest.raises(ServiceConfigurationError, match=re.escape(told)):
        _ = type("Corner", (Corner,), {name: value})().app
    if isinstance(value, str):
        with pytest.raises(SystemExit):
            Corner().configure([f"--{name}", value])
        assert f"corner: --{name}" in capsys.readouterr().err.replace("shop", "corner")


def test_a_secret_is_not_told_when_it_is_wrong():
    class Vault(Shop):
        pin: int = setting("sesame", whole(0), secret=True)  # type: ignore[assignment]

    class Named(Shop):
        db_password: str = setting("sesame", choice("a", "b"))

    for cls in (Vault, Named):
        with pytest.raises(ServiceConfigurationError) as caught:
            _ = cls().app
        assert "sesame" not in str(caught.value)


def test_a_secret_among_the_configurables_stays_one(capsys):
    class Vault(Shop):
        configurables = [Configurable("pin"), Configurable("token_of_it", secret=True)]
        token_of_it: str = setting("sesame", choice("a", "b"))

    vault = Vault()
    vault.token_of_it = "a"
    vault.configure(["--pin=4711"])
    shown = {one.name: one.value for one in vault.get_settings()}
    assert (shown["pin"], shown["token_of_it"]) == ("********", "********")
    assert "4711" not in str(vault.get_current_configuration())
    with pytest.raises(SystemExit):
        vault.configure(["--pin=sesame"])
    assert "sesame" not in capsys.readouterr().err
    with pytest.raises(ServiceConfigurationError) as caught:
        _ = Vault().app
    assert "sesame" not in str(caught.value)


def test_a_template_counts_for_a_configurable_of_the_same_name():
    class Market(Shop):
        configurables = [Configurable("currency")]

    market = Market()
    market.configure(["--currency=chf"])
    assert market.currency == "CHF"


@pytest.mark.parametrize("rule", [str.isalpha, "a text", int])
def test_a_rule_of_another_type_is_refused_where_it_stands(rule):
    with pytest.raises(ServiceConfigurationError, match=r"takes a gemstone_sync\.config\.Rule"):
        setting("a", rule)
    with pytest.raises(ServiceConfigurationError, match="takes a function of the value, not a str"):
        setting("a", template="upper")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["start", "app", "on_service_start", "methods", "url", "logger"])
def test_a_setting_is_not_called_like_a_member(name):
    told = f"Bad.{name}: a setting of this name would replace what every service has"
    for body in ({name: setting(3)}, {"configurables": [Configurable(name)]}):
        with pytest.raises(ServiceConfigurationError, match=told):
            type("Bad", (MicroService,), {"name": "bad", **body})
    with pytest.raises(ServiceConfigurationError, match=told):
        type("Bad", (type("Mixin", (), {}), Shop), {name: setting(3)})
    # What is a setting already, or the user's own, is not the framework's member.
    own = type("Own", (Shop,), {"port": setting(1), "shelves": setting(2), "rate": lambda self: 1})
    type("Other", (own,), {"rate": setting(3)})


@pytest.mark.parametrize(("base", "what"), [(Module, "module"), (Container, "module")])
def test_a_module_has_no_settings(base, what):
    with pytest.raises(ServiceConfigurationError, match=rf"Users\.limit = .*: a {what} has no set"):
        type("Users", (base,), {"limit": setting(3)})


def test_a_plugin_has_no_settings():
    with pytest.raises(ServiceConfigurationError, match=r"Meter\.limit = .*: a plugin has no sett"):
        type("Meter", (BasePlugin,), {"name": "meter", "limit": setting(3)})


def test_a_setting_that_is_assigned_later_is_refused():
    told = r"Late\.limit = setting\(\.\.\.\) stands in the body of the class"

    class Late(Shop):
        pass

    class Early(Shop):
        def __init__(self) -> None:
            super().__init__()
            self.limit = setting(3)

    Late.limit = setting(3)  # type: ignore[attr-defined]
    with pytest.raises(ServiceConfigurationError, match=told):
        Late()
    with pytest.raises(ServiceConfigurationError, match=told.replace("Late", "Early")):
        _ = Early().app


def test_a_declared_name_is_no_misspelt_setting(recwarn):
    class Near(MicroService):
        name = "near"
        allowed_origin: str = setting("")

    assert not recwarn.list
    assert "allowed_origin" in declarations_of(Near)


def limits() -> Iterator[tuple[str, str]]:
    """The attributes in README's table of limits, and their defaults as it tells them."""
    table = README.read_text().partition("## Limits, on by default")[2].partition("\n\nA ")[0]
    for line in filter(None, table.splitlines()):
        _, told, attributes = [cell.strip() for cell in line.split("|")[1:-1]]
        # Not those that a limit is derived from.
        if re.fullmatch(r"`\w+`(, `[^`]+`)*", attributes) and told[0].isdigit():
            yield from zip(re.findall(r"`(\w+)`", attributes), told.split(", "), strict=False)


def test_the_readmes_table_of_limits_tells_the_defaults():
    units = {"s": 1, "MB": 1_000_000, "": 1}
    told = dict(limits())
    assert len(told) >= 12
    for name, text in told.items():
        number, _, unit = text.partition(" ")
        default = declarations_of(MicroService)[name].default
        assert float(number.replace(",", "")) * units[unit] == default, name
