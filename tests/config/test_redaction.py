"""Secrets in URLs, wherever they are shown."""

import re

import pytest

import gemstone_sync as g
from gemstone_sync import MicroService, RemoteService, transport_from_url
from gemstone_sync.broker_urls import shown
from gemstone_sync.config.redaction import MASK, is_secret_name, redacted, without_passwords
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.cli.support import run
from tests.support.http import exchange, message
from tests.support.machine import free_port


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ada:pw@h:6379/0", "redis://ada:********@h:6379/0"),
        ("redis://:p@ss@h", "redis://:********@h"),
        ("amqp://ada:p/w@h", "amqp://ada:********@h"),  # it should be written %2F
        ("http://a:x@h1,http://b:y@h2", "http://a:********@h1,http://b:********@h2"),
        ('["http://h:80","http://b:y@h2"]', '["http://h:80","http://b:********@h2"]'),
        ("http://h:8000/api?to=ada@example.org", "http://h:8000/api?to=ada@example.org"),
        ("http://ada@h/api", "http://********@h/api"),  # as a token is given
        # Characters that end the host's part of a URL, unless they are in a password.
        ("amqp://u:2024#Summer@h/v", "amqp://u:********@h/v"),
        ("http://ada:12/ab@h:80/api", "http://ada:********@h:80/api"),
        ("redis://:123?x@h", "redis://:********@h"),
        ("amqp://u:se cret@h/v", "amqp://u:********@h/v"),
        ("sqs://AKIAIOSFODNN7EXAMPLE:se/cret@", "sqs://********@"),
        ("https://TO/K+EN==@h/", "https://********@h/"),
        ("https://ghp_16C7e42F292c6912E7710c838:x-oauth-basic@h/", "https://********@h/"),
        # No port, and no @ either.
        ("amqp://u:secret#x", "amqp://u:********"),
        ("http://ada:123456", "http://ada:********"),
        ("redis://[::1]:secret/0", "redis://[::1]:********"),
        # Options.
        ("redis://H?PASSWORD=x&db=1", "redis://H?PASSWORD=********&db=1"),
        ("redis://h?pass%77ord=x", "redis://h?pass%77ord=********"),
        ("unix:///tmp/r.sock?password=se@cret", "unix:///tmp/r.sock?password=********"),
        ("http://h/api?api_key=x&a=1#token=y", "http://h/api?api_key=********&a=1#token=********"),
        ("http://h/?at=amqp%3A%2F%2Fu%3Ap%40h", "http://h/?at=********"),
        # Several, and what surrounds them.
        ("amqp://u:p@a:5672;amqp://v:q@b", "amqp://u:********@a:5672;amqp://v:********@b"),
        (
            "sentinel://:x@a:1;sentinel://:y@b:2/0",
            "sentinel://:********@a:1;sentinel://:********@b:2/0",
        ),
        ("mongodb://u:p@h1:27017,h2:27017/d", "mongodb://u:********@h1:27017,h2:27017/d"),
        ("no URL: 'sqla+postgresql://u:p@h/d'.", "no URL: 'sqla+postgresql://u:********@h/d'."),
        ("AMQP://U:P@[::1]:5672", "AMQP://U:********@[::1]:5672"),
        ("1http://u:p@h x:http://u:p@h", "1http://u:********@h x:http://u:********@h"),
        ("amqp:/u:p@h amqp:///u:p@h", "amqp:/u:********@h amqp:///u:********@h"),
        # Nothing secret in them.
        ("http://[fe80::1%25eth0]:8000/api: no", "http://[fe80::1%25eth0]:8000/api: no"),
        ("http://h:80, then a@b; http://h: a@b", "http://h:80, then a@b; http://h: a@b"),
        ("sqlite:////var/lib/a@b.db", "sqlite:////var/lib/a@b.db"),
        ("like 'redis://user:password@h/0'", "like 'redis://user:password@h/0'"),
        ("at 10:30 ada@example.org", "at 10:30 ada@example.org"),
    ],
)
def test_the_password_is_masked_and_nothing_else(text, shown):
    assert without_passwords(text) == shown


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("amqp://ada:2024#S@h:1/v?password=x", "amqp://h:1/v"),
        ("sqs://AKIA:se/cr3t@", "sqs://"),
        ("unix://:pw@/tmp/r.sock?db=1", "unix:///tmp/r.sock"),
        ("amqp://u:p@a/v?x=1;amqp://u:p@b", "amqp://a/v;amqp://b"),
    ],
)
def test_a_place_has_neither_user_nor_options(url, place):
    assert shown(url) == place


@pytest.mark.parametrize(
    "name",
    [
        *("password", "db_password", "X-Api-Key", "accessToken", "clientSecret", "userAPIKey"),
        *("newPassword2", "password_again", "passwordConfirmation", "pass_", "passwords", "PIN"),
        *("Authorization", "Proxy-Authorization", "Set-Cookie", "cardCvc"),
    ],
)
def test_names_say_that_a_value_is_a_secret_however_they_are_written(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "maxTokens", "keyfile", "bypass", "compass", "spinTime", "keyId", "keys"]
)
def test_other_names_do_not(name):
    assert not is_secret_name(name)


