"""What serves the page: who may see it, its headers, and what it asks of the service."""

import gzip
import json
import logging
import re

import pytest

import gemstone_sync
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.observed import ObservedEvent
from gemstone_sync.explorer import Files
from gemstone_sync.explorer.files import _FOLDER
from gemstone_sync.service.explorer_events import Handled
from tests.support.http import exchange, message
from tests.support.waiting import wait_until

from .shop import TOKEN, Shop

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
NOT_FOUND, DENIED = -32601, -32001


def client_of(service):
    return service.app.test_client()


def called(service, method, params=None, **headers):
    """The result of a call, or its error."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    reply = client_of(service).post("/api", json=body, headers=headers).get_json()
    return reply["result"] if "result" in reply else reply["error"]


def made(**attributes):
    service = Shop()
    for name, value in attributes.items():
        setattr(service, name, value)
    return service


def test_all_files_together_are_small():
    sizes = [len(gzip.compress(path.read_bytes(), 9)) for path in _FOLDER.iterdir()]
    assert sum(sizes) < 60_000


def test_every_file_is_in_the_package_and_loaded_by_the_page():
    """From the page on, each is imported by one that is loaded; and none is missing."""
    names = {path.name for path in _FOLDER.iterdir()}
    found, wanted = set(), {"index.html", "status.html"}
    while wanted - found:
        name = (wanted - found).pop()
        found.add(name)
        text = (_FOLDER / name).read_text()
        wanted |= set(re.findall(r'from "\./([\w.]+)"', text))
        wanted |= set(re.findall(r'"\{folder\}/([\w.]+)"', text))
    assert found == names


def test_the_page_makes_no_html_of_texts():
    """What makes elements of a text, or code, is nowhere in it."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser"
        r"|createContextualFragment|setAttribute\(\"(on|style)|https?://(?!\[|www\.w3\.org)"
    )
    for path in _FOLDER.glob("*.js"):
        assert not forbidden.findall(re.sub(r"//.*|/\^.*", "", path.read_text())), path.name
    for path in _FOLDER.glob("*.html"):
        page = path.read_text()
        assert "style=" not in page
        assert not re.search(r"\son\w+=", page)
        assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_the_page_has_the_headers_that_keep_it_safe():
    client = client_of(made())
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"] == POLICY
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"shop" not in page.data, "it says nothing of the service"


def test_files_are_kept_for_ever_and_the_page_is_asked_for_again():
    client = client_of(made())
    page = client.get("/api/docs")
    assert page.headers["Cache-Control"] == "no-cache"
    again = client.get("/api/docs", headers={"If-None-Match": page.headers["ETag"]})
    assert again.status_code == 304
    [script] = re.findall(r'src="(docs/[0-9a-f]{16}/app\.js)"', page.get_data(as_text=True))
    file = client.get(f"/api/{script}")
    assert file.status_code == 200
    assert "immutable" in file.headers["Cache-Control"]
    assert file.headers["Content-Security-Policy"] == POLICY
    small = client.get(f"/api/{script}", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.data) == file.data
    assert small.headers["ETag"] != file.headers["ETag"]
    for wrong in ("0" * 16 + "/app.js", "x/../app.js", f"{script[5:21]}/../files.py"):
        assert client.get(f"/api/docs/{wrong}").status_code == 404


def test_other_files_have_another_folder(tmp_path):
    for name in ("index.html", "app.js"):
        (tmp_path / name).write_text(f"{name} {{version}}")
    before = Files(folder=tmp_path).version
    (tmp_path / "app.js").write_text("changed")
    assert Files(folder=tmp_path).version != before


