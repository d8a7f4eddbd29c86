"""A request's head: bytes -> a checked, frozen `Head`. No I/O.

llhttp (through httptools, no lenient flag) parses; what it lets through and a careful server must
not is checked here. Each rule names its source: RFC 9110 (semantics), RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

__all__ = [
    "FORWARDED",
    "MAX_FIELDS",
    "MAX_HEAD",
    "Head",
    "HeadParser",
    "HttpFault",
    "check_beginning",
    "feed",
    "finish_head",
    "parse_head",
]

#: A client sends a line of 8,000 octets at least (RFC 9112, section 3); 8 KB is what servers take.
MAX_REQUEST_LINE = 8 * 1024
MAX_HEAD = 32 * 1024
MAX_FIELDS = 100

#: Exactly one space between the parts; llhttp takes more (RFC 9112, section 3).
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/(\d\.\d)")
HOST = re.compile(
    r"[A-Za-z0-9._~%!$&'()*+,;=-]*(:\d{0,5})?|"
    r"\[[0-9A-Fa-f:.]+(%25[A-Za-z0-9._~-]+)?\](:\d{0,5})?"  # RFC 6874: its zone, if it was left in
)
_TOKENS = re.compile(r"\s*,\s*")

#: The WSGI names of fields that have no HTTP_ in front (PEP 3333).
_PLAIN = {"CONTENT_TYPE", "CONTENT_LENGTH"}
#: Only a trusted proxy may say what starts so; from others it does not reach the application.
FORWARDED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED")
#: HTTP clients offer these beside every request, in case the server knows better; none is answered.
_IDLE_OFFERS = ("h2c", "tls/")


class HttpFault(OSError):
    """A request that is answered with an error and the end of the connection.

    An OSError, because it may come out of ``wsgi.input``: applications know those there.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Head:
    """The parsed head of a request.

    :param environ: the WSGI environ's part that the head determines.
    :param content_length: bytes of the body; 0 without one.
    :param chunked: the body comes in chunks.
    :param keep_alive: the connection may be used again.
    :param is_1_0: the client speaks HTTP/1.0.
    :param expects_continue: the client waits for "100 Continue" before it sends the body.
    :param upgrade: the client would like to go on in another protocol (RFC 9110, section 7.8).
    :param forwarded: the Forwarded and X-Forwarded fields, by WSGI name; not in `environ`.
    """

    environ: dict[str, Any]
    content_length: int
    chunked: bool
    keep_alive: bool
    is_1_0: bool
    is_head: bool
    expects_continue: bool
    upgrade: bool
    forwarded: dict[str, str]


def feed(parser: httptools.HttpRequestParser, data: bytes) -> None:
    """Feed bytes to llhttp.

    :raises HttpFault: when they cannot go on a valid message, or a callback raised one.
    """
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # whether to upgrade is for the application to say: until then it is a request
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, HttpFault):
            raise error.__context__ from None
        raise
    except httptools.HttpParserError as error:
        raise HttpFault(400, f"Malformed request: {error}") from None


