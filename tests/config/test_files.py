"""Settings in files: four formats, one set of rules."""

from pathlib import Path
from typing import Any

import pytest

from gemstone_sync.config import (
    BaseConfigurator,
    Configurable,
    FileConfigurator,
    IniFileConfigurator,
    JsonFileConfigurator,
    TomlFileConfigurator,
    YamlFileConfigurator,
)
from gemstone_sync.config.setting_types import setting_type_of

KINDS: dict[str, Any] = {
    "max_hops": int,
    "debug": bool,
    "hosts": list[str],
    "motto": str | None,
    "ratio": float,
}

TEXTS = {
    ".toml": 'max_hops = 3\ndebug = false\nhosts = ["a", "b"]\nmotto = "é"\nratio = 2\n',
    ".yaml": "max_hops: 3\ndebug: no\nhosts: [a, b]\nmotto: é\nratio: 2\n",
    ".yml": "max_hops: 3\ndebug: false\nhosts:\n- a\n- b\nmotto: é\nratio: 2\n",
    ".json": '{"max_hops": 3, "debug": false, "hosts": ["a", "b"], "motto": "é", "ratio": 2}',
    ".ini": "[gemstone]\nmax_hops = 3\ndebug = off\nhosts = a, b\nmotto = é\nratio = 2\n",
    ".cfg": "# no section\nmax_hops = 3\ndebug = off\nhosts = a, b\nmotto = é\nratio = 2\n",
}

VALUES = {"max_hops": 3, "debug": False, "hosts": ["a", "b"], "motto": "é", "ratio": 2.0}


def loaded(configurator: BaseConfigurator) -> BaseConfigurator:
    for name, hint in KINDS.items():
        configurator.register_configurable(
            Configurable(name).described(setting_type_of(hint), None)
        )
    configurator.service_name = "shop"
    configurator.load()
    return configurator


def written(folder: Path, text: str, suffix: str = ".toml") -> Path:
    path = folder / f"settings{suffix}"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", TEXTS)
def test_each_format_gives_the_same_values(suffix, tmp_path):
    path = written(tmp_path, TEXTS[suffix], suffix)
    configurator = loaded(FileConfigurator(path))

    assert {name: configurator.get(name) for name in KINDS} == VALUES
    found = configurator.find("max_hops")
    assert found is not None
    assert found.source == f"{path}: max_hops"


@pytest.mark.parametrize(
    ("cls", "suffix"),
    [
        (TomlFileConfigurator, ".toml"),
        (YamlFileConfigurator, ".yaml"),
        (JsonFileConfigurator, ".json"),
        (IniFileConfigurator, ".ini"),
    ],
)
def test_a_format_of_its_own_reads_a_file_of_any_name(cls, suffix, tmp_path):
    configurator = loaded(cls(written(tmp_path, TEXTS[suffix], ".conf")))

    assert configurator.get("max_hops") == 3
    assert repr(configurator) == f"<{cls.__name__}>"


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("max-hops = 3", ".toml"),
        ("[shop]\nmax_hops = 3", ".toml"),
        ("[gemstone]\nmax_hops = 3", ".toml"),
        ("[shop]\nmax_hops = 3", ".ini"),
        ("; a comment\n\n[shop]\nmax_hops = 3", ".ini"),
        ("max_hops = 3\n[gemstone]\nratio = 2", ".ini"),
        ("ratio = 2\n[gemstone]\nmax_hops = 3", ".ini"),
        ("shop:\n  max_hops: 3", ".yaml"),
        ("max_hops: 3\nshop:\n  # ratio: 2\n", ".yaml"),
        ("<<: {max_hops: 1}\nmax_hops: 3", ".yaml"),
        ('\ufeff{"max_hops": 3}', ".json"),
    ],
)
def test_keys_may_stand_at_the_top_or_in_a_table_of_the_service(text, suffix, tmp_path):
    assert loaded(FileConfigurator(written(tmp_path, text, suffix))).get("max_hops") == 3


@pytest.mark.parametrize(
    ("text", "suffix"), [("", ".toml"), ("", ".yaml"), ("{}", ".json"), ("", ".ini")]
)
def test_an_empty_file_sets_nothing(text, suffix, tmp_path):
    configurator = loaded(FileConfigurator(written(tmp_path, text, suffix)))

    assert [configurator.find(name) for name in KINDS] == [None] * len(KINDS)