def test_secrets_are_masked_at_any_depth():
    value = {"users": ({"accessToken": "x", "name": "ada"}, [({"PIN": 1},)])}
    wanted = {"users": ({"accessToken": MASK, "name": "ada"}, [({"PIN": MASK},)])}
    assert redacted(value) == wanted


def test_no_text_takes_long():
    for part in ("a", "a:/", "a:b@", ".", "'", "?a=", ",a", "a ", " x y"):
        without_passwords("http://u:" + part * 20_000 + "x")  # some ms each; squared it is minutes
        without_passwords(part * 20_000)


#: 2024 is not the end of a port.
SECRETS = re.compile(r"Summer|(?<!\d)2024(?!\d)|tok3n|cr3t")
URLS = [
    "http://ada:2024#Summer@h/api",
    "http://ada:2024?Summer@h/api",
    "http://tok3n@h:Summer/api",
    "http://h:1/api?token=tok3n",
]


def holds(text: str) -> bool:
    return SECRETS.search(text) is not None


@pytest.mark.parametrize("url", [*URLS, "amqp://ada:2024#Summer@h", "sqs://AKIA:se/cr3t@"])
@pytest.mark.parametrize("option", ["service_registry_urls", "accessible_at", "event_transports"])
def test_the_command_shows_none(url, option, tmp_path):
    (tmp_path / "shop.py").write_text(
        "import gemstone_sync as g\nclass Shop(g.MicroService):\n    name = 'shop'\n"
    )
    for words in ((), ("--json",)):
        done = run("config", "shop", f"--{option}", url, *words, cwd=tmp_path)
        assert not holds(done.stdout + done.stderr)


@pytest.mark.parametrize("command", [["call_raw"], ["describe"], ["list", "--registry"], ["bench"]])
@pytest.mark.parametrize("url", URLS)
def test_commands_that_cannot_connect_show_none(command, url):
    words = [*command, url.replace("h:1", f"127.0.0.1:{free_port()}")]
    done = run(*words, *(["x"] if command[0] in ("call_raw", "bench") else []))
    assert done.code
    assert not holds(done.stderr)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RemoteService(URLS[0]),
        lambda: RemoteService([URLS[2], "http://h"]),
        lambda: g.HttpDiscoveryStrategy(URLS[1]),
        lambda: g.StaticDiscoveryStrategy({"x": URLS[2]}),
        lambda: g.RedisDiscoveryStrategy("redis://:2024#Summer@h"),
        lambda: transport_from_url("amqp://ada:2024#Summer@h"),
        lambda: transport_from_url("amqp:/ada:Summer@h"),
        lambda: g.KombuEventTransport("sqs://AKIA:se/cr3t@", accept_loss=True).start(),
        lambda: type("S", (MicroService,), {"name": "s", "modules": URLS[0]})().app,
        lambda: type("S", (MicroService,), {"name": "s", "workers": URLS[0]})().app,
    ],
)
def test_what_refuses_a_url_shows_none(make):
    with pytest.raises((ValueError, g.GemstoneError)) as caught:
        make()
    assert not holds(f"{caught.value!r} {caught.value}")
    assert caught.value.__cause__ is None or not holds(repr(caught.value.__cause__))


def test_clients_and_their_faults_show_none(caplog):
    url = f"http://127.0.0.1:{free_port()}/api?token=tok3n"
    client = RemoteService(url)
    with pytest.raises(g.ConnectionFailed) as caught:
        client.methods.x()
    strategy = g.HttpDiscoveryStrategy(url)
    for shown_as in (client, client.methods.x, client._endpoints, strategy, caught.value):
        assert not holds(f"{shown_as!r} {shown_as}")
    assert client.url == url  # it is called there
    assert "********" in str(caught.value)


def test_a_service_shows_none_of_its_own(caplog):
    class Shop(MicroService):
        name = "shop"
        accessible_at = "http://ada:tok3n@h/api"
        service_registry_urls = [f"http://127.0.0.1:{free_port()}/api?token=tok3n"]
        event_transports = [g.KombuEventTransport("sqs://AKIA:se/cr3t@", accept_loss=True)]

    service = Shop()
    told = [service.get_service_specs(), service.get_current_configuration()]
    assert not holds(str(told))


def test_the_page_of_a_registry_shows_none():
    with running_service(ServiceRegistry) as registry:
        registry.directory.add("shop", "http://h:1/api?token=tok3n", "one", 3600)
        reply = exchange(registry.port, message("GET", "/"))
    assert "http://h:1/api?token=********" in reply.body.decode()
    assert not holds(reply.body.decode())


def test_what_the_users_own_code_says_of_a_value_shows_none(capsys):
    def parse(found: str) -> str:
        raise ValueError(f"{found} is no place")

    class Shop(MicroService):
        name = "shop"
        place = ""
        configurables = [g.Configurable("place", template=parse)]

    with pytest.raises(SystemExit):
        Shop().configure(["--place", URLS[0]])
    err = capsys.readouterr().err
    assert "is no place" in err
    assert not holds(err)