@pytest.mark.parametrize("endpoint", ["/api", "/", "/a/b/", "/deep/er"])
def test_it_lies_below_the_endpoint(endpoint):
    service = made(endpoint=endpoint)
    base = endpoint.rstrip("/")
    client = client_of(service)
    page = client.get(f"{base}/docs")
    slash = "/" if endpoint.endswith("/") else ""
    assert f'data-slash="{slash}"' in page.get_data(as_text=True)
    moved = client.get(f"{base}/docs/")
    assert (moved.status_code, moved.headers["Location"]) == (308, "../docs")


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "::1"}, 200),
        ({"host": "0.0.0.0"}, 404),
        ({"host": "0.0.0.0", "explorer": True}, 200),
        ({"host": "0.0.0.0", "explorer": "private"}, 200),
        ({"host": "0.0.0.0", "debug": True}, 200),
        ({"trusted_proxies": ["10.0.0.1"]}, 404),
        ({"explorer": False}, 404),
        ({"explorer": False, "debug": True}, 404),
    ],
    ids=str,
)
def test_it_is_on_where_only_this_machine_reaches_it(attributes, status):
    service = made(**attributes)
    client = client_of(service)
    assert client.get("/api/docs").status_code == status
    version = Files().version
    assert client.get(f"/api/docs/{version}/app.js").status_code == status
    private = attributes.get("explorer") == "private"
    assert client.get("/api/docs/client.py").status_code == (401 if private else status)
    about = called(service, "rpc.explorer.about")
    assert about.get("code") == (NOT_FOUND if status == 404 else DENIED if private else None)


def test_another_server_has_it_only_when_asked_for():
    """Nobody knows what it has bound to."""
    service = made()
    environ = {"SERVER_SOFTWARE": "waitress", "wsgi.url_scheme": "http"}
    from werkzeug.test import EnvironBuilder

    asked = EnvironBuilder("/api/docs", environ_overrides=environ).get_environ()
    statuses = []
    for part in (service, made(explorer=True)):
        part.app.wsgi_app(dict(asked), lambda status, headers, _=None: statuses.append(status))
    assert [status[:3] for status in statuses] == ["404", "200"]


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded", "X-Forwarded-Proto"])
def test_a_proxy_nobody_spoke_of_gets_it_only_when_asked_for(running_service, field):
    """Such a proxy on the same machine speaks for anybody."""
    proxied = message("GET", "/api/docs", headers={field: "for=192.0.2.1"})
    by_default, wanted = running_service(Shop), running_service(Shop, explorer=True)
    assert exchange(by_default.port, message("GET", "/api/docs")).status == 200
    assert exchange(by_default.port, proxied).status == 404
    assert exchange(wanted.port, proxied).status == 200
    assert exchange(running_service(Shop, debug=True).port, proxied).status == 200


@pytest.mark.parametrize("wrong", ["public", 3, ["private"]], ids=str)
def test_another_value_is_refused(wrong):
    service = made(explorer=wrong)
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match=r"explorer:? must be"):
        service.app  # noqa: B018


@pytest.mark.parametrize(
    ("text", "value"), [("private", "private"), ("true", True), ("no", False), ("none", None)]
)
def test_it_is_set_from_outside(text, value, monkeypatch):
    monkeypatch.setenv("GEMSTONE_EXPLORER", text)
    service = Shop()
    service.configure([])
    assert service.explorer is value or service.explorer == value


def test_a_route_of_the_services_own_goes_first():
    class Own(Shop):
        @gemstone_sync.route("/api/docs")
        def mine(self):
            return "mine"

    assert client_of(Own()).get("/api/docs").data == b"mine"


# What the page asks for


def test_about_tells_where_tokens_stand():
    about = called(made(), "rpc.explorer.about")
    assert about["tokens"] == [{"kind": "header", "name": "X-Api-Token"}]
    assert (about["may_emit"], about["handled"], about["dead_letters"]) == (False, False, False)

    strategies = [
        gemstone_sync.BearerTokenStrategy(),
        gemstone_sync.BasicAuthStrategy(),
        gemstone_sync.BasicCookieStrategy("sid"),
    ]
    told = called(made(validation_strategies=strategies), "rpc.explorer.about")["tokens"]
    assert [each["kind"] for each in told] == ["bearer", "basic", "cookie"]


