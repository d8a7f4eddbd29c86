"""One value that may be set from outside, and the command line that sets it."""

import decimal
import re
from typing import Any

import pytest

from gemstone_sync import BaseConfigurator, CommandLineConfigurator, Configurable


def test_the_documents_examples():
    c = Configurable("test", template=lambda x: x * 2)
    c.set_value("10")
    assert c.get_final_value() == "1010"
    c2 = Configurable("list_of_ints", template=lambda x: [int(y) for y in x.split(",")])
    c2.set_value("1,2,3,4,5")
    assert c2.get_final_value() == [1, 2, 3, 4, 5]


def test_without_a_template_the_value_is_taken_as_it_is():
    value = object()
    configurable = Configurable("x")
    configurable.set_value(value)

    assert configurable.get_final_value() is value


def test_no_value_is_none_and_the_template_is_not_asked():
    assert Configurable("x", template=lambda _: pytest.fail("asked")).get_final_value() is None


@pytest.mark.parametrize("value", [None, "", 0, False, []])
def test_a_falsy_value_is_a_value(value):
    configurable = Configurable("x", template=lambda found: [found])
    configurable.set_value(value)

    assert configurable.get_final_value() == [value]


def test_a_configurable_is_named_in_its_repr_and_the_template_is_given_by_name():
    assert repr(Configurable("port")) == "<Configurable name=port>"
    with pytest.raises(TypeError):
        Configurable("x", int)


# The command line


def command_line(*words: str, **templates: Any) -> CommandLineConfigurator:
    configurator = CommandLineConfigurator()
    configurator.argv = words
    for name, template in templates.items():
        configurator.register_configurable(Configurable(name, template=template))
    configurator.load()
    return configurator


@pytest.mark.parametrize("words", [("--a", "1", "--b", "2"), ("--b=2", "--a=1")])
def test_each_configurable_is_an_option(words):
    configurator = command_line(*words, a=int, b=None, c=None)

    assert [configurator.get(name) for name in "abc"] == [1, "2", None]


def test_outside_a_service_the_words_are_those_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["service.py", "--a=1", "--b=2", "--c=true"])
    configurator = CommandLineConfigurator()
    for configurable in (Configurable("a"), Configurable("b", template=int), Configurable("c")):
        configurator.register_configurable(configurable)
    configurator.load()

    assert [configurator.get(name) for name in "abc"] == ["1", 2, "true"]


def test_empty_and_zero_count_the_last_wins_and_an_unknown_name_has_no_value():
    configurator = command_line("--a", "1", "--a", "0", "--b", "", a=int, b=None)

    assert [configurator.get(name) for name in "abc"] == [0, "", None]


def test_a_value_that_the_template_refuses_names_the_option():
    with pytest.raises(ValueError, match="--a: invalid literal"):
        command_line("--a", "x", a=int).get("a")


@pytest.mark.parametrize(
    ("template", "found", "text"),
    [
        (decimal.Decimal, "x", "cannot use 'x' (InvalidOperation: "),
        # The class is called PatternError from Python 3.13 on.
        (re.compile, "(", f"cannot use '(' ({re.error.__name__}: missing )"),
        ({"a": 1}.__getitem__, "b", "cannot use 'b' (KeyError: 'b')"),
        (open, "/nowhere", "cannot use '/nowhere' (FileNotFoundError: "),
        (lambda text: text.split(","), 5, "cannot use 5 (AttributeError: "),
        (lambda text: 1 / 0, "x" * 9999, "(ZeroDivisionError: division by zero)"),
    ],
)
def test_whatever_a_template_raises_is_a_wrong_value(template, found, text):
    configurable = Configurable("x", template=template)
    configurable.set_value(found)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        configurable.get_final_value()

    assert text in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "words", [("--unknown", "1"), ("word",), ("--a",), ("--ab", "1"), ("-a", "1"), ("--a", "--b")]
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        command_line(*words, a=None, b=None, abc=None)

    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_help_lists_the_options(capsys):
    with pytest.raises(SystemExit) as caught:
        command_line("--help", port=int, endpoint=None)

    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "--port" in out
    assert "--endpoint" in out


def test_variables_without_the_prefix_are_not_read(monkeypatch):
    for name in ("A", "SERVICE_A", "a"):
        monkeypatch.setenv(name, "1")

    assert command_line(a=None).get("a") is None


# The base class


class Fixed(BaseConfigurator):
    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.values = values
        self.loads = 0

    def load(self) -> None:
        self.loads += 1

    def get(self, name: str) -> Any:
        return self.values.get(name)


def test_a_configurator_of_ones_own_needs_load():
    with pytest.raises(TypeError):
        type("Half", (BaseConfigurator,), {"get": lambda self, name: None})()
    assert repr(Fixed()) == "<Fixed>"


def test_load_may_set_the_values_of_the_configurables():
    class Setting(BaseConfigurator):
        def load(self) -> None:
            for configurable in self.configurables:
                configurable.set_value("21")

    configurator = Setting()
    configurator.register_configurable(Configurable("a", template=lambda x: x * 2))
    configurator.load()

    assert configurator.get("a") == "2121"
    assert configurator.get("b") is None


def test_configurables_are_found_by_name_when_a_subclass_forgets_the_constructor_too():
    class Forgetful(BaseConfigurator):
        def __init__(self) -> None:
            pass

        def load(self) -> None: ...

        def get(self, name: str) -> Any: ...

    port = Configurable("port")
    for configurator in (Fixed(), Forgetful()):
        configurator.register_configurable(port)
        assert configurator.get_configurable_by_name("port") is port
        assert configurator.get_configurable_by_name("host") is None
        assert configurator.configurables == [port]