class HeadParser:
    """Feeds a head to llhttp as it comes, so that a malformed one is refused before its end."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """:raises HttpFault: when `data` cannot go on a valid head."""
        feed(self._parser, data)

    # Called by llhttp

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))
        if len(self.fields) > MAX_FIELDS:
            raise HttpFault(431, f"More than {MAX_FIELDS} header fields")

    def on_headers_complete(self) -> None:
        self.complete = True


def check_request_line(line: bytes) -> tuple[str, str, str]:
    """Check a request line without its CRLF; return method, target and version.

    :raises HttpFault: when it is malformed, too long, or of another version than 1.0 and 1.1.
    """
    if len(line) > MAX_REQUEST_LINE:
        raise HttpFault(414, f"The request line is longer than {MAX_REQUEST_LINE} bytes")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise HttpFault(400, "Malformed request line")
    method, target, version = (part.decode("ascii") for part in match.groups())
    if version not in ("1.1", "1.0"):
        raise HttpFault(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method == "CONNECT":
        raise HttpFault(501, "CONNECT is not offered")
    return method, target, version


def check_beginning(buffer: bytes, seen: int, upto: int) -> None:
    """Check what can be told of a head before all of it is here.

    :param seen: up to where it was checked before.
    :param upto: where the head ends, as far as it came.
    :raises HttpFault: when nothing that follows can make it good.
    """
    if upto > MAX_HEAD:
        raise HttpFault(431, f"The head is longer than {MAX_HEAD} bytes")
    line_end = buffer.find(b"\n", 0, MAX_REQUEST_LINE + 2)
    if line_end < 0 and upto > MAX_REQUEST_LINE + 1:
        raise HttpFault(414, f"The request line is longer than {MAX_REQUEST_LINE} bytes")
    if line_end >= seen:
        # llhttp takes a line without a version for HTTP/0.9, and would wait for more.
        check_request_line(buffer[:line_end].removesuffix(b"\r"))


def parse_head(text: bytes) -> Head:
    """Parse and check one whole head, from the request line to the empty line.

    :raises HttpFault: when it breaks a rule; nothing more of the connection can be trusted then.
    """
    parser = HeadParser()
    parser.feed(text)
    return finish_head(text, parser)


def finish_head(text: bytes, parser: HeadParser) -> Head:
    """Check the head that `parser` has been fed, and make a `Head` of it."""
    method, target, version = check_request_line(text[: text.index(b"\r\n")])
    if not parser.complete:
        raise HttpFault(400, "Malformed request")
    is_1_0 = version == "1.0"
    fields = _collect(parser.fields)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": f"HTTP/{version}",
    }
    environ.update(fields)
    _check_host(environ, is_1_0)
    _set_target(environ, method, target)
    coding = environ.pop("HTTP_TRANSFER_ENCODING", None)
    chunked = coding is not None
    if chunked:
        # RFC 9112, section 6.1: chunked once and last; no other coding is understood here.
        if is_1_0 or coding.lower() != "chunked":
            raise HttpFault(400, "Only the transfer coding chunked is understood, on HTTP/1.1")
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        environ["wsgi.input_terminated"] = True
    expect = environ.get("HTTP_EXPECT")
    if expect is not None and expect.lower() != "100-continue":
        raise HttpFault(417, "Only 100-continue can be expected")
    options = {option.lower() for option in _TOKENS.split(environ.get("HTTP_CONNECTION", ""))}
    return Head(
        environ=environ,
        content_length=int(environ.get("CONTENT_LENGTH", 0)),
        chunked=chunked,
        keep_alive="close" not in options and (not is_1_0 or "keep-alive" in options),
        is_1_0=is_1_0,
        is_head=method == "HEAD",
        expects_continue=expect is not None and not is_1_0,
        upgrade="upgrade" in options and not is_1_0 and _wants_upgrade(environ, chunked),
        forwarded={n: environ.pop(n) for n in fields if n.startswith(FORWARDED)},
    )


def _collect(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Collect fields under their WSGI names; join repeated ones (RFC 9110, section 5.3)."""
    collected: dict[str, str] = {}
    dashed = {name.upper() for name, _ in fields if b"_" not in name}
    for raw_name, raw_value in fields:
        if b"_" in raw_name:
            # WSGI writes both characters as "_": X_Token would pass for the X-Token that a proxy
            # in front has checked. Beside the real one it is an attack; alone it is dropped.
            if raw_name.upper().replace(b"_", b"-") in dashed:
                raise HttpFault(400, "A field name with _ shadows one with -")
            continue
        name = raw_name.decode("ascii").upper().replace("-", "_")
        name = name if name in _PLAIN else f"HTTP_{name}"
        value = raw_value.decode("latin-1").strip(" \t")
        if name in collected:
            if name in ("HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "CONTENT_TYPE"):
                raise HttpFault(400, f"More than one {raw_name.decode('ascii')} field")
            value = f"{collected[name]}{'; ' if name == 'HTTP_COOKIE' else ','}{value}"
        collected[name] = value
    length = collected.get("CONTENT_LENGTH")
    if length is not None and (not length.isascii() or not length.isdigit() or len(length) > 19):
        raise HttpFault(400, "Malformed Content-Length")
    return collected


def _set_target(environ: dict[str, Any], method: str, target: str) -> None:
    """Take origin-form, absolute-form, and ``*`` for OPTIONS (RFC 9112, section 3.2)."""
    environ["RAW_URI"] = environ["REQUEST_URI"] = target
    if target == "*":
        if method != "OPTIONS":
            raise HttpFault(400, "The target * is for OPTIONS only")
    elif not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise HttpFault(400, "Malformed request target")
        authority, slash, path = rest.partition("/")
        if "?" in authority:  # http://host?query
            authority, mark, query = authority.partition("?")
            slash, path = "/" + mark + query + slash, path
        target = (slash or "/") + path
        if authority.startswith(":") or not authority or not HOST.fullmatch(authority):
            raise HttpFault(400, "Malformed request target")
        environ["HTTP_HOST"] = authority  # section 3.2.2: it replaces the Host field
    if "#" in target:
        raise HttpFault(400, "A request target has no fragment")
    path, _, query = target.partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
    environ["QUERY_STRING"] = query


def _wants_upgrade(environ: dict[str, Any], chunked: bool) -> bool:
    """Tell whether the client asks for another protocol, and the request has no body."""
    protocols = _TOKENS.split(environ.get("HTTP_UPGRADE", "").lower())
    bodiless = not chunked and int(environ.get("CONTENT_LENGTH", 0)) == 0
    return bodiless and any(p and not p.startswith(_IDLE_OFFERS) for p in protocols)


def _check_host(environ: dict[str, Any], is_1_0: bool) -> None:
    """Require one valid Host; HTTP/1.0 may go without (RFC 9112, section 3.2)."""
    host = environ.get("HTTP_HOST")
    if host is None:
        if not is_1_0:
            raise HttpFault(400, "A request has a Host field")
    elif not HOST.fullmatch(host):
        raise HttpFault(400, "Malformed Host field")
