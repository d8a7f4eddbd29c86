"""Requests for the table: Host, the other fields, and the end of the head."""

from .case import ABC, CHUNKED, HOST, Case, bad, get, good, post, post_abc, request

_HOST = "RFC 9112, section 3.2"
_SYNTAX = "RFC 9112, section 5"
_COLON = "RFC 9112, section 5.1"
_FOLD = "RFC 9112, section 5.2"
_PARSING = "RFC 9112, section 2.2"
_NAMES = "RFC 9110, section 5.1"
_ORDER = "RFC 9110, section 5.3"
_LIMITS = "RFC 9110, section 5.4"
_VALUES = "RFC 9110, section 5.5"
_SHADOW = "PEP 3333; RFC 9110, section 5.6.2 and issue 3"
_TOKENS = "RFC 9110, section 5.6.2"
_COOKIE = "RFC 6265, section 5.4"
_PEP = "PEP 3333"
_UPGRADE = "RFC 9110, section 7.8"


def of_host(*lines: bytes) -> bytes:
    """GET /x with these lines instead of the Host."""
    return request(b"GET /x HTTP/1.1", *lines)


def _head_of(size: int) -> bytes:
    """A head of so many bytes."""
    return get(b"X-Long: " + b"x" * (size - len(get(b"X-Long: "))))


_OLD_GET = b"GET /x HTTP/1.0"
#: No host.
HOSTS = [*b'a/x a?x a#x user@a http://a a:x a:1:2 [::1 "a" <a> a\\b \xe9'.split(), b"a, b", b"a b"]
#: Fields that are none, by what decides it; the folds are two lines.
FIELDS: dict[str, tuple[bytes, ...]] = {
    _COLON: (b"X-A : 1", b"X-A\t: 1"),
    _NAMES: (b"X A: 1", b": 1", b"X(A): 1", b'X"A: 1', b"X/A: 1", b"X-\xe9: 1", b"X\0A: 1"),
    _SYNTAX: (b"X-A", b"X-A 1"),
    _VALUES: (b"X-A: 1\x002", b"X-A: 1\x012", b"X-A: \x1b[31m", b"X-A: \x7f", b"X-A: 1\x0b2"),
    _FOLD: (b"X-A: 1\r\n 2", b"X-A: 1\r\n\t2", b"X-A:\r\n 1", b"X-A: 1\r\n "),
    _PARSING: (b"X-A: 1\r2", b"X-A: 1\rX-B: 2", b"X-A: 1\nX-B: 2", b"X-A: 1\r"),
}
#: Two fields that an application would take for one: of which it gets to see neither.
SHADOWED = {
    "token": (b"X-Token: 1", b"X_Token: 2"),
    "token-first": (b"X_Token: 2", b"X-Token: 1"),
    "case": (b"x-token: 1", b"X_TOKEN: 2"),
    "in-part": (b"X-Api-Token: 1", b"X-Api_Token: 2"),
}

