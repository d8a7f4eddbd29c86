"""Requests for the table: HEAD, Expect, and whether the connection is kept."""

from .case import ABC, CHUNKED, HOST, Case, bad, get, good, post, post_abc, request

_PERSISTENCE = "RFC 9112, section 9.3"
_CLOSE = "RFC 9112, section 9.6"
_OPTIONS = "RFC 9110, section 7.6.1"
_OLD = "RFC 9112, section 9.3 and appendix C.2.2"
_HEAD = "RFC 9110, section 9.3.2"
_EXPECT = "RFC 9110, section 10.1.1"


OLD_POST = b"POST /x HTTP/1.0"


def old(*fields: bytes) -> bytes:
    """GET /x on HTTP/1.0."""
    return request(b"GET /x HTTP/1.0", *fields)


def head(*fields: bytes, version: bytes = b"1.1") -> bytes:
    return request(b"HEAD /x HTTP/" + version, HOST, *fields)


CASES: tuple[Case, ...] = (
    good("kept", _PERSISTENCE, get()),
    good("keep-alive", _PERSISTENCE, get(b"Connection: keep-alive")),
    good("close", _CLOSE, get(b"Connection: close"), kept=False),
    good("close-upper-case", _OPTIONS, get(b"CONNECTION: CLOSE"), kept=False),
    good("close-in-list", _OPTIONS, get(b"Connection: x ,\tclose, y"), kept=False),
    good("close-tight-list", _OPTIONS, get(b"Connection: x,close"), kept=False),
    good("close-second-field", _OPTIONS, get(b"Connection: x", b"Connection: close"), kept=False),
    good("close-and-keep-alive", _PERSISTENCE, get(b"Connection: keep-alive, close"), kept=False),
    good("no-close-but-like-it", _OPTIONS, get(b"Connection: closed, not-close, x-close")),
    good("proxy-connection", "RFC 9112, appendix C.2.2", get(b"Proxy-Connection: close")),
    good("close-with-body", _CLOSE, post_abc(b"Connection: close"), kept=False, body="abc"),
    good(
        "close-with-chunks",
        _CLOSE,
        post(b"Connection: close", CHUNKED, body=ABC),
        kept=False,
        body="abc",
    ),
    good("old", _OLD, old(), kept=False, SERVER_PROTOCOL="HTTP/1.0"),
    good("old-with-host", _OLD, old(HOST), kept=False, HTTP_HOST="a"),
    good("old-kept", _OLD, old(b"Connection: keep-alive")),
    good("old-kept-case", _OPTIONS, old(b"Connection: Keep-Alive")),
    good("old-kept-in-list", _OPTIONS, old(b"Connection: x, keep-alive")),
    good("old-closed", _OLD, old(b"Connection: close"), kept=False),
    good("old-both", _OLD, old(b"Connection: keep-alive, close"), kept=False),
    good("old-other-option", _OLD, old(b"Connection: upgrade"), kept=False),
    good("old-body", _OLD, post_abc(line=OLD_POST), kept=False, body="abc"),
    good("old-body-kept", _OLD, post_abc(b"Connection: keep-alive", line=OLD_POST), body="abc"),
    good("head", _HEAD, head()),
    good("head-closed", _HEAD, head(b"Connection: close"), kept=False),
    good("head-old", _HEAD, head(version=b"1.0"), kept=False),
    good("head-old-kept", _HEAD, head(b"Connection: keep-alive", version=b"1.0")),
    good("head-with-body", _HEAD, post_abc(line=b"HEAD /x HTTP/1.1")),
    # A refusal is a reply to HEAD too: it has no body.
    bad("head-refused", _HEAD, request(b"HEAD /x HTTP/1.1")),
    bad("head-refused-field", _HEAD, head(b"X-A : 1")),
    good("expect", _EXPECT, post_abc(b"Expect: 100-continue"), body="abc"),
    good("expect-case", _EXPECT, post_abc(b"expect: 100-CONTINUE"), body="abc"),
    good("expect-chunks", _EXPECT, post(b"Expect: 100-continue", CHUNKED, body=ABC), body="abc"),
    good("expect-without-body", _EXPECT, get(b"Expect: 100-continue")),
    # An HTTP/1.0 client cannot understand an interim reply.
    good(
        "expect-old",
        _EXPECT,
        post_abc(b"Expect: 100-continue", line=OLD_POST),
        kept=False,
        body="abc",
    ),
    bad("expect-other", _EXPECT, post_abc(b"Expect: 200-ok"), 417),
    bad("expect-two", _EXPECT, post_abc(b"Expect: 100-continue, x"), 417),
)