def test_a_private_one_answers_those_only_who_are_let_in():
    service = made(explorer="private", event_transports=[gemstone_sync.MemoryEventTransport()])
    for method in ("about", "handled", "dead_letters"):
        refused = called(service, f"rpc.explorer.{method}")
        assert refused["code"] == DENIED
        assert refused["data"] == {"tokens": [{"kind": "header", "name": "X-Api-Token"}]}
        assert "code" not in called(service, f"rpc.explorer.{method}", **{"X-Api-Token": TOKEN})
    replay = {"store": "x", "id": "y"}
    assert called(service, "rpc.explorer.replay", replay)["code"] == DENIED
    client = client_of(service)
    assert client.get("/api/docs/client.py").status_code == 401
    assert client.get("/api/docs/client.py", headers={"X-Api-Token": TOKEN}).status_code == 200


@pytest.mark.parametrize(
    ("setting", "code"), [(False, NOT_FOUND), ("private", DENIED)], ids=["off", "private"]
)
def test_parameters_are_told_to_nobody_who_may_not_call(setting, code):
    """Not even that they are wrong."""
    transports = [gemstone_sync.MemoryEventTransport()]
    service = made(explorer=setting, explorer_may_emit=True, event_transports=transports)
    for method in ("about", "emit", "handled", "dead_letters", "replay"):
        assert called(service, f"rpc.explorer.{method}", {"wrong": 1})["code"] == code


def test_no_shared_cache_keeps_what_a_private_one_gives():
    """Caches that know no custom header of a token would give it to anybody."""
    client = client_of(made(explorer="private"))
    reply = client.get("/api/docs/client.py", headers={"X-Api-Token": TOKEN})
    assert reply.headers["Cache-Control"] == "private, no-cache"
    again = {"If-None-Match": reply.headers["ETag"]}
    assert client.get("/api/docs/client.py", headers=again).status_code == 401


@pytest.mark.parametrize("setting", [None, True, False])
def test_events_are_told_in_private_only(setting):
    service = made(explorer=setting, event_transports=[gemstone_sync.MemoryEventTransport()])
    for method, params in (
        ("handled", {}),
        ("dead_letters", {}),
        ("replay", {"store": "x", "id": "y"}),
    ):
        refused = called(service, f"rpc.explorer.{method}", params, **{"X-Api-Token": TOKEN})
        assert refused["code"] == NOT_FOUND


def test_nothing_is_emitted_unless_the_service_says_so():
    transports = [gemstone_sync.MemoryEventTransport()]
    body = {"name": "order.placed", "body": {"order": 1, "total": "2"}}
    service = made(event_transports=transports)
    assert called(service, "rpc.explorer.emit", body)["code"] == NOT_FOUND
    assert called(made(explorer_may_emit=True), "rpc.explorer.emit", body)["code"] == NOT_FOUND
    private = made(explorer="private", explorer_may_emit=True, event_transports=transports)
    assert called(private, "rpc.explorer.emit", body)["code"] == DENIED


def test_an_event_of_the_services_is_emitted(running_service, recorded_events):
    service = running_service(
        Shop, explorer_may_emit=True, event_transports=[gemstone_sync.MemoryEventTransport()]
    )
    emitted = recorded_events(service)
    assert called(service, "rpc.explorer.about")["may_emit"]
    body = {"order": 1, "total": "2.50"}
    for name in ("order.placed", "order.paid"):
        assert isinstance(called(service, "rpc.explorer.emit", {"name": name, "body": body}), str)
    assert [event.name for event in emitted.events] == ["order.placed", "order.paid"]

    for name, given, which in (
        ("other.event", body, "name"),
        ("order.placed", {"order": "x"}, "body"),
        ("order.*", body, "body"),
    ):
        refused = called(service, "rpc.explorer.emit", {"name": name, "body": given})
        assert refused["code"] == -32602
        assert [each["name"] for each in refused["data"]["parameters"]] == [which]


