"""A session of requests carries the calls as it is: what is hung on it sees them, and its settings
count.

What a fault of its connections is called is in test_retries.py.
"""

import functools
import traceback
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
import responses
import vcr
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from gemstone_sync import (
    BadResponse,
    BearerToken,
    ConnectionFailed,
    ConnectionLost,
    CookieToken,
    HeaderToken,
    MethodCall,
    Notification,
    RemoteService,
    ServerOverloaded,
    Timeout,
)
from gemstone_sync.testing import FakeRemoteService
from tests.support.faulty_server import (
    CERTIFICATE,
    FaultyServer,
    answer,
    close,
    drip,
    endless,
    hang,
    html,
    redirect,
)
from tests.support.waiting import LIMIT, gather, wait_until

from .faults import SHORT, WAYS, client_of, dead_url, fault_of

pytestmark = pytest.mark.usefixtures("no_sockets_left")

NOWHERE = "http://service.invalid/api"
SECRET = "s3cr3t"


@pytest.fixture
def session() -> Any:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = CERTIFICATE
        yield session


def result(value: Any, id: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": value, "id": id}


# What is hung on it sees the calls


def test_responses_answers_the_calls(session: requests.Session) -> None:
    client = RemoteService(NOWHERE, session=session)
    with responses.RequestsMock() as mock:
        mock.post(NOWHERE, json=result("mocked", 1))
        mock.post(NOWHERE, status=204)
        mock.post(NOWHERE, json=result(None, 2), status=503, headers={"Retry-After": "7"})
        mock.post(NOWHERE, body=requests.ConnectionError("broken"))
        assert client.call_method(MethodCall("ping", ["x"], id=1)).value() == "mocked"
        client.notifications.told()
        overloaded = client.call_method("ping").error
        assert isinstance(overloaded, ServerOverloaded)
        assert overloaded.retry_after == 7
        assert "broken" in str(fault_of(client.methods.ping, ConnectionLost))

        assert mock.calls[0].request.url == NOWHERE
        assert b'"params":["x"]' in mock.calls[0].request.body
        assert mock.calls[0].request.headers["Content-Type"] == "application/json"


def test_responses_sees_nothing_of_a_client_without_a_session() -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(NOWHERE, json=result("mocked", 1))
        with RemoteService(NOWHERE) as client:
            assert fault_of(client.methods.ping, ConnectionFailed)


def test_vcr_records_the_calls_and_plays_them(session: requests.Session, tmp_path: Path) -> None:
    cassette = str(tmp_path / "calls.yaml")

    def call(url: str) -> list[Any]:
        client = client_of(url, session=session)
        calls = [MethodCall("ping", [number], id=number) for number in range(3)]
        values = [client.call_method(call).value() for call in calls]
        return [*values, client.call_batch(*calls[:1]).responses[0].value()]

    with vcr.use_cassette(cassette), FaultyServer(answer("live")) as server:
        assert call(server.url) == ["live"] * 4
        assert server.received["ping"] == 4
    with vcr.use_cassette(cassette, record_mode="none"):
        assert call(server.url) == ["live"] * 4
    assert "X-Gemstone-Deadline" in Path(cassette).read_text()


class Noting(HTTPAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append((request.body, kwargs["timeout"]))
        return super().send(request, *args, **kwargs)


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_that_is_mounted_sees_the_calls(session: requests.Session, way: str) -> None:
    adapter = Noting()
    session.mount("http://", adapter)
    with FaultyServer() as server:
        client = client_of(server, session=session, timeout=(12, 13))
        WAYS[way](client)
        assert [seen for seen, _ in adapter.seen] == [each.body for each in server.requests]
        assert adapter.seen[0][1] == (12, 13)
        assert server.received["ping"] == 1


def test_an_adapter_without_a_network(session: requests.Session) -> None:
    class Canned(requests.adapters.BaseAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
            response = requests.Response()
            response.status_code = 200
            response._content = b'{"jsonrpc":"2.0","result":"canned","id":1}'
            return response

        def close(self) -> None:
            pass

    session.mount("http://", Canned())
    client = RemoteService(NOWHERE, session=session)
    assert client.call_method(MethodCall("ping", id=1)).value() == "canned"


def test_hooks_see_the_answers(session: requests.Session) -> None:
    seen: list[int] = []
    session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    with FaultyServer(answer(), html("502 Bad Gateway")) as server:
        client = client_of(server, session=session)
        client.methods.ping()
        fault_of(client.methods.ping, BadResponse)
        assert seen[:2] == [200, 502]  # then the client asks what is idempotent

        session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        error = fault_of(client.methods.ping, BadResponse)
        assert error.status == 502
        assert "502" in str(error)


# Its settings count


def test_its_headers_auth_and_cookies_are_sent(session: requests.Session) -> None:
    session.headers.update({"User-Agent": "mine", "X-Api-Token": "of the session"})
    session.auth = ("ada", SECRET)
    with FaultyServer(answer(Set_Cookie="place=7; Path=/")) as server:
        client = client_of(server, session=session)
        client.methods.ping()
        client.methods.ping()
        first, second = (request.headers for request in server.requests)

    assert (first.get("User-Agent"), first.get("X-Api-Token")) == ("mine", "of the session")
    assert first.get("Authorization").startswith("Basic ")
    assert first.get("Content-Type") == "application/json"
    assert int(first.get("X-Gemstone-Deadline")) > 1000
    assert (first.get_all("Cookie"), second.get("Cookie")) == ([], "place=7")


def test_an_authentication_of_the_client_comes_before_the_sessions(
    session: requests.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login eve password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    session.trust_env = True
    session.cookies.set("place", "7")
    with FaultyServer() as server:
        for given in (BearerToken("mine"), CookieToken("mine"), HeaderToken("mine"), ("ada", "x")):
            client_of(server, session=session, authentication_method=given).methods.ping()
        client_of(server.url.replace("://", "://ada:x@"), session=session).methods.ping()
        bearer, cookie, header, pair, in_url = (request.headers for request in server.requests)

    assert bearer.get("Authorization") == "Bearer mine"
    assert sorted(cookie.get("Cookie").split("; ")) == ["AuthToken=mine", "place=7"]
    assert header.get("X-Api-Token") == "mine"
    assert pair.get("Authorization") == in_url.get("Authorization") == "Basic YWRhOng="


def test_its_proxies_are_used(session: requests.Session) -> None:
    with FaultyServer() as proxy:
        session.proxies = {"http": proxy.url.removesuffix("/api")}
        assert client_of(NOWHERE, session=session).methods.ping() == "pong"
        assert proxy.requests[0].head.startswith(b"POST http://service.invalid/api HTTP/1.1")


def test_a_proxy_that_breaks_has_had_the_call(session: requests.Session) -> None:
    """urllib3 has one class for that and for a proxy that cannot be reached."""
    with FaultyServer(close) as proxy:
        session.proxies = {"http": proxy.url.removesuffix("/api")}
        with pytest.raises(ConnectionLost) as caught:
            client_of(NOWHERE, session=session).notify(Notification("ping"))
        assert caught.value.may_have_run
        assert len(proxy.requests) == 1
    with pytest.raises(ConnectionFailed):
        client_of(NOWHERE, session=session).notify(Notification("ping"))


def test_its_certificates_count(session: requests.Session) -> None:
    with FaultyServer(tls=True) as server:
        assert client_of(server, session=session).methods.ping() == "pong"
        session.close()
        session.verify = True
        error = fault_of(client_of(server, session=session).methods.ping, ConnectionFailed)
        assert "certificate does not verify" in str(error)
        session.verify = False
        with pytest.warns(match="Unverified HTTPS request"):
            assert client_of(server, session=session).methods.ping() == "pong"


def test_closing_it_is_its_owners(session: requests.Session) -> None:
    with FaultyServer() as server:
        for _ in range(2):
            with client_of(server, session=session) as client:
                client.methods.ping()
        assert server.connections == 1
        assert session.post(server.url, json={"method": "plain"}).ok
        assert server.connections == 1


# What the client promises holds with it too


def test_many_greenlets_share_it(session: requests.Session) -> None:
    session.mount("http://", HTTPAdapter(pool_maxsize=20))

    def echo(exchange: Any) -> None:
        answer(exchange.request.json["params"])(exchange)

    with FaultyServer(echo) as server:
        client = client_of(server, session=session)
        calls = [functools.partial(client.methods.ping, number) for number in range(20)] * 5
        assert gather(calls) == [[number] for number in range(20)] * 5


def test_an_answer_that_is_too_large_or_too_late(session: requests.Session) -> None:
    flood = endless(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", b" " * 100_000)
    slow = drip(
        "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + " " * 900_000, every=SHORT / 9
    )
    with FaultyServer(flood, hang, slow) as server:
        client = client_of(server, session=session, max_response_size=1_000_000)
        assert "larger than 1000000 bytes" in str(fault_of(client.methods.ping, BadResponse))
        short = client.with_options(timeout=(LIMIT, SHORT))
        assert fault_of(short.methods.ping, Timeout).may_have_run is True


def test_an_answer_that_drips_ends_with_the_time_for_all(session: requests.Session) -> None:
    """Each byte comes within `timeout`, and 64 KiB of them would take an hour."""
    head = "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n"

    def drip_the_body(exchange: Any) -> None:
        exchange.socket.sendall(head.encode())
        drip(" " * 70_000, every=SHORT / 6)(exchange)

    def drip_and_hang(exchange: Any) -> None:
        exchange.socket.sendall(head.encode() + b" " * 10)
        hang(exchange)

    for behaviour in (drip_the_body, drip_and_hang):
        with FaultyServer(answer(), behaviour) as server:
            client = client_of(server, session=session)
            client.methods.connected()  # none of the time is for that
            short = client.with_options(total_timeout=SHORT)
            assert fault_of(short.methods.ping, Timeout).may_have_run


@pytest.mark.parametrize("way", ["a call", "a notification"])
def test_what_its_own_retries_have_sent_is_not_told_as_never_sent(
    session: requests.Session, way: str
) -> None:
    session.mount("http://", HTTPAdapter(max_retries=Retry(total=1, allowed_methods=None)))

    def close_all(exchange: Any) -> None:
        server.refuse()
        close(exchange)

    with FaultyServer(close_all) as server:
        error = fault_of(lambda: WAYS[way](client_of(server, session=session)), ConnectionLost)
        assert error.may_have_run
        assert "repetitions by its session's adapter" in str(error)
        assert server.received["ping"] == 1
    # Before sending they do no harm.
    session.mount("http://", HTTPAdapter(max_retries=Retry(total=1)))
    fault_of(lambda: WAYS[way](client_of(dead_url(), session=session)), ConnectionFailed)


def test_nothing_secret_in_its_url_is_told(session: requests.Session) -> None:
    retry = Retry(total=1, status_forcelist=[502], allowed_methods=None, backoff_factor=0)
    for adapter in (HTTPAdapter(), HTTPAdapter(max_retries=retry)):
        session.mount("http://", adapter)
        with FaultyServer(html("502 Bad Gateway")) as server:
            for url in (server.url, dead_url()):
                client = client_of(f"{url}?token={SECRET}", session=session)
                error = fault_of(client.methods.ping)
                assert SECRET not in "".join(traceback.format_exception(error))
    session.hooks["response"].append(lambda response, **_: response.raise_for_status())
    with FaultyServer(html("502 Bad Gateway")) as server:
        client = client_of(f"{server.url}?token={SECRET}", session=session)
        error = fault_of(client.methods.ping, BadResponse)
        assert SECRET not in "".join(traceback.format_exception(error))


def test_a_redirect_is_not_followed(session: requests.Session) -> None:
    with FaultyServer() as thief, FaultyServer(redirect(thief.url)) as server:
        client = client_of(server, session=session)
        assert "redirects are not followed" in str(fault_of(client.methods.ping, BadResponse))
        assert thief.connections == 0


def test_a_call_that_is_killed_leaves_its_answer_to_nobody(session: requests.Session) -> None:
    with FaultyServer(hang, answer("right")) as server:
        client = client_of(server, session=session)
        call = gevent.spawn(client.methods.ping)
        wait_until(lambda: server.received["ping"], "the call")
        call.kill()
        assert client.methods.ping() == "right"


def test_an_idempotent_call_is_made_again(session: requests.Session) -> None:
    with FaultyServer(close, answer()) as server:
        assert client_of(server, session=session).idempotent.ping() == "pong"
        assert server.received["ping"] == 2


def test_what_requests_refuses_to_send_is_told_without_what_is_in_it(
    session: requests.Session,
) -> None:
    session.headers["X-Api-Token"] = f"{SECRET}\r\nX-Evil: 1"
    with FaultyServer() as server:
        with pytest.raises(ValueError, match="InvalidHeader") as caught:
            client_of(server, session=session).methods.ping()
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert server.requests == []
    session.headers.pop("X-Api-Token")
    session.adapters.clear()
    with pytest.raises(ValueError, match=r"token=\*+: .*InvalidSchema"):
        RemoteService(f"{NOWHERE}?token={SECRET}", session=session).methods.ping()


def test_a_session_has_no_company(session: requests.Session) -> None:
    for more in ({"verify": False}, {"cert": "x.pem"}, {"adapter": FakeRemoteService()._adapter}):
        with pytest.raises(
            ValueError, match="a session has an adapter, verify and cert of its own"
        ):
            RemoteService(NOWHERE, session=session, **more)
    with pytest.raises(TypeError, match=r"session is a requests\.Session, not a type"):
        RemoteService(NOWHERE, session=requests.Session)
    with pytest.raises(TypeError, match="mounted on a session="):
        RemoteService(NOWHERE, adapter=HTTPAdapter())


def test_a_batch_of_notifications(session: requests.Session) -> None:
    with responses.RequestsMock() as mock:
        mock.post(NOWHERE, status=204)
        client = RemoteService(NOWHERE, session=session)
        assert list(client.call_batch(Notification("a"), Notification("b"))) == []
