"""Secrets: read from files, and never shown."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import BaseConfigurator, Configurable, MicroService, ServiceConfigurationError


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


def shown(service: MicroService) -> str:
    return f"{service.get_settings()} {service.configuration_help()}"


def test_a_secret_is_masked_wherever_settings_are_shown():
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


class Careless(MicroService):
    name = "careless"
    db_password = "sesame-1"
    API_KEY = "sesame-2"
    stripe = {"url": "http://x", "secret": "sesame-3", "others": [{"access_token": "sesame-4"}]}
    shown_token = "open"
    configurables = [
        Configurable("db_password"),
        Configurable("API_KEY"),
        Configurable("stripe"),
        Configurable("shown_token", secret=False),
    ]


def test_what_a_name_calls_a_secret_is_one():
    text = shown(Careless())

    assert "sesame" not in text
    assert "http://x" in text
    assert "open" in text


@pytest.mark.parametrize("words", ["--pin 12e4", "--checked 12e4", "--pin=12e4", "--pni=12e4"])
def test_a_wrong_secret_is_not_shown(words, refusal):
    err = refusal(Vault(), *words.split())

    assert "--p" in err or "--checked" in err
    assert "12e4" not in err


def test_the_passwords_of_transports_are_not_shown():
    service = Vault()
    service.configure(["--event_transports", "amqp://u:sesame@127.0.0.1/%2F,redis://:sesame@h/0"])

    assert len(service.event_transports) == 2
    assert "127.0.0.1" in shown(service)
    assert "sesame" not in shown(service)


URL = "redis://ada:sesame@127.0.0.1/0"


def test_the_passwords_of_urls_are_not_shown():
    class Stored(Vault):
        event_deduplication = URL

    service = Stored()
    service.configure(["--service_registry_urls", URL])
    assert service.service_registry_urls == [URL]

    settings = {setting.name: setting.value for setting in service.get_settings()}
    assert settings["event_deduplication"] == "redis://ada:********@127.0.0.1/0"
    assert settings["service_registry_urls"] == "[redis://ada:********@127.0.0.1/0]"
    assert "127.0.0.1/0" in Stored().configuration_help()
    assert "sesame" not in Stored().configuration_help()


@pytest.mark.parametrize(
    "words",
    [["--max_hops", URL], ["--port", URL], ["--service_registry_urls", f'["", "{URL}"]'], [URL]],
)
def test_the_password_of_a_url_in_the_wrong_place_is_not_shown(words, refusal):
    assert "redis://ada:********@127.0.0.1/0" in refusal(Vault(), *words)


@pytest.mark.parametrize(
    ("name", "line"),
    [("vault.ini", "password sesame"), ("vault.ini", "[password = sesame"), (".env", "A sesame")],
)
def test_a_line_that_is_no_setting_is_not_shown(name, line, refusal):
    Path(name).write_text(f"{line}\n")

    err = refusal(Vault(), *([] if name == ".env" else ["--config", name]))
    assert err.startswith(f"vault: {name}: line 1: expected ")
    assert "sesame" not in err


def test_a_traceback_does_not_show_a_secret():
    configurable = Configurable("checked", secret=True, template=refuse)
    configurable.set_value("sesame")
    with pytest.raises(ValueError, match="not shown") as caught:
        configurable.get_final_value()

    assert "sesame" not in "".join(traceback.format_exception(caught.value))


class Setter(Vault):
    configurables = [*Vault.configurables, Configurable("code", secret=True)]

    @property
    def code(self) -> str:
        return "1234"

    @code.setter
    def code(self, value: str) -> None:
        if value.startswith("1"):
            raise ValueError(f"{value} is too short")
        raise ServiceConfigurationError(f"{value} is too long")


class Numbers(BaseConfigurator):
    def load(self) -> None: ...

    def get(self, name: str) -> Any:
        return {"secret_key": 12345}.get(name)


class Numbered(Vault):
    configurators = [Numbers()]


@pytest.mark.parametrize(
    ("cls", "words", "line"),
    [
        (Setter, ["--code", "12345"], "--code: cannot be used (the value is a secret"),
        (Setter, ["--code", "012345"], "--code: cannot be used (the value is a secret"),
        (Vault, ["--service_registry_token", ""], "must be a text that is not empty, or None, not"),
        (Numbered, [], "<Numbers>: Numbered.secret_key must be a text or bytes, not ********"),
    ],
)
def test_a_secret_that_the_service_refuses_is_not_shown(cls, words, line, refusal):
    err = refusal(cls(), *words)

    assert line in err
    assert "12345" not in err


def test_a_file_stands_for_what_is_in_it_in_every_source(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text("\ufeff4321\r\n", encoding="utf-8")
    Path("vault.toml").write_text(f'password = "file:{path}"\n')
    monkeypatch.setenv("GEMSTONE_PIN", f"file:{path}")
    service = Vault()
    service.configure([f"--secret_key=file:{path}"])

    assert (service.password, service.pin, service.secret_key) == ("4321", 4321, "4321")


@pytest.mark.parametrize("content", ["a.b, c.d\n", "a.b\nc.d\n"])
def test_a_list_may_be_in_a_file(content, tmp_path):
    path = tmp_path / "hosts"
    path.write_text(content)
    service = Vault()
    service.configure(["--allowed_hosts", f"file:{path}"])

    assert service.allowed_hosts == ["a.b", "c.d"]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path, refusal):
    path = tmp_path / "token"
    path.write_bytes(b"\xff")
    for name, reason in {
        f"{tmp_path}/absent": "No such file or directory",
        str(path): "is not UTF-8",
        "/dev/zero": "is longer than 1000000 bytes",
    }.items():
        err = refusal(Vault(), f"--password=file:{name}")
        assert err == f"vault: --password: {name}: {reason}\n"
