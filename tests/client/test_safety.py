"""What a client must never do, whoever answers and whatever the environment holds.

Nothing secret reaches another host, a message or a log; no wait is endless.
Certificates are in test_tls.py, answers that are too large in test_sizes.py.
"""

import base64
import copy
import logging
import math
import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import AuthBase

from gemstone_sync import (
    BadResponse,
    BasicAuth,
    BearerToken,
    CookieToken,
    HeaderToken,
    MethodCall,
    Notification,
    RemoteService,
    ServerOverloaded,
    TransportError,
)
from tests.support.faulty_server import (
    Behaviour,
    FaultyServer,
    answer,
    body,
    close,
    hang,
    html,
    raw,
    redirect,
)
from tests.support.machine import free_port
from tests.support.waiting import LIMIT

from .faults import BAD, LAG, LATE, LOST, SHORT, fault_of, patient

SECRET = "s3cr3t-Zq7"
#: As it may look: plain, or with a user's name in base64 at any of its three alignments.
SHAPES = [SECRET] + [
    base64.b64encode(b"x" * shift + SECRET.encode())[4:-4].decode() for shift in range(3)
]


class Custom(AuthBase):
    """Somebody's own authentication, made for each request."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Custom"] = SECRET
        return request


CREDENTIALS: dict[str, Any] = {
    "header": HeaderToken(SECRET),
    "a header of another name": HeaderToken(SECRET, "X-Other", "Token {}"),
    "cookie": CookieToken(SECRET),
    "bearer": BearerToken(SECRET),
    "basic": BasicAuth("ada", SECRET),
    "a tuple": ("ada", SECRET),
    "requests' own": requests.auth.HTTPBasicAuth("ada", SECRET),
    "one's own": Custom(),
}


def carries_the_secret(text: str) -> bool:
    return any(shape in text for shape in SHAPES)


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 X", "308 X"])
@pytest.mark.parametrize("kind", CREDENTIALS)
def test_a_redirect_takes_nothing_to_another_host(kind: str, status: str) -> None:
    with FaultyServer(host="127.0.0.2") as thief:
        with (
            FaultyServer(redirect(thief.url, status)) as server,
            RemoteService(server.url, authentication_method=CREDENTIALS[kind]) as client,
        ):
            for call in (client.methods.ping, client.idempotent.ping, client.notifications.ping):
                with pytest.raises(BadResponse, match="redirect") as caught:
                    call()
                assert caught.value.status == int(status[:3])
            with pytest.raises(BadResponse, match="redirect"):
                client.call_batch(MethodCall("ping"), Notification("ping"))

            sent = server.requests[0].head.decode("latin-1")
        assert carries_the_secret(sent)
        assert server.received["ping"] == 5
        assert thief.connections == 0


def test_a_cookie_that_a_server_sets_is_not_kept() -> None:
    """A client is shared: what one caller was given is not the next one's."""
    with (
        FaultyServer(answer(Set_Cookie=f"session={SECRET}; Path=/")) as server,
        RemoteService(server.url, authentication_method=CookieToken("mine")) as client,
    ):
        client.methods.ping()
        client.methods.ping()

        assert [r.headers.get("Cookie") for r in server.requests] == ["AuthToken=mine"] * 2


# The environment


def test_the_environment_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password evil\ndefault login eve password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with FaultyServer() as proxy, FaultyServer() as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        for name in ("NO_PROXY", "no_proxy", "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.setenv(name, "/nonexistent")

        # That the environment is one that requests obeys:
        requests.post(server.url, json={"method": "plain"}, auth=None)
        assert proxy.received["plain"] == 1
        with RemoteService(server.url, authentication_method=BearerToken("mine")) as client:
            assert client.methods.ping() == "pong"
        with RemoteService(server.url) as client:
            assert client.methods.ping() == "pong"

        assert server.requests[0].headers.get("Authorization") == "Bearer mine"
        assert "Authorization" not in server.requests[1].headers
        assert "Proxy-Authorization" not in server.requests[1].headers
        assert proxy.received["ping"] == 0


# Headers that end early


BREAKS = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b", "a\r\n\r\nPOST /evil"]


@pytest.mark.parametrize("token", [*BREAKS, "\u20ac", "a\x7f"])
@pytest.mark.parametrize("make", [HeaderToken, BearerToken, CookieToken], ids=str)
def test_a_token_cannot_end_its_header(make: Callable[[str], AuthBase], token: str) -> None:
    with pytest.raises(ValueError, match="characters") as caught:
        make(SECRET + token)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["X-A\r\nX-Evil", "X A", "X-A:", "", "X-\u20ac"])
