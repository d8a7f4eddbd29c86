"""The page of a registry: what it says, what it refuses to run, and how a real browser sees it."""

import html.parser
import re
import shutil
import subprocess

import pytest

from gemstone_sync.discovery.directory import Listed
from gemstone_sync.registry import page
from tests.support.http import exchange, message
from tests.support.machine import absent

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


def shown(registry, path="/"):
    """The page as it comes over HTTP."""
    return exchange(registry.port, message("GET", path))


def test_what_is_registered_is_shown(run_registry):
    registry, client = run_registry()
    client.methods.ping("shop.users", A, "one")
    client.methods.ping("shop.users", A, "two")
    client.methods.ping("orders", B)

    seen = Text(shown(registry).body.decode()).words
    assert seen["h2"] == ["orders", "shop.users"]
    assert [word for word in seen["td"] if "://" in word] == [B, A]
    assert seen["b"] == ["2", "3", "2", "0"]  # services, instances, fresh, late
    assert seen["span"] == ["fresh", "fresh"]
    assert seen["title"] == ["2 services - registry"]

    seen = Text(shown(registry, "/?name=shop*").body.decode()).words
    assert seen["h2"] == ["shop.users"]
    assert seen["code"] == ["shop*"]
    reply = shown(registry, "/?name=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert Text(reply.body.decode()).words["p"][-1] == "No service matches."
    assert b"<script" not in reply.body


def test_an_empty_page_loads_itself_again_and_nothing_else(run_registry):
    reply = shown(run_registry()[0])
    text = reply.body.decode()
    seen = Text(text).words

    assert reply.status == 200
    assert "No service has registered yet" in seen["p"][0]
    assert seen["title"] == ["0 services - registry"]
    assert '<meta http-equiv="refresh" content="10">' in text
    assert not [link for link in re.findall(r'(?:src|href)="([^"]*)"', text) if link != "data:,"]
    assert not [word for word in ("<script", "url(", "@import") if word in text]
    assert reply.headers.get("Content-Type") == "text/html; charset=utf-8"
    policy = reply.headers.get("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    others = ("X-Content-Type-Options", "Cache-Control", "Referrer-Policy")
    assert [reply.headers.get(name) for name in others] == ["nosniff", "no-store", "no-referrer"]


def test_each_service_is_linked_with_its_explorer():
    """Without what is secret in a URL; what is no web address gets no link."""
    urls = ["http://me:secret@10.0.0.1:8000/api", "https://x.org/", "javascript:alert(1)//a"]
    text = page.Page(lambda _: {"a": [Listed(url, 1, 0, 0, False) for url in urls]}).html("*")

    links = re.findall(r'href="([^"]*)"', text)
    assert links == ["data:,", "http://10.0.0.1:8000/api/docs", "https://x.org/docs"]
    assert "secret" not in text


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

    for pattern in ("*", "*", "a*", "*", "a*"):
        kept.html(pattern)

    assert asked == ["*", "a*"]


@pytest.mark.parametrize(
    ("services", "urls", "told"),
    [(10, 5, []), (13, 6, ["and 1 more"] * 13 + ["There may be more services. Add"])],
    ids=["all", "too much"],
)
def test_what_is_too_much_for_a_page_is_counted(monkeypatch, services, urls, told):
    monkeypatch.setattr(page, "MOST_FOUND", 13 * 6)
    monkeypatch.setattr(page, "MOST_URLS", 5)
    places = [Listed(f"http://10.0.0.{n}/api", 1, n, n, False) for n in range(urls)]
    listing = {f"service.{number:02}": places for number in range(services)}
    seen = Text(page.Page(lambda _: listing).html("*")).words

    plus = "+" if told else ""
    counts = [services, services * urls, services * urls, 0]
    assert len(seen["h2"]) == services
    assert seen["b"] == [f"{count}{plus}" for count in counts]
    assert [words for words in seen.get("p", []) if " more" in words] == told


FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --enable-logging=stderr "
    "--disable-background-networking --disable-component-update --disable-sync --log-level=0"
)


@pytest.mark.slow  # a browser takes some seconds to start
def test_chromium_shows_the_page_with_its_style(run_registry, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        absent("chromium is not installed")
    registry, client = run_registry()
    client.methods.ping("shop.users", A)
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [
            *(chromium, *FLAGS.split(), f"--user-data-dir={tmp_path}", "--window-size=400,800"),
            *("--dump-dom", f"--screenshot={picture}", f"http://127.0.0.1:{registry.port}/"),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert "shop.users" in done.stdout
    assert A in done.stdout
    assert done.stdout.count("<tr>") == 2
    assert "Content Security Policy" not in done.stderr, "its own style was refused"
    assert picture.stat().st_size > 1000
