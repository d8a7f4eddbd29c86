"""Who wins: the command line, the environment, .env, files, the class."""

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from gemstone_sync import Configurable, MicroService
from gemstone_sync.config import Seconds


class Shop(MicroService):
    name = "shop"
    number: int = 0
    ratio: float = 0.0
    text: str = "0"
    switch: bool = False
    items: Sequence[str] = ["0"]
    pause: Seconds = 0.0
    perhaps: int | None = 0
    doubled: Any = "00"
    configurables = [
        *MicroService.configurables,
        *map(Configurable, ("number", "ratio", "text", "switch", "items", "pause", "perhaps")),
        Configurable("doubled", template=lambda found: str(found) * 2),
    ]


#: Six values of each setting as texts, and what the texts stand for.
TYPES: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "number": (tuple("012345"), (0, 1, 2, 3, 4, 5)),
    "ratio": (("0", "1", "2.5", "3", "4", "5e1"), (0.0, 1.0, 2.5, 3.0, 4.0, 50.0)),
    "text": (("0", "", "2", "3", "é", "a b"), ("0", "", "2", "3", "é", "a b")),
    "switch": (("no", "yes", "off", "on", "0", "true"), (False, True, False, True, False, True)),
    "items": (("0", "", "a", "a,b", "[c]", "d"), (["0"], [], ["a"], ["a", "b"], ["c"], ["d"])),
    "pause": (("0", "1s", "2m", "3", "4h", "500ms"), (0.0, 1, 120, 3, 14400, 0.5)),
    "perhaps": (("0", "1", "none", "3", "4", "0"), (0, 1, None, 3, 4, 0)),
    "doubled": (tuple("012345"), ("00", "11", "22", "33", "44", "55")),
}

#: From the weakest to the strongest; and how each is called.
SOURCES = {
    "class": "class Shop",
    "shop.toml": "shop.toml: ",
    "--config": "first.yaml: ",
    "--config again": "second.ini: ",
    ".env": ".env: GEMSTONE_",
    "environment": "GEMSTONE_",
    "command line": "--",
}


