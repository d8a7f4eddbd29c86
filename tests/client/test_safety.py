"""What a client must never do, whoever answers and whatever the environment holds.

Nothing secret reaches another host, a message or a log; no wait is endless.
Certificates are in test_tls.py, answers that are too large in test_sizes.py.
"""

import base64
import copy
import functools
import logging
import math
import re
import traceback
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
    GemstoneError,
    HeaderToken,
    MethodCall,
    Notification,
    RemoteService,
)
from tests.support.faulty_server import (
    Behaviour,
    FaultyServer,
    answer,
    body,
    close,
    hang,
    raw,
    redirect,
)

from .faults import BAD, LAG, LATE, LOST, client_of, fault_of, hurried

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
TOKENS = (HeaderToken, BearerToken, CookieToken)


def carries_the_secret(text: str) -> bool:
    return any(shape in text for shape in SHAPES)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *[(kind, "302 Found") for kind in CREDENTIALS],
        *[("header", status) for status in ("301 Moved", "303 See Other", "307 X", "308 X")],
    ],
)
def test_a_redirect_takes_nothing_to_another_host(kind: str, status: str) -> None:
    with (
        FaultyServer(host="127.0.0.2") as thief,
        FaultyServer(redirect(thief.url, status)) as server,
        client_of(server, authentication_method=CREDENTIALS[kind]) as client,
    ):
        for call in (
            client.methods.ping,
            client.idempotent.ping,
            client.notifications.ping,
            lambda: client.call_batch(MethodCall("ping"), Notification("ping")),
        ):
            error = fault_of(call, BadResponse)
            assert "redirect" in str(error)
            assert error.status == int(status[:3])

        assert carries_the_secret(server.requests[0].head.decode("latin-1"))
        assert server.received["ping"] == 5
        assert thief.connections == 0


def test_a_cookie_that_a_server_sets_is_not_kept() -> None:
    """A client is shared: what one caller was given is not the next one's."""
    with (
        FaultyServer(answer(Set_Cookie=f"session={SECRET}; Path=/")) as server,
        client_of(server, authentication_method=CookieToken("mine")) as client,
    ):
        client.methods.ping()
        client.methods.ping()

        assert [r.headers.get("Cookie") for r in server.requests] == ["AuthToken=mine"] * 2


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
        with client_of(server, authentication_method=BearerToken("mine")) as client:
            assert client.methods.ping() == "pong"
        with RemoteService(server.url) as client:
            assert client.methods.ping() == "pong"

        assert server.requests[0].headers.get("Authorization") == "Bearer mine"
        assert "Authorization" not in server.requests[1].headers
        assert "Proxy-Authorization" not in server.requests[1].headers
        assert proxy.received["ping"] == 0


BREAKS = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b", "a\r\n\r\nPOST /evil"]


@pytest.mark.parametrize(
    "made",
    [
        *[(cls, SECRET + end) for cls in TOKENS for end in [*BREAKS, "\u20ac", "a\x7f"]],
        *[(cls, "") for cls in (HeaderToken, BearerToken)],
        (HeaderToken, f" {SECRET}"),
        (HeaderToken, SECRET, "X-Token", "{}\r\n"),
        *[(HeaderToken, SECRET, name) for name in ("X-A\r\nX-Evil", "X A", "X-A:", "", "X-\u20ac")],
        (CookieToken, f"{SECRET};b"),
        (CookieToken, f"{SECRET} b"),
        (CookieToken, SECRET, "a=b"),
        (BasicAuth, "a:b", SECRET),
    ],
)
def test_a_token_that_http_cannot_carry(made: tuple[Any, ...]) -> None:
    kind, *arguments = made
    with pytest.raises(ValueError, match=r"header|cookie|colon") as caught:
        kind(*arguments)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [*BREAKS, "\u20ac"])
