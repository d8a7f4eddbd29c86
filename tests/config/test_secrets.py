"""Secrets: read from files, and never shown."""

from pathlib import Path

import pytest

from gemstone_sync import Configurable, MicroService


def refuse(found: str) -> str:
    raise ValueError(f"{found} is too short")


class Vault(MicroService):
    name = "vault"
    pin: int = 1234
    password: str | None = None
    configurables = [
        Configurable("pin", secret=True),
        Configurable("password", secret=True),
        Configurable("checked", secret=True, template=refuse),
    ]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(service: MicroService) -> str:
    return f"{service.get_settings()} {service.configuration_help()}"


def test_a_secret_is_masked_wherever_settings_are_shown() -> None:
    service = Vault()
    service.configure(["--password", "sesame", "--secret_key", "abracadabra"])
    assert (service.password, service.secret_key) == ("sesame", "abracadabra")

    text = shown(service)
    for secret in ("sesame", "abracadabra", "1234"):
        assert secret not in text
    settings = {setting.name: setting.value for setting in service.get_settings()}
    assert settings["password"] == settings["pin"] == "********"
    # That there is none is no secret.
    assert settings["service_registry_token"] == "none"


@pytest.mark.parametrize(
    "words", [["--pin", "12e4"], ["--checked", "12e4"], ["--pin=12e4"], ["--pni=12e4"]]
)
def test_a_wrong_secret_is_not_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Vault().configure(words)

    err = capsys.readouterr().err
    assert "--p" in err or "--checked" in err
    assert "12e4" not in err


def test_the_passwords_of_transports_are_not_shown() -> None:
    service = Vault()
    service.configure(["--event_transports", "amqp://u:sesame@127.0.0.1/%2F,redis://:sesame@h/0"])

    assert len(service.event_transports) == 2
    assert "127.0.0.1" in shown(service)
    assert "sesame" not in shown(service)


def test_a_file_stands_for_what_is_in_it(in_empty_folder: Path) -> None:
    path = in_empty_folder / "token"
    path.write_text("sesame\n")
    service = Vault()
    service.configure([f"--password=file:{path}"])

    assert service.password == "sesame"


def test_a_file_may_be_named_by_every_source(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_empty_folder / "token"
    path.write_text("4321\n")
    (in_empty_folder / "vault.toml").write_text(f'password = "file:{path}"\n')
    monkeypatch.setenv("GEMSTONE_PIN", f"file:{path}")
    service = Vault()
    service.configure([])

    assert (service.password, service.pin) == ("4321", 4321)


@pytest.mark.parametrize("source", ["option", "variable"])
def test_a_list_may_be_in_a_file(
    source: str, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_empty_folder / "hosts"
    path.write_text("a.b, c.d\n")
    service = Vault()
    if source == "variable":
        monkeypatch.setenv("GEMSTONE_ALLOWED_HOSTS", f"file:{path}")
    service.configure(["--allowed_hosts", f"file:{path}"] if source == "option" else [])

    assert service.allowed_hosts == ["a.b", "c.d"]


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_one_line(
    content: bytes | None, in_empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = in_empty_folder / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        Vault().configure([f"--password=file:{path}"])

    assert caught.value.code == 2
    reason = "No such file or directory" if content is None else "is not UTF-8"
    assert capsys.readouterr().err == f"vault: --password: {path}: {reason}\n"
