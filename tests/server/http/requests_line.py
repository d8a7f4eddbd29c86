"""Requests for the table: the request line, its target and its version."""

from .case import HOST, Case, bad, good, request

_LINE = "RFC 9112, section 3"
_METHOD = "RFC 9110, section 9.1"
_TARGET = "RFC 9112, section 3.2"
_ORIGIN = "RFC 9112, section 3.2.1"
_ABSOLUTE = "RFC 9112, section 3.2.2"
_AUTHORITY = "RFC 9112, section 3.2.3"
_ASTERISK = "RFC 9112, section 3.2.4"
_VERSION = "RFC 9112, section 2.3"
_USERINFO = "RFC 9110, section 4.2.4"
_PARSING = "RFC 9112, section 2.2"
_URI = "RFC 9110, section 4.2.1"


def line(text: bytes) -> bytes:
    """A request with this line and a Host."""
    return request(text, HOST)


def target(text: bytes) -> bytes:
    return line(b"GET " + text + b" HTTP/1.1")


def version(text: bytes) -> bytes:
    return line(b"GET /x " + text)


#: "GET /" + x + " HTTP/1.1" is 8 KB.
_LONGEST = b"/" + b"x" * (8192 - len("GET / HTTP/1.1"))


#: What is no target at all, by what decides it.
TARGETS = {
    _ASTERISK: (b"*",),
    _TARGET: (b"/x#y", b"http://b.example/x#y", b"http://b.example#y", b"x", b"?q"),
    _LINE: (b"/a b", b"/a\tb", b"/a\0b", b"/a\x7fb", b""),
    _AUTHORITY: (b"b.example:80",),
    _ABSOLUTE: (b"ftp://b.example/x", b"http:/b.example/x"),
    _USERINFO: (b"http://user@b.example/x",),
    _URI: (b"http:///x", b"http://:80/x", b'http://b_"example/x', b"http://b.example:8x/x"),
}


#: RFC 9110, section 2.5: a higher minor version SHOULD be taken for 1.1. There is none, and what
#: says so is no client but a probe: refused, as issue 3 asks for odd versions.
VERSIONS = (
    *(b"HTTP/0.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1"),
    *(b"HTTP/1.", b"HTTP/1.1x", b"HTTP/1,1", b"HTTP/ 1.1", b"http/1.1", b"HTP/1.1", b"ICE/1.0"),
    b"RTSP/1.0",
)
#: Lines with a character in a wrong place.
LINES = (
    *(b" /x HTTP/1.1", b" GET /x HTTP/1.1", b"\tGET /x HTTP/1.1", b"GET  /x HTTP/1.1"),
    *(b"GET /x  HTTP/1.1", b"GET\t/x HTTP/1.1", b"GET /x\tHTTP/1.1", b"GET /x HTTP/1.1 "),
    *(b"\0GET /x HTTP/1.1", b"\xef\xbb\xbfGET /x HTTP/1.1", b"GET /x\r HTTP/1.1"),
)