def test_a_header_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        HeaderToken("token", name)


@pytest.mark.parametrize("value", [*BREAKS, "\u20ac"])
def test_another_authentication_cannot_end_its_header_either(value: str) -> None:
    class Evil(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["X-Token"] = SECRET + value
            return request

    with (
        FaultyServer() as server,
        RemoteService(server.url, authentication_method=Evil()) as client,
    ):
        with pytest.raises(ValueError, match="header") as caught:
            client.methods.ping()

        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert server.requests == []


@pytest.mark.parametrize("where", ["http://127.0.0.1:{}/a\r\nX-Evil: 1", "http://127.0.0.1:{}/a b"])
def test_a_url_cannot_end_the_request_line(where: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        RemoteService(where.format(1))


def test_a_method_name_stays_in_the_body() -> None:
    name = "x\r\nX-Evil: 1\r\n\r\n"
    with FaultyServer() as server, patient(server.url) as client:
        client.methods[name]()
        assert server.requests[0].methods == [name]
        assert "X-Evil" not in server.requests[0].headers


# Secrets


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize(
    "behaviour",
    [
        *LOST.values(),
        LATE["half a body, then silence"],
        BAD["no HTTP"][1],
        BAD["half a head"][1],
        BAD["another id"][1],
        html(),
        html("502 Bad Gateway"),
        body("", "503 Busy"),
    ],
)
def test_a_secret_is_in_no_message_and_no_log(
    kind: str, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        FaultyServer(behaviour) as server,
        RemoteService(
            server.url, timeout=(LIMIT, SHORT), authentication_method=CREDENTIALS[kind]
        ) as client,
    ):
        with pytest.raises((TransportError, ServerOverloaded)) as caught:
            client.methods.ping(SECRET)
        error = caught.value
        shown = [
            *(repr(one) for one in (client, client.methods, client.methods.ping, error)),
            str(error),
            "".join(traceback.format_exception(error)).replace(__file__, ""),
            caplog.text,
        ]
    assert carries_the_secret(server.requests[0].head.decode("latin-1"))
    assert not [text for text in shown if carries_the_secret(text)]


CREDENTIAL_URLS = {
    "ada:s3cr3t-Zq7": "ada:s3cr3t-Zq7",
    "ada%40home:s3cr3t-Zq7%2F%3A": "ada@home:s3cr3t-Zq7/:",
    "ada:": "ada:",
    ":s3cr3t-Zq7": ":s3cr3t-Zq7",
    "ada:p@s3cr3t-Zq7": "ada:p@s3cr3t-Zq7",
}


@pytest.mark.parametrize("written", CREDENTIAL_URLS)
def test_credentials_in_a_url_are_sent_and_not_shown(
    written: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultyServer(answer(), close) as server:
        bare = server.url
        with RemoteService(bare.replace("://", f"://{written}@")) as client:
            assert client.methods.ping() == "pong"
            error = fault_of(client)
            shown = [client.url, repr(client), repr(client.methods.ping), str(error), repr(error)]

        sent = server.requests[0]
        token = base64.b64encode(CREDENTIAL_URLS[written].encode()).decode()
        assert sent.headers.get("Authorization") == f"Basic {token}"
        assert sent.headers.get("Host") == f"127.0.0.1:{server.port}"
        assert sent.line == "POST /api HTTP/1.1"
    assert client.url == bare
    assert not [text for text in [*shown, caplog.text] if SECRET in text or "ada" in text]


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://ada:{SECRET}@127.0.0.1/",
        f"http://ada:{SECRET}@/",
        f"http://ada:{SECRET}@127.0.0.1:99999/",
        f"http://ada:{SECRET}@127.0.0.1:0/",
        f"http://ada:{SECRET}@127.0.0.1:port/",
        f"http://ada:{SECRET} x@127.0.0.1/",
        f"http://ada:{SECRET}@127.0.0.1/a b",
        f"http://ada:{SECRET}@[::1/",
    ],
)
def test_a_url_that_cannot_be_used_does_not_show_its_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # whatever the words
        RemoteService(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert "ada" not in str(caught.value)
    # The source lines of this file are in the traceback, with SECRET's name and not its value.
    assert SECRET not in shown


def test_credentials_in_the_url_and_an_authentication_method() -> None:
    with pytest.raises(ValueError, match="credentials") as caught:
        RemoteService(f"http://ada:{SECRET}@127.0.0.1/", authentication_method=BearerToken("x"))
    assert SECRET not in str(caught.value)


def test_a_password_in_an_unreachable_url_is_not_shown() -> None:
    url = f"http://ada:{SECRET}@127.0.0.1:{free_port()}/api"
    with RemoteService(url) as client:
        error = fault_of(client)
        assert SECRET not in "".join(traceback.format_exception(error))
        assert "ada" not in str(error)


@pytest.mark.parametrize("kind", ["header", "cookie", "bearer", "basic"])
def test_credentials_do_not_show_what_they_hold(kind: str) -> None:
    credentials = CREDENTIALS[kind]
    assert not carries_the_secret(repr(credentials))
    assert not carries_the_secret(f"{credentials}")
    assert repr(copy.copy(credentials)) == repr(credentials)


def test_an_exception_can_travel_between_processes() -> None:
    with FaultyServer(html()) as server, patient(server.url) as client:
        error = fault_of(client)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


# Waits


@pytest.mark.parametrize("seconds", [0, -1, -0.0, None, math.nan, math.inf, "1", [1], (1, None)])
def test_a_wait_has_an_end(seconds: Any) -> None:
    url = "http://127.0.0.1:1/api"
    for name in ("timeout", "total_timeout"):
        with pytest.raises((ValueError, TypeError), match=name):
            RemoteService(url, **{name: seconds})
        with pytest.raises((ValueError, TypeError), match=name):
            RemoteService(url).with_options(**{name: seconds})
    for both_ in ((seconds, 1), (1, seconds)):
        with pytest.raises((ValueError, TypeError), match="timeout"):
            RemoteService(url, timeout=both_)


@pytest.mark.parametrize("seconds", [(), (1,), (1, 2, 3)])
def test_time_outs_are_two(seconds: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="timeout"):
        RemoteService("http://127.0.0.1:1/api", timeout=seconds)


def test_a_wait_that_is_longer_than_a_timer_can_be_is_bounded_by_the_total() -> None:
    with FaultyServer(hang) as server:
        client = RemoteService(server.url, timeout=1e300, total_timeout=SHORT)
        fault_of(client)
        client.close()


def test_time_is_bounded_without_asking_for_it() -> None:
    with FaultyServer() as server, RemoteService(server.url) as client:
        client.methods.ping()
        assert int(server.requests[0].headers.get("X-Gemstone-Deadline")) == 10_000 + LAG


def test_the_client_says_nothing_of_the_machine() -> None:
    with FaultyServer() as server, RemoteService(server.url) as client:
        client.methods.ping()
        head = server.requests[0].head.decode()
    assert re.search(r"^User-Agent: gemstone_sync\r$", head, re.MULTILINE)
    assert "python" not in head.lower()


def test_an_answer_after_the_answer_is_nobody_elses() -> None:
    """A second reply that came along must not be taken for the one to the next call."""
    evil = b'{"jsonrpc":"2.0","result":"evil","id":2}'
    extra = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(evil), evil)
    good = b'{"jsonrpc":"2.0","result":"good","id":1}'
    first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(good), good)
    with FaultyServer(raw(first + extra), answer("right")) as server:
        with patient(server.url) as client:
            assert client.call_method(MethodCall("ping", id=1)).value() == "good"
            assert client.call_method(MethodCall("ping", id=2)).value() == "right"
        assert server.connections == 2