def test_ini_files_have_capitals_in_names_and_lists_of_a_line_for_each_part(tmp_path):
    text = "maxOrder = 3\n[shop]\nhosts =\n    a.b\n    c.d\n"
    configurator = FileConfigurator(written(tmp_path, text, ".ini"))
    configurator.register_configurable(
        Configurable("maxOrder").described(setting_type_of(int), None)
    )
    loaded(configurator)

    assert configurator.get("maxOrder") == 3
    assert configurator.get("hosts") == ["a.b", "c.d"]


def test_none_is_a_value(tmp_path):
    found = loaded(FileConfigurator(written(tmp_path, "motto: null", ".yaml"))).find("motto")

    assert found is not None
    assert found.value is None


@pytest.mark.parametrize(
    ("text", "suffix", "complaint"),
    [
        ("max_hop = 3", ".toml", "unknown key max_hop; did you mean max_hops?"),
        ("[shpo]\nmax_hops = 3", ".toml", "unknown key shpo; did you mean shop?"),
        ("[users]\nport = 3", ".toml", "unknown key users"),
        ("max_hops = 1\nmax-hops = 2", ".toml", "max_hops is there twice"),
        ("max_hops = 1\n[shop]\nmax_hops = 2", ".toml", "max_hops is there twice"),
        ("a = 1\nmax_hops = x", ".toml", "line 2"),
        ("a: b: c", ".yaml", "line 1"),
        ("- a", ".yaml", "must hold names and values"),
        ("5: 6", ".yaml", "unknown key 5"),
        ("!!python/object/apply:os.getcwd []", ".yaml", "settings.yaml: line 1: "),
        ('{"max_hops": 3', ".json", "line 1"),
        ("[1]", ".json", "must hold names and values"),
        ("[" * 100_000, ".json", "nested too deeply"),
        ("a: 1\n---\nb: 2", ".yaml", "line 2: expected a single document in the stream, but"),
        ("shop: x", ".yaml", "shop: must hold names and values"),
        ("max_hops: 3\nmax_hops: 4", ".yaml", "max_hops is there twice"),
        ("shop:\n  max_hops: 3\n  max_hops: 4", ".yaml", "max_hops is there twice"),
        ('{"max_hops": 3, "max_hops": 4}', ".json", "max_hops is there twice"),
        ("max_hops", ".ini", "line 1: expected name = value"),
        ("ratio = 2\nmax_hops", ".ini", "line 2: expected name = value"),
        ("[shop\nmax_hops = 3", ".ini", "line 1: expected name = value, or [section]"),
        ("[shop]\nmax_hops = 3\nmax_hops = 4", ".ini", "line 3: max_hops is there twice"),
        ("max_hops = 3\nmax_hops = 4", ".ini", "line 2: max_hops is there twice"),
        ("[shop]\n[gemstone]\n[shop]", ".ini", "line 3: [shop] is there twice"),
        ("max_hops = 3\n[shop]\nmax_hops = 4", ".ini", "max_hops is there twice"),
        ("max_hops = 3", ".txt", "its name must end in one of .toml"),
        ("x" * 1_000_001, ".json", "longer than"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(text, suffix, complaint, tmp_path):
    path = written(tmp_path, text, suffix)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        loaded(FileConfigurator(path))

    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


def test_a_wrong_value_names_file_and_key(tmp_path):
    path = written(tmp_path, 'max_hops = "x"')
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        loaded(FileConfigurator(path)).get("max_hops")

    assert str(caught.value) == f"{path}: max_hops: must be a whole number, not 'x'"


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, reason in {
        "absent.toml": "No such file",
        "": "Is a directory",
        "folder.toml": "Is a directory",
        "binary.toml": "is not UTF-8",
    }.items():
        with pytest.raises(ValueError, match=reason):
            loaded(FileConfigurator(tmp_path / name))


def test_a_file_may_be_missing_when_it_is_not_required(tmp_path):
    configurator = loaded(FileConfigurator(tmp_path / "absent.toml", required=False))

    assert configurator.find("max_hops") is None


def test_another_format_needs_read_only(tmp_path):
    class Lines(FileConfigurator):
        def read(self, text: str) -> Any:
            return dict(line.split("=") for line in text.splitlines())

    assert loaded(Lines(written(tmp_path, "max_hops=3", ".lines"))).get("max_hops") == 3
