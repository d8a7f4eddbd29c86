"""The page, as people use it in Chromium with the network cut off.

In each of these tests nothing is refused by the Content-Security-Policy, told as an error on the
console, or asked for elsewhere: see `browser`.
"""

import http.client
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gemstone_sync
from tests.support.machine import absent
from tests.support.node import node_modules

from .corners import Corners
from .hostile import Hostile, many
from .shop import TOKEN, Shop

#: A browser is what few machines have, and takes some seconds to start.
pytestmark = pytest.mark.slow


@pytest.fixture
def shop(running_service):
    return running_service(Shop)


PLAIN = [
    "first_call",
    "by_keyboard",
    "wrong_values_before",
    "form_and_json",
    "every_kind",
    "by_position",
    "recursion",
    "notification",
    "batch",
    "errors",
    "remembering",
    "links_and_history",
    "headers_and_deadline",
]


@pytest.mark.parametrize("name", PLAIN)
def test_a_person_may(walk, shop, name):
    """Each is told by the docstring of the walk."""
    walk(name, shop)


def test_a_private_method_gets_its_token_from_a_field(walk, shop):
    walk("private_method", shop, token=TOKEN)


@pytest.mark.parametrize(
    "name",
    [
        "numbers",
        "deep_secrets",
        "odd_names",
        "forgotten_elsewhere",
        "not_sent",
        "one_is_broken",
        "long_texts",
        "untouched",
    ],
)
def test_what_is_seldom_works_too(walk, running_service, name):
    """Each is told by the docstring of the walk."""
    walk(name, running_service(Corners))


def test_a_file_of_megabytes_is_sent(walk, running_service):
    walk("large_file", running_service(Corners), size=3_000_000)


KEPT = [
    "null",
    "3",
    '"text"',
    "[",
    '{"credentials": null, "headers": null, "history": null, "deadline": null, "theme": null}',
    '{"credentials": {"header X": 5}, "headers": [null], "history": [null], "language": "curl2"}',
    '{"headers": [{"name": 1}], "history": [{"method": 1}], "language": "constructor"}',
    '{"history": {"length": 3}, "theme": {"a": 1}, "__proto__": {"remember": 1}}',
]


def test_what_is_kept_may_be_changed_by_hand(walk, running_service):
    walk("kept_by_hand", running_service(Corners), kept=KEPT)


def test_two_clicks_send_once(walk, running_service):
    transports = [gemstone_sync.MemoryEventTransport()]
    walk("twice", running_service(Shop, explorer_may_emit=True, event_transports=transports))


@pytest.mark.parametrize("value", [2**53 + 1, {"__proto__": {"a": 1}}], ids=["whole", "proto"])
def test_code_in_javascript_sends_what_the_page_sends(walk, running_service, tmp_path, value):
    """JavaScript itself would read a number beyond 2^53 otherwise, and such a key too."""
    params = {"value": value}
    found = walk("codes", running_service(Corners), method="numbers", params=params)
    if shutil.which("node") is None:
        absent("node is not installed")
    script = tmp_path / "call.mjs"
    script.write_text(found["JavaScript"])
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["result"] == value, done.stderr


CALL = {"name": 'it\'s "x" $HOME `id` \u202e \U0001f375 ü\n'}


def test_a_call_is_written_as_code_that_makes_it(walk, shop, tmp_path):
    """Each is run as it stands, and gives what the page gives."""
    found = walk("codes", shop, method="tools.greet", params=CALL, token=TOKEN)
    wanted = f"hello {CALL['name']}"
    assert all("\u202e" not in text for text in found.values())

    def run(command, text=None):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=60, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(run(["sh", "-c", found["curl"]]))["result"] == wanted
    assert json.loads(run(["sh", "-c", found["gemstone"]])) == wanted
    assert run([sys.executable, "-c", found["Python"]]) == f"{wanted}\n"
    if shutil.which("node") is not None:
        script = tmp_path / "call.mjs"
        script.write_text(found["JavaScript"])
        assert "hello it" in run(["node", str(script)])


def test_documents_and_clients_are_saved(walk, shop):
    found = walk("downloads", shop)
    starts = {
        "shop-openrpc.json": '{"openrpc":"1.4.1"',
        "shop-asyncapi.json": '{"asyncapi":"3.0.0"',
        "shop-client.py": '"""Client of shop 1.4.0.',
        "shop-client.ts": "/**",
        "shop-contract.md": "# shop 1.4.0",
    }
    assert {name: found[name][: len(start)] for name, start in starts.items()} == starts


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("tools.everything", {"text": "a", "number": 1, "day": "2026-02-31"}, "Invalid"),
        ("orders.place", {"lines": [{"product": "a"}, {"product": 3}]}, "got `int`"),
    ],
    ids=["a day that is none", "deep in a list"],
)
def test_what_only_the_service_knows_to_be_wrong_is_told_at_its_field(
    walk, shop, method, params, reason
):
    walk("wrong_values_after", shop, method=method, params=params, reason=reason)