CASES: tuple[Case, ...] = (
    good("host-port", _HOST, of_host(b"Host: b.example:81"), HTTP_HOST="b.example:81"),
    good("host-empty-port", "RFC 3986, section 3.2.3", of_host(b"Host: a.example:")),
    good("host-ipv6", _HOST, of_host(b"Host: [::1]:8080"), HTTP_HOST="[::1]:8080"),
    # A client whose target URI has no authority sends an empty one.
    good("host-empty", _HOST, of_host(b"Host:"), HTTP_HOST=""),
    good("host-1.0-none", "RFC 9112, section 3.2", request(b"GET /x HTTP/1.0"), kept=False),
    good("host-upper-case", _NAMES, of_host(b"HOST: a"), HTTP_HOST="a"),
    good("no-space-after-colon", _SYNTAX, get(b"X-A:1"), HTTP_X_A="1"),
    good("white-space-around", _SYNTAX, get(b"X-A: \t 1 \t"), HTTP_X_A="1"),
    good("white-space-within", _SYNTAX, get(b"X-A: 1 \t 2"), HTTP_X_A="1 \t 2"),
    good("empty-value", _SYNTAX, get(b"X-A:"), HTTP_X_A=""),
    good("only-white-space", _SYNTAX, get(b"X-A: \t "), HTTP_X_A=""),
    good("colons-in-value", _SYNTAX, get(b"X-A: b:c: d"), HTTP_X_A="b:c: d"),
    good("beyond-ascii-in-value", _VALUES, get(b"X-A: \xe9\xff"), HTTP_X_A="\xe9\xff"),
    good("tokens", _TOKENS, get(b"X!#$%&'*+-.^`|~9: 1"), **{"HTTP_X!#$%&'*+_.^`|~9": "1"}),
    good(
        "repeated-field", _ORDER, get(b"X-A: 1", b"X-B: 2", b"x-a: 3"), HTTP_X_A="1,3", HTTP_X_B="2"
    ),
    good("repeated-cookie", _COOKIE, get(b"Cookie: a=1", b"Cookie: b=2"), HTTP_COOKIE="a=1; b=2"),
    good("type", _PEP, get(b"Content-Type: a/b"), CONTENT_TYPE="a/b", HTTP_CONTENT_TYPE=None),
    # Alone it is dropped, as nginx does: an application must not take it for X-Token.
    good("underscore-alone", _SHADOW, get(b"X_Token: 1"), HTTP_X_TOKEN=None),
    good(
        "underscore-of-forwarded",
        _SHADOW,
        get(b"X_Forwarded_For: 1.2.3.4"),
        HTTP_X_FORWARDED_FOR=None,
        REMOTE_ADDR="127.0.0.1",
    ),
    good("100-fields", _LIMITS, get(*[b"X-%d: 1" % n for n in range(99)]), HTTP_X_98="1"),
    good("head-of-32-kb", _LIMITS, _head_of(32 * 1024)),
    # Nothing to upgrade to: an ordinary request of HTTP/1.1.
    good(
        "upgrade",
        _UPGRADE,
        get(b"Connection: Upgrade", b"Upgrade: websocket"),
        HTTP_UPGRADE="websocket",
    ),
    good(
        "upgrade-with-length",
        _UPGRADE,
        post_abc(b"Connection: Upgrade", b"Upgrade: h2c"),
        body="abc",
    ),
    good(
        "upgrade-with-chunks",
        _UPGRADE,
        post(b"Connection: Upgrade", b"Upgrade: h2c", CHUNKED, body=ABC),
        body="abc",
    ),
    good(
        "upgrade-h2c",
        _UPGRADE,
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"),
    ),
    bad("no-host", _HOST, of_host()),
    bad("no-host-but-fields", _HOST, of_host(b"X-Host: a", b"Accept: */*")),
    bad("host-underscore", _HOST, of_host(b"Host_: a")),
    bad("two-hosts", _HOST, of_host(b"Host: a", b"Host: b")),
    bad("two-equal-hosts", _HOST, of_host(b"Host: a", b"X: 1", b"host: a")),
    bad("two-hosts-1.0", _HOST, request(_OLD_GET, b"Host: a", b"Host: b")),
    bad("host-bad-1.0", _HOST, request(_OLD_GET, b"Host: a b")),
    *(bad(f"host-{host!r}", _HOST, of_host(b"Host: " + host)) for host in HOSTS),
    *(
        bad(f"field-{field!r}", source, get(field))
        for source, fields in FIELDS.items()
        for field in fields
    ),
    bad("space-before-colon-of-host", _COLON, of_host(b"Host : a")),
    bad("space-before-first-field", _PARSING, of_host(b" Host: a")),
    bad("space-before-empty-first", _PARSING, of_host(b" ", HOST)),
    bad("fold-of-host", _FOLD, of_host(b"Host:", b" a")),
    bad("fold-of-length", _FOLD, post(b"Content-Length:", b" 3", body=b"abc")),
    bad("bare-lf-hides-length", _PARSING, post(b"X-A: 1\nContent-Length: 3", body=b"abc")),
    bad("bare-lf-ends-head", _PARSING, b"GET /x HTTP/1.1\r\nHost: a\r\n\n"),
    bad("only-bare-lfs", _PARSING, b"GET /x HTTP/1.1\nHost: a\n\n"),
    bad("bare-lf-then-crlf", _PARSING, b"GET /x HTTP/1.1\r\nHost: a\n\r\n"),
    bad("cr-cr-lf-ends-head", _PARSING, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n"),
    *(bad(f"shadowed-{name}", _SHADOW, get(*fields)) for name, fields in SHADOWED.items()),
    bad("shadowed-length", _SHADOW, post(b"Content-Length: 3", b"Content_Length: 0", body=b"abc")),
    bad("shadowed-coding", _SHADOW, post(CHUNKED, b"Transfer_Encoding: gzip", body=b"0\r\n\r\n")),
    bad("two-content-types", _ORDER, get(b"Content-Type: text/plain", b"Content-Type: a/b")),
    bad("101-fields", _LIMITS, get(*[b"X-%d: 1" % n for n in range(100)]), 431),
    bad("head-over-32-kb", _LIMITS, _head_of(32 * 1024 + 1), 431),
    bad("head-of-60-kb", _LIMITS, _head_of(60 * 1024), 431),
    # Empty lines before a request are part of no head: there must be an end of them too.
    bad("40-kb-of-empty-lines", _PARSING, b"\r\n" * 20_000 + get(), 400, 431),
)