def test_a_foreign_page_cannot_ask(running_service):
    """The gate stands before these methods as before every other."""
    service = running_service(Shop, explorer_may_emit=True)
    body = b'{"jsonrpc":"2.0","id":1,"method":"rpc.explorer.about"}'
    kind = {"Content-Type": "application/json"}
    foreign = message("POST", "/api", body=body, headers={**kind, "Origin": "http://evil.example"})
    assert exchange(service.port, foreign).status == 403
    rebound = message("GET", "/api/docs", headers={"Host": "evil.example"})
    assert exchange(service.port, rebound).status == 403


# Telling where it is


def test_one_line_tells_where_it_is(running_service, caplog):
    caplog.set_level(logging.INFO)
    service = running_service(Shop)
    line = f"shop shows itself at http://127.0.0.1:{service.port}/api/docs"
    assert [each.message for each in caplog.records].count(line) == 1
    caplog.clear()
    running_service(Shop, explorer=False)
    assert not [each for each in caplog.records if "shows itself" in each.message]


def test_a_private_one_that_lets_nobody_in_is_warned_of(running_service, caplog):
    class Closed(gemstone_sync.MicroService):
        name = "closed"

    running_service(Closed, explorer="private")
    assert 'explorer = "private" lets nobody in' in caplog.text


def test_methods_of_the_page_are_no_methods_of_the_service():
    service = made()
    names = [
        method["name"] for method in client_of(service).get("/api/openrpc.json").json["methods"]
    ]
    assert not [name for name in names if name.startswith("rpc.")]
    assert not [name for name in service.methods if name.startswith("rpc.")]


def test_dead_letters_are_told_and_replayed(running_service):
    """With reason and traceback; a replayed one goes to its handler again."""
    transport = gemstone_sync.MemoryEventTransport()
    service = running_service(Shop, explorer="private", event_transports=[transport])
    token = {"X-Api-Token": TOKEN}
    service.emit_event("order.placed", {"order": 13, "total": "1"})

    def letters():
        return called(service, "rpc.explorer.dead_letters", **token)

    wait_until(letters, "the dead letter")
    [letter] = letters()
    assert (letter["name"], letter["reason"]) == ("order.placed", "failed")
    assert (letter["error"], letter["attempts"]) == ("ValueError: no luck", 1)
    assert "in on_order" in letter["traceback"]
    assert json.loads(letter["body"])["order"] == 13
    # Kept when its handler's attempt is over, which may be a moment after it was buried.
    [handled] = wait_until(lambda: called(service, "rpc.explorer.handled", **token), "the attempt")
    assert (handled["dead"], handled["id"]) == ("failed", letter["id"])

    which = {"store": letter["store"], "id": letter["id"]}
    assert called(service, "rpc.explorer.replay", which, **token) == 1
    wait_until(lambda: len(called(service, "rpc.explorer.handled", **token)) == 2, "its handler")
    for wrong, name in (({**which, "store": "x"}, "store"), ({**which, "id": "x"}, "id")):
        refused = called(service, "rpc.explorer.replay", wrong, **token)
        assert [each["name"] for each in refused["data"]["parameters"]] == [name]


def test_the_newest_fifty_events_are_kept_and_large_ones_are_cut():
    handled = Handled()
    for number in range(60):
        envelope = Envelope(name="a", body=b'"%s"' % (b"x" * 100_000), id=str(number))
        event = ObservedEvent("a", "handler", envelope)
        event.end()
        handled.on_event_finished(event)
    newest = handled.newest()
    assert [each["id"] for each in newest] == [str(number) for number in range(59, 9, -1)]
    assert max(len(each["body"]) for each in newest) == 20_000


def test_a_service_that_is_not_private_keeps_no_events():
    """What is not told is not kept: it costs nothing."""
    for setting in (None, True, False):
        service = made(explorer=setting)
        assert not service._assemble().event_hooks
    assert made(explorer="private")._assemble().event_hooks