CASES: tuple[Case, ...] = (
    good("origin-form", _ORIGIN, target(b"/x?a=1&b"), query="a=1&b", method="GET", body=""),
    *(
        good(f"method-{method}", _METHOD, line(method.encode() + b" /x HTTP/1.1"), method=method)
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH")
    ),
    good("percent-encoded", _ORIGIN, target(b"/a%20b%2Fc?d%20e"), path="/a b/c", query="d%20e"),
    good("percent-utf-8", _ORIGIN, target(b"/%C3%A9"), path="/\xc3\xa9"),
    # What stands for nothing is left as it is: there is no octet to decode.
    good("percent-malformed", "RFC 3986, section 2.1", target(b"/a%zz%4"), path="/a%zz%4"),
    good("dot-segments", _ORIGIN, target(b"/a/../b/./c"), path="/a/../b/./c"),
    good("two-slashes", _ORIGIN, target(b"//b.example/x"), path="//b.example/x"),
    good("question-marks", _ORIGIN, target(b"/x?a?b/c"), query="a?b/c"),
    good(
        "absolute-form",
        _ABSOLUTE,
        target(b"http://b.example:81/x?q"),
        query="q",
        HTTP_HOST="b.example:81",
    ),
    good(
        "absolute-https",
        _ABSOLUTE,
        target(b"https://b.example/x"),
        HTTP_HOST="b.example",
        **{"wsgi.url_scheme": "http"},
    ),
    good("absolute-upper-case", _ABSOLUTE, target(b"HTTP://b.example/x"), HTTP_HOST="b.example"),
    good("absolute-without-path", _ABSOLUTE, target(b"http://b.example"), path="/"),
    good("absolute-query-only", _ABSOLUTE, target(b"http://b.example?q"), path="/", query="q"),
    good("absolute-ipv6", _ABSOLUTE, target(b"http://[::1]:81/x"), HTTP_HOST="[::1]:81"),
    good(
        "absolute-1.0-without-host",
        _ABSOLUTE,
        request(b"GET http://b.example/x HTTP/1.0"),
        kept=False,
        HTTP_HOST="b.example",
    ),
    # PEP 3333 has no word for it; gunicorn and pywsgi call the path "*" too.
    good("asterisk", _ASTERISK, line(b"OPTIONS * HTTP/1.1"), path="*", method="OPTIONS"),
    good("empty-line-first", _PARSING, b"\r\n" + target(b"/x")),
    # At least one is ignored; there is an end of them at 40 KB (in the table of the fields).
    good("empty-lines-first", _PARSING, b"\r\n\r\n" + target(b"/x")),
    good("line-of-8-kb", _LINE, target(_LONGEST), path=_LONGEST.decode()),
    *(
        bad(f"target-{text!r}", source, target(text))
        for source, texts in TARGETS.items()
        for text in texts
    ),
    bad("asterisk-and-more", _ASTERISK, line(b"OPTIONS *x HTTP/1.1")),
    bad("asterisk-query", _ASTERISK, line(b"OPTIONS *?x HTTP/1.1")),
    # RFC 3986 has no octets beyond ASCII; some servers take them as UTF-8.
    bad("beyond-ascii-in-target", _TARGET, target(b"/\xc3\xa9")),
    bad("no-target", _LINE, line(b"GET HTTP/1.1")),
    bad(
        "connect",
        _AUTHORITY,
        request(b"CONNECT b.example:443 HTTP/1.1", b"Host: b.example:443"),
        400,
        405,
        501,
    ),
    bad("connect-origin-form", _AUTHORITY, line(b"CONNECT /x HTTP/1.1"), 400, 405, 501),
    # The Host field is not needed to find the host then; it must be there, and valid, all the same.
    bad("absolute-without-host", _TARGET, request(b"GET http://b.example/x HTTP/1.1")),
    bad(
        "absolute-with-bad-host", _TARGET, request(b"GET http://b.example/x HTTP/1.1", b"Host: a b")
    ),
    bad(
        "absolute-with-two-hosts",
        _TARGET,
        request(b"GET http://b.example/x HTTP/1.1", b"Host: a", b"Host: a"),
    ),
    bad("line-over-8-kb", _LINE, target(_LONGEST + b"x"), 414),
    # Over both limits when it comes whole: which one is named is a matter of taste.
    bad("line-of-40-kb", _LINE, target(_LONGEST * 5), 414, 431),
    bad("http-0.9", _VERSION, b"GET /x\r\n\r\n", 400, 505),
    bad("http-2-preface", "RFC 9113, section 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505),
    *(bad(f"version-{text!r}", _VERSION, version(text), 400, 505) for text in VERSIONS),
    *(bad(f"line-{text!r}", _LINE, line(text)) for text in LINES),
    bad("get-of-rtsp", _VERSION, line(b"DESCRIBE rtsp://a/x RTSP/1.0"), 400, 405, 501, 505),
    # RFC 9110, section 9.1: SHOULD be 501; llhttp knows no methods but its own, and so says 400.
    *(
        bad(f"method-{method.decode()}", _METHOD, line(method + b" /x HTTP/1.1"), 400, 501)
        for method in (b"get", b"Get", b"BREW", b"GETX")
    ),
    bad("method-no-token", _METHOD, line(b"G(T /x HTTP/1.1")),
    bad("bare-lf-first", _PARSING, b"\n" + target(b"/x")),
    bad("bare-cr-first", _PARSING, b"\r" + target(b"/x")),
    bad("bare-lf-ends-line", _PARSING, b"GET /x HTTP/1.1\nHost: a\r\n\r\n"),
    bad("bare-cr-ends-line", _PARSING, b"GET /x HTTP/1.1\rHost: a\r\n\r\n"),
    bad("two-crs-end-line", _PARSING, b"GET /x HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    bad("tls-on-a-plain-port", _LINE, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
    bad("a-reply", _LINE, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
)