def test_a_private_explorer_shows_no_name_before_the_token(walk, running_service):
    service = running_service(Shop, explorer="private", hide_private=True)
    walk("private_page", service, token=TOKEN, title="shop")


def test_a_token_brings_hidden_methods_into_the_list(walk, running_service):
    walk("hidden_methods", running_service(Shop, hide_private=True), token=TOKEN)


def test_events_are_emitted_seen_and_replayed(walk, running_service):
    service = running_service(
        Shop,
        explorer="private",
        explorer_may_emit=True,
        event_transports=[gemstone_sync.MemoryEventTransport()],
    )
    walk("events", service, token=TOKEN)


LINKS = [
    "",
    "#method/orders.place",
    "#method/tools.everything",
    "#method/tools.fail",
    "#method/orders.cancel",
    "#emits/order.placed",
    "#batch",
    "#history",
]


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_window(walk, shop, width):
    options = {"viewport": {"width": width, "height": 800}}
    assert walk("no_sideways", shop, links=LINKS, options=options) == []


def test_a_call_is_made_on_a_phone(walk, shop):
    options = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    walk("phone", shop, options=options)


def test_axe_finds_nothing(walk, shop, running_service):
    axe = node_modules({"axe-core": "4.14.1"}) / "node_modules" / "axe-core" / "axe.min.js"
    assert walk("accessible", shop, axe=str(axe), links=LINKS) == []
    options = {"viewport": {"width": 360, "height": 740}}
    assert walk("accessible", shop, axe=str(axe), links=LINKS[:2], options=options) == []
    private = running_service(Shop, explorer="private")  # asks for a token, and shows only that
    assert walk("accessible", private, axe=str(axe), links=[""]) == []


class ThroughProxy(http.server.BaseHTTPRequestHandler):
    """A proxy that puts a path before the service's, and ends TLS."""

    protocol_version = "HTTP/1.1"
    target = ""
    prefix = "/team/shop"

    def _pass_on(self):
        if not self.path.startswith(f"{self.prefix}/"):
            self.send_error(404)
            return
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else None
        headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
        connection = http.client.HTTPConnection(self.target, timeout=30)
        connection.request(self.command, self.path[len(self.prefix) :], body, headers)
        reply = connection.getresponse()
        content = reply.read()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_POST = _pass_on  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def tls_proxy(tmp_path):
    """``tls_proxy(service)``: the URL of the service's endpoint behind a proxy."""
    if shutil.which("openssl") is None:
        absent("openssl is not installed")
    pem = tmp_path / "proxy.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout"
    command = ["openssl", *words.split(), str(pem), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", pem)
    servers = []

    def start(service):
        handler = type("Proxy", (ThroughProxy,), {"target": f"127.0.0.1:{service.port}"})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_port}{ThroughProxy.prefix}/api"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["first_call", "batch", "downloads"])
def test_it_works_behind_a_prefix_and_a_tls_proxy(walk, running_service, tls_proxy, name):
    service = running_service(Shop, explorer=True, trusted_proxies=["127.0.0.1"])
    walk(name, service, url=tls_proxy(service), options={"ignore_https_errors": True})


HOSTILE = [
    "",
    "#method/a.evil",
    "#method/a.error",
    "#method/__proto__.constructor",
    "#method/a.big",
    "#emits/a.b",
    "#handles/x.%23",
]


@pytest.mark.parametrize("link", HOSTILE)
def test_texts_of_a_hostile_service_stay_texts(walk, running_service, link):
    service = running_service(Hostile, explorer_may_emit=True, allowed_origins=["null"])
    walk("hostile", service, links=[link], options={"viewport": {"width": 360, "height": 740}})


def test_links_that_others_make_up_are_texts_too(walk, shop):
    links = [
        "#method/<script>",
        "#method/tools.greet?params=%7B%22name",
        "#__proto__/x",
        "#method/%E0%A4%A",
    ]
    links += ['#method/tools.greet?params={"__proto__":{"a":1},"constructor":"<img src=x>"}']
    walk("hostile", shop, links=links)


def test_thousands_of_methods_stay_quick(walk, running_service):
    """The times are the benchmark's; here a key must not take a second."""
    service = running_service(many(2000))
    found = walk("search_times", service, text="thing number 19")
    assert "found" in found["found"]
    assert sorted(found["keys"])[len(found["keys"]) // 2] < 1000