def give(source: str, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have a source give a value; returns what is added to the command line."""
    if source == "shop.toml":
        Path("shop.toml").write_text(f"{name} = {json.dumps(text, ensure_ascii=False)}\n")
    elif source == "--config":
        Path("first.yaml").write_text(f"{name}: {json.dumps(text)}\n")
        return ["--config", "first.yaml"]
    elif source == "--config again":
        Path("second.ini").write_text(f"[shop]\n{name} = {text}\n")
        return ["--config", "second.ini"]
    elif source == ".env":
        Path(".env").write_text(f"GEMSTONE_{name.upper()}='{text}'\n")
    elif source == "environment":
        monkeypatch.setenv(f"GEMSTONE_{name.upper()}", text)
    elif source == "command line":
        return [f"--{name}={text}"]
    return []


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("strongest", range(len(SOURCES)))
@pytest.mark.parametrize("alone", [False, True])
def test_the_strongest_source_wins_and_each_alone_counts(name, strongest, alone, monkeypatch):
    """The sources up to one give a value each, no two neighbours the same one."""
    texts, values = TYPES[name]
    words: list[str] = []
    for number, source in enumerate([*SOURCES][: strongest + 1]):
        if number == strongest or not alone:
            words += give(source, name, texts[number % 6], monkeypatch)
    service = Shop()
    service.configure(words)

    assert getattr(service, name) == values[strongest % 6]
    (setting,) = [s for s in service.get_settings() if s.name == name]
    assert [*SOURCES.values()][strongest] in setting.source


def test_of_several_files_the_later_wins_key_by_key():
    Path("a.toml").write_text("number = 1\ntext = 'a'\n")
    Path("b.toml").write_text("number = 2\n")
    service = Shop()
    service.configure(["--config", "a.toml", "--config=b.toml"])

    assert (service.number, service.text) == (2, "a")


def test_files_may_be_named_by_the_environment_or_dotenv(monkeypatch):
    Path("a.toml").write_text("number = 1\ntext = 'a'\n")
    Path("b.toml").write_text("number = 2\n")
    service = Shop()
    monkeypatch.setenv("GEMSTONE_CONFIG", "a.toml,b.toml")
    service.configure([])
    assert service.number == 2
    service.configure(["--config", "a.toml"])
    assert service.number == 1

    monkeypatch.delenv("GEMSTONE_CONFIG")
    Path(".env").write_text("GEMSTONE_CONFIG=a.toml\nGEMSTONE_TEXT=env\n")
    service = Shop()
    service.configure([])
    assert (service.number, service.text) == (1, "env")


def test_a_list_on_the_command_line_replaces_that_of_a_file():
    Path("shop.toml").write_text('items = ["file"]\n')
    service = Shop()
    service.configure(["--items", "a,b", "--items", "c"])

    assert service.items == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--switch"], True),
        (["--no-switch"], False),
        (["--switch=true"], True),
        (["--switch", "no"], False),
        (["--switch", "--no-switch"], False),
    ],
)
def test_a_switch_can_be_given_and_taken_back(words, value):
    Path("shop.toml").write_text(f"switch = {str(not value).lower()}\n")
    service = Shop()
    service.configure(words)

    assert service.switch is value


def test_dashes_and_underscores_are_the_same_option():
    service = Shop()
    service.configure(["--max-hops=3", "--no-access-log"])

    assert (service.max_hops, service.access_log) == (3, False)


def test_the_file_is_named_after_the_service():
    class Users(Shop):
        name = "users"

    Path("shop.toml").write_text("number = 1\n")
    service = Users()
    service.configure([])

    assert service.number == 0


def test_a_service_may_have_a_prefix_of_its_own(monkeypatch):
    class Prefixed(Shop):
        environment_prefix = "SHOP_"

    monkeypatch.setenv("GEMSTONE_NUMBER", "1")
    monkeypatch.setenv("SHOP_TEXT", "own")
    service = Prefixed()
    service.configure([])

    assert (service.number, service.text) == (0, "own")
    assert "SHOP_NUMBER" in service.configuration_help()
    assert "GEMSTONE_" not in service.configuration_help()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--number=x"], "shop: --number: must be a whole number, not 'x'"),
        (["--port", "eighty"], "--port"),
        (["--prot=9"], "unknown option --prot; did you mean --port?"),
        (["--endpoint", "api"], "endpoint must be a path that starts with /"),
        (["--host", ""], "host"),
        (["8000"], "unexpected argument '8000'"),
        (["--no-switch=true"], "takes no value"),
        (["--port", "70000"], "shop: --port: Shop.port must be a whole number from 0 to 65535"),
        (["--config", "absent.toml"], "shop: absent.toml: No such file or directory"),
        (["--config", "bad.toml"], "shop: bad.toml: unknown key numbr; did you mean number?"),
        (["--config", "value.toml"], "shop: value.toml: max_hops: Shop.max_hops must be"),
        (["--numbr=x"], "unknown option --numbr; did you mean --number?"),
        (["--max-hop=x"], "unknown option --max-hop; did you mean --max_hops?"),
        (["--motto=x"], "unknown option --motto\n"),  # not --outbox
        (["--text", "-x"], "--text needs a value; one that begins with - is given as --text=-x"),
        (["--max-hops"], "--max_hops needs a value"),
        (["--event_transports", "amqp://u:pw@x:y"], "shop: --event_transports: the URL is like"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_its_source(words, line, refusal):
    Path("bad.toml").write_text("numbr = 1\n")
    Path("value.toml").write_text("max_hops = -1\n")

    assert line in refusal(Shop(), *words)


def test_a_wrong_variable_is_named(monkeypatch, refusal):
    monkeypatch.setenv("GEMSTONE_NUMBER", "")

    assert refusal(Shop()) == "shop: GEMSTONE_NUMBER: must be a whole number, not ''\n"


def test_a_configurable_whose_option_there_is_already_is_refused(refusal):
    class Wrong(Shop):
        configurables = [Configurable("config")]

    class Shared(Shop):
        no_switch: int = 1
        configurables = [*Shop.configurables, Configurable("no_switch")]

    assert "a configurable cannot be called config" in refusal(Wrong())
    assert "two configurables share an option" in refusal(Shared())


Country = enum.Enum("Country", {f"C{number}": f"country {number}" for number in range(99)})


def test_help_says_what_may_be_given():
    class Explained(Shop):
        size: Literal["small", "large"] = "small"
        weights: dict[str, int] = {"a": 1}
        motto: str = ""
        country: Country = Country.C1
        configurables = [*map(Configurable, ("size", "weights", "motto", "country", "nothing"))]

    text = " ".join(Explained().configuration_help().split())
    for line in [
        "--size small|large [env var: GEMSTONE_SIZE] (default: small)",
        '--weights JSON [env var: GEMSTONE_WEIGHTS] (default: {"a": 1})',
        "--motto TEXT [env var: GEMSTONE_MOTTO] (default: '')",
        "--country CHOICE [env var: GEMSTONE_COUNTRY] (default: country 1)",
        "--nothing VALUE [env var: GEMSTONE_NOTHING] --host",
    ]:
        assert line in text


def test_configurables_of_ones_own_leave_the_frameworks_as_they_are():
    class Own(MicroService):
        name = "own"
        limit = 5
        configurables = [Configurable("limit")]

    service = Own()
    service.configure(["--limit", "7", "--port", "random", "--workers", "2"])

    assert (service.limit, service.port, service.workers) == (7, 0, 2)
