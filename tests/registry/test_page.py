"""The page of a registry: what it says, what it refuses to run, and how a real browser sees it."""

import html.parser
import os
import re
import shutil
import subprocess

import pytest

from gemstone_sync.discovery.directory import Listed
from gemstone_sync.registry import page
from tests.support.http import Connection, message

A, B = "http://10.0.0.1:8000/api", "https://users.example.org/api"

VOID = {"meta", "link"}
OPTIONAL_END = {"li", "td", "th", "tr", "thead", "tbody"}


class Text(html.parser.HTMLParser):
    """The text of a page, by its elements; a start without its end is a fault."""

    def __init__(self, source):
        super().__init__()
        self.open, self.words, self.attributes = [], {}, []
        self.feed(source)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open[-1] != tag:
            assert self.open.pop() in OPTIONAL_END, f"</{tag}> inside {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if data.strip():
            self.words.setdefault(self.open[-1], []).append(" ".join(data.split()))


@pytest.fixture
def show(run_registry):
    """``show(registry, path)``: the page as it comes over HTTP."""

    def get(registry, path="/"):
        with Connection(registry.port) as connection:
            return connection.exchange(message("GET", path))

    return get


def test_what_is_registered_is_shown(run_registry, show):
    registry, client = run_registry()
    client.methods.ping("shop.users", A, "one")
    client.methods.ping("shop.users", A, "two")
    client.methods.ping("orders", B)

    reply = show(registry)

    assert reply.status == 200
    assert reply.headers.get("Content-Type") == "text/html; charset=utf-8"
    seen = Text(reply.body.decode()).words
    assert seen["h2"] == ["orders", "shop.users"]
    assert [word for word in seen["td"] if "://" in word] == [B, A]
    assert seen["b"] == ["2", "3", "2", "0"]  # services, instances, fresh, late
    assert seen["span"] == ["fresh", "fresh"]
    assert seen["title"] == ["2 services - registry"]


def test_an_empty_registry_says_so(run_registry, show):
    reply = show(run_registry()[0])

    assert reply.status == 200
    seen = Text(reply.body.decode()).words
    assert "No service has registered yet" in seen["p"][0]
    assert seen["title"] == ["0 services - registry"]


def test_it_loads_itself_again_and_nothing_else(run_registry, show):
    reply = show(run_registry()[0])
    text = reply.body.decode()

    assert '<meta http-equiv="refresh" content="10">' in text
    assert "<script" not in text
    assert not [link for link in re.findall(r'(?:src|href)="([^"]*)"', text) if link != "data:,"]
    assert "url(" not in text
    assert "@import" not in text


def test_the_security_headers(run_registry, show):
    headers = show(run_registry()[0]).headers

    policy = headers.get("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers.get("X-Content-Type-Options") == "nosniff"
    assert headers.get("Cache-Control") == "no-store"
    assert headers.get("Referrer-Policy") == "no-referrer"


def test_only_some_services(run_registry, show):
    registry, client = run_registry()
    client.methods.ping("users", A)
    client.methods.ping("orders", B)

    seen = Text(show(registry, "/?name=u*").body.decode()).words
    assert seen["h2"] == ["users"]
    assert seen["code"] == ["u*"]
    reply = show(registry, "/?name=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert Text(reply.body.decode()).words["p"][-1] == "No service matches."
    assert b"<script" not in reply.body


def test_everything_is_escaped():
    """The registry refuses such names; the page does not rely on it."""
    evil = "<img src=x onerror=alert(1)>\"'"
    text = page.Page(lambda _: {evil: [Listed(evil, 1, 0, 0, False)]}).html(evil)

    assert "<img" not in text
    assert "onerror" not in Text(text).attributes


def test_late_services_stand_out():
    listing = {"users": [Listed(A, 1, 400, 200, True), Listed(B, 1, 9000, 3, False)]}
    text = page.Page(lambda _: listing).html("*")
    seen = Text(text).words

    assert seen["span"] == ["late", "fresh"]
    assert seen["title"] == ["1 service, 1 late - registry"]
    assert {"6 min", "3 min", "2 h", "3 s"} <= set(seen["td"])


def test_a_page_is_made_once_for_all_who_look_at_the_same_time():
    asked = []
    kept = page.Page(lambda pattern: asked.append(pattern) or {})

    for pattern in ("*", "*", "a*", "a*"):
        kept.html(pattern)

    assert asked == ["*", "a*"]


def many(services, urls):
    return {
        f"service.{number:04}": [
            Listed(f"http://10.0.{number % 250}.{n}:8000/api", 1, n, n, False) for n in range(urls)
        ]
        for number in range(services)
    }


def test_1000_services_are_shown():
    text = page.Page(lambda _: many(1000, 2)).html("*")

    assert len(Text(text).words["h2"]) == 1000
    assert "more services" not in text


def test_what_is_too_much_for_a_page_is_counted():
    seen = Text(page.Page(lambda _: many(1003, 51)).html("*")).words

    assert len(seen["h2"]) == 1000
    assert seen["b"] == ["1003", str(1003 * 51), str(1003 * 51), "0"]
    assert seen["p"].count("and 1 more") == 1000
    assert "and 3 more services. Add" in seen["p"]


# A real browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


@pytest.fixture
def browse(tmp_path):
    """``browse(url)``: the page as Chromium has it, and what it complained about."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")

    def run(url, *more):
        command = [
            chromium,
            *FLAGS.split(),
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
        ]
        done = subprocess.run(
            [*command, "--log-level=0", *more, url], capture_output=True, text=True, timeout=90
        )
        return done.stdout, done.stderr

    return run


def test_chromium_shows_the_page_with_its_style(run_registry, browse, tmp_path):
    registry, client = run_registry()
    client.methods.ping("shop.users", A)
    url = f"http://127.0.0.1:{registry.port}/"

    dom, complaints = browse(url, "--dump-dom")
    assert "shop.users" in dom
    assert A in dom
    assert dom.count("<tr>") == 2
    assert "Content Security Policy" not in complaints, "its own style was refused"

    browse(url, f"--screenshot={tmp_path / 'page.png'}", "--window-size=400,800")
    assert (tmp_path / "page.png").stat().st_size > 1000
