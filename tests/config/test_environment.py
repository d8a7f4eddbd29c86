"""Settings in the environment and in a .env file."""

import logging
from pathlib import Path

import pytest

from gemstone_sync.config import Configurable, EnvironmentConfigurator
from gemstone_sync.config.setting_types import setting_type_of


def loaded(configurator: EnvironmentConfigurator) -> EnvironmentConfigurator:
    for name, hint in {"max_hops": int, "debug": bool, "motto": str}.items():
        configurator.register_configurable(
            Configurable(name).described(setting_type_of(hint), None)
        )
    configurator.load()
    return configurator


def test_an_empty_variable_is_a_value(monkeypatch):
    monkeypatch.setenv("GEMSTONE_MOTTO", "")
    monkeypatch.setenv("GEMSTONE_MAX_HOPS", "")
    configurator = loaded(EnvironmentConfigurator())

    assert configurator.get("motto") == ""
    with pytest.raises(ValueError, match=r"GEMSTONE_MAX_HOPS: must be a whole number, not ''"):
        configurator.get("max_hops")


def test_a_prefix_of_its_own_is_the_only_one(monkeypatch):
    monkeypatch.setenv("GEMSTONE_MAX_HOPS", "3")
    monkeypatch.setenv("SHOP_DEBUG", "1")
    configurator = loaded(EnvironmentConfigurator(prefix="SHOP_"))

    assert configurator.find("max_hops") is None
    assert configurator.get("debug") is True


def test_a_dotenv_file_counts_less_than_the_environment(monkeypatch):
    Path(".env").write_text(
        "# comment\nexport GEMSTONE_MAX_HOPS=3\nGEMSTONE_MOTTO='a b'\nOTHER=1\n"
    )
    monkeypatch.setenv("GEMSTONE_MAX_HOPS", "4")
    configurator = loaded(EnvironmentConfigurator())

    assert configurator.get("max_hops") == 4
    assert configurator.find("motto") == ("a b", ".env: GEMSTONE_MOTTO")


def test_a_dotenv_files_values_are_taken_as_they_stand():
    Path(".env").write_text("GEMSTONE_MOTTO='${HOME} pa${ss}'\n")

    assert loaded(EnvironmentConfigurator()).get("motto") == "${HOME} pa${ss}"


def test_another_dotenv_file_or_none():
    Path(".env").write_text("GEMSTONE_MAX_HOPS=3\n")
    Path("other.env").write_text("GEMSTONE_MAX_HOPS=5\n")

    assert loaded(EnvironmentConfigurator(dotenv_path="other.env")).get("max_hops") == 5
    assert loaded(EnvironmentConfigurator(dotenv_path=None)).find("max_hops") is None
    assert loaded(EnvironmentConfigurator(dotenv_path="absent.env")).find("max_hops") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GEMSTONE_MAX_HOPS=3\n'broken\n", ".env: line 2: expected NAME=value"),
        (b"A=\xff\xfe", ".env: is not UTF-8"),
    ],
)
def test_a_broken_dotenv_file_is_refused(content, reason):
    Path(".env").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        loaded(EnvironmentConfigurator())


def test_a_variable_that_is_nearly_a_setting_is_logged(monkeypatch, caplog):
    others = ("OTHER_THING", "MONKEY_PATCH", "REGISTRY_MAX_HOPS", "REGISTRY_MAX_PER_NAME")
    for name in ("GEMSTONE_MAX_HOP", "MAX_HOPS", *(f"GEMSTONE_{other}" for other in others)):
        monkeypatch.setenv(name, "1")
    with caplog.at_level(logging.WARNING):
        loaded(EnvironmentConfigurator())

    assert caplog.messages == ["GEMSTONE_MAX_HOP sets nothing; did you mean GEMSTONE_MAX_HOPS?"]