def test_another_authentication_cannot_end_its_header_either(value: str) -> None:
    class Evil(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["X-Token"] = SECRET + value
            return request

    with FaultyServer() as server, client_of(server, authentication_method=Evil()) as client:
        with pytest.raises(ValueError, match="header") as caught:
            client.methods.ping()

        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert server.requests == []


def test_a_method_name_stays_in_the_body() -> None:
    name = "x\r\nX-Evil: 1\r\n\r\n"
    with FaultyServer() as server, client_of(server) as client:
        client.methods[name]()
        assert server.requests[0].methods == [name]
        assert "X-Evil" not in server.requests[0].headers


FAULTS: dict[str, Behaviour] = {
    **LOST,
    "busy": body("", "503 Busy"),
    **{name: BAD[name][1] for name in ("no HTTP", "half a head", "another id", "HTML", "HTML 502")},
    "half a body, then silence": LATE["half a body, then silence"],
}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(kind, "busy") for kind in CREDENTIALS] + [("header", fault) for fault in FAULTS],
)
def test_a_secret_is_in_no_message_and_no_log(
    kind: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        FaultyServer(FAULTS[fault]) as server,
        hurried(server, fault, authentication_method=CREDENTIALS[kind]) as client,
    ):
        error = fault_of(lambda: client.methods.ping(SECRET), GemstoneError)
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
        url = server.url.replace("://", f"://{written}@")
        with RemoteService(url) as client:
            assert client.methods.ping() == "pong"
            lost = fault_of(client.methods.ping)
    with RemoteService(url) as client:
        unreachable = fault_of(client.methods.ping)
        shown = [client.url, repr(client), repr(client.methods.ping)]
        shown += [str(lost), repr(lost), str(unreachable), repr(unreachable), caplog.text]
    traces = ["".join(traceback.format_exception(error)) for error in (lost, unreachable)]

    sent = server.requests[0]
    token = base64.b64encode(CREDENTIAL_URLS[written].encode()).decode()
    assert sent.headers.get("Authorization") == f"Basic {token}"
    assert sent.headers.get("Host") == f"127.0.0.1:{server.port}"
    assert sent.head.startswith(b"POST /api HTTP/1.1\r\n")
    assert client.url == server.url
    assert isinstance(client.authentication_method, BasicAuth)
    assert not [text for text in [*shown, *traces] if SECRET in text]
    assert not [text for text in shown if "ada" in text]


def test_credentials_in_the_url_and_an_authentication_method() -> None:
    with pytest.raises(ValueError, match="credentials") as caught:
        RemoteService(f"http://ada:{SECRET}@127.0.0.1/", authentication_method=BearerToken("x"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", ["header", "cookie", "bearer", "basic"])
def test_credentials_do_not_show_what_they_hold(kind: str) -> None:
    credentials = CREDENTIALS[kind]
    assert "***" in repr(credentials)
    assert not carries_the_secret(f"{credentials!r} {credentials}")
    assert repr(copy.copy(credentials)) == repr(credentials)


@pytest.mark.parametrize("seconds", [0, -1, -0.0, None, math.nan, math.inf, "1", [1], (1, None)])
def test_a_wait_has_an_end(seconds: Any) -> None:
    url = "http://127.0.0.1:1/api"
    for name in ("timeout", "total_timeout"):
        for make in (functools.partial(RemoteService, url), RemoteService(url).with_options):
            with pytest.raises(ValueError, match="timeout is a"):
                make(**{name: seconds})
    for wrong in ((seconds, 1), (1, seconds), (), (1,), (1, 2, 3)):
        with pytest.raises(ValueError, match="timeout"):
            RemoteService(url, timeout=wrong)


def test_a_wait_that_is_longer_than_a_timer_can_be_is_bounded_by_the_total() -> None:
    with FaultyServer(hang) as server, client_of(server) as client:
        fault_of(client.with_options(timeout=1e300, total_timeout=0.1).methods.ping)


def test_time_is_bounded_and_nothing_of_the_machine_told_without_asking_for_it() -> None:
    with FaultyServer() as server, RemoteService(server.url) as client:
        client.methods.ping()
        sent = server.requests[0]
    assert int(sent.headers.get("X-Gemstone-Deadline")) == 10_000 + LAG
    assert re.search(r"^User-Agent: gemstone_sync\r$", sent.head.decode(), re.MULTILINE)
    assert "python" not in sent.head.decode().lower()


def test_an_answer_after_the_answer_is_nobody_elses() -> None:
    """A second reply that came along must not be taken for the one to the next call."""
    evil = b'{"jsonrpc":"2.0","result":"evil","id":2}'
    extra = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(evil), evil)
    good = b'{"jsonrpc":"2.0","result":"good","id":1}'
    first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(good), good)
    with FaultyServer(raw(first + extra), answer("right")) as server:
        with client_of(server) as client:
            assert client.call_method(MethodCall("ping", id=1)).value() == "good"
            assert client.call_method(MethodCall("ping", id=2)).value() == "right"
        assert server.connections == 2
