"""Requests for the table: how the body is framed; chunks and trailers."""

from tests.support.http import chunked

from .case import CHUNKED, HOST, Case, bad, bad_body, good, in_chunks, post, post_abc, request

_LENGTH = "RFC 9112, section 6.2; RFC 9110, section 8.6"
_CODING = "RFC 9112, section 6.1"
_BODY = "RFC 9112, section 6.3"
_CHUNK = "RFC 9112, section 7.1"
_EXTENSION = "RFC 9112, section 7.1.1"
_TRAILER = "RFC 9112, section 7.1.2; RFC 9110, section 6.5"
_COLON = "RFC 9112, section 5.1"
_FOLD = "RFC 9112, section 5.2"
_FORBIDDEN = "RFC 9110, section 6.5.1"

#: Whatever reads the framing in another way than the server runs this.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
ABC = b"3\r\nabc\r\n"
END = b"0\r\n\r\n"


def length(text: bytes, body: bytes = b"abcde") -> bytes:
    return post(b"Content-Length: " + text, body=body)


def with_fields(*fields: bytes) -> bytes:
    """A body of five bytes, and fields that tell its length."""
    return post(*fields, body=b"abcde")


def coding(*texts: bytes, body: bytes = ABC + END) -> bytes:
    return post(*[b"Transfer-Encoding: " + text for text in texts], body=body)


def old(*fields: bytes) -> bytes:
    return request(b"POST /x HTTP/1.0", HOST, *fields, body=ABC + END)


def extended(extension: bytes) -> bytes:
    """A chunk with an extension."""
    return in_chunks(b"3" + extension + b"\r\nabc\r\n" + END)


def trailers(*lines: bytes) -> bytes:
    return in_chunks(b"\r\n".join([ABC + b"0", *lines, b"", b""]))


_SMUGGLED = SMUGGLED.decode()


#: What is no length, no coding and no size of a chunk.
LENGTHS = b'+5 -5 0_5 5,5 0x5 5.0 5e0 five 5; "5" 18446744073709551621'.split()
LENGTHS += [b"5, 5", b"5, 6", b"", b" ", b"5 5", b"\x0b5", "\u0665".encode(), b"9" * 1000]
CODINGS = b'gzip identity xchunked chunkedx chunked;q=1 "chunked" chunked,'.split()
CODINGS += [b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity, chunked"]
CODINGS += [b"", b", chunked", b"\x0bchunked", b"chunked\0", b"chunked x"]
SIZES = b"xyz -3 +3 0x3 0_3 3, 10000000000000003".split()
SIZES += [b"", b"3 3", b" 3", b"\t3", b"3\0", b"3\r", b"0" * 9000 + b"3", b"3 x"]
#: Fields that no trailer may have.
FORBIDDEN = (
    b"Content-Length Transfer-Encoding HOST Authorization Cookie content-type"
    b" Content-Encoding Connection Trailer TE"
).split()

CASES: tuple[Case, ...] = (
    good("length", _LENGTH, length(b"5"), body="abcde", CONTENT_LENGTH="5"),
    good("length-zero", _LENGTH, length(b"0", b""), body=""),
    good("length-leading-zeros", _LENGTH, length(b"0005"), body="abcde"),
    good("length-white-space", _LENGTH, length(b" \t5 \t"), body="abcde"),
    good("length-get", _BODY, post_abc(line=b"GET /x HTTP/1.1"), method="GET", body="abc"),
    good("post-without-body", _BODY, post(), body=""),
    good("length-70-kb", _BODY, length(b"70000", b"y" * 70_000), body="y" * 70_000),
    good("body-like-a-request", _BODY, length(b"%d" % len(SMUGGLED), SMUGGLED), body=_SMUGGLED),
    good("body-of-crlf", _BODY, length(b"4", b"\r\n\r\n"), body="\r\n\r\n"),
    good(
        "body-of-every-byte",
        _BODY,
        length(b"256", bytes(range(256))),
        body=bytes(range(256)).decode("latin-1"),
    ),
    good(
        "chunks",
        _CHUNK,
        in_chunks(ABC + b"2\r\nde\r\n" + END),
        body="abcde",
        CONTENT_LENGTH=None,
        HTTP_TRANSFER_ENCODING="chunked",
    ),
    good("chunks-none", _CHUNK, in_chunks(END), body=""),
    good("chunks-upper-case", _CODING, coding(b"Chunked"), body="abc"),
    good(
        "chunks-hex",
        _CHUNK,
        in_chunks(b"1a\r\n%b\r\n1B\r\n%b\r\n" % (b"x" * 26, b"y" * 27) + END),
        body="x" * 26 + "y" * 27,
    ),
    good("chunks-leading-zeros", _CHUNK, in_chunks(b"0003\r\nabc\r\n000\r\n\r\n"), body="abc"),
    good("chunks-of-one", _CHUNK, in_chunks(b"1\r\nz\r\n" * 300 + END), body="z" * 300),
    good("chunk-70-kb", _CHUNK, in_chunks(chunked(b"y" * 70_000)), body="y" * 70_000),
    good("chunk-like-a-request", _CHUNK, in_chunks(chunked(SMUGGLED)), body=_SMUGGLED),
    good("chunk-like-an-end", _CHUNK, in_chunks(b"5\r\n" + END + b"\r\n" + END), body="0\r\n\r\n"),
    good(
        "chunks-get",
        _CHUNK,
        request(b"GET /x HTTP/1.1", HOST, CHUNKED, body=ABC + END),
        method="GET",
        body="abc",
    ),
    good("extension", _EXTENSION, in_chunks(b"3;a\r\nabc\r\n0;b=c\r\n\r\n"), body="abc"),
    good("extension-quoted", _EXTENSION, extended(b';a="b c"'), body="abc"),
    good("extensions", _EXTENSION, extended(b";a=b;c;d=e"), body="abc"),
    good("trailer", _TRAILER, trailers(b"X-Sum: 1"), body="abc", HTTP_X_SUM=None),
    good(
        "trailers",
        _TRAILER,
        trailers(b"X-A: 1", b"X-B:", b"X-A: 2"),
        body="abc",
        HTTP_X_A=None,
        HTTP_X_B=None,
    ),
    good("trailers-100", _TRAILER, trailers(*[b"X-%d: 1" % n for n in range(100)]), body="abc"),
    # Never merged: the head's own stays.
    good(
        "trailer-of-a-field",
        _TRAILER,
        post(b"X-A: head", CHUNKED, body=ABC + b"0\r\nX-A: trailer\r\n\r\n"),
        HTTP_X_A="head",
    ),
    *(bad(f"length-{text[:20]!r}", _LENGTH, length(text)) for text in LENGTHS),
    # RFC 9110, section 8.6 lets a server take equal ones for one; to refuse is the other choice.
    bad("length-twice", _LENGTH, with_fields(b"Content-Length: 5", b"Content-Length: 5")),
    bad("length-differs", _BODY, with_fields(b"Content-Length: 5", b"Content-Length: 0")),
    bad(
        "length-differs-1.0",
        _BODY,
        request(b"POST /x HTTP/1.0", b"Content-Length: 5", b"Content-Length: 0", body=b"abcde"),
    ),
    bad("length-twice-in-case", _BODY, with_fields(b"Content-Length: 5", b"CONTENT-LENGTH: 6")),
    bad("length-space-before-colon", _COLON, with_fields(b"Content-Length : 5")),
    bad("length-and-coding", _BODY, post(b"Content-Length: 6", CHUNKED, body=END + b"G")),
    bad("coding-and-length", _BODY, post(CHUNKED, b"Content-Length: 6", body=END + b"G")),
    bad("coding-and-zero", _BODY, post(CHUNKED, b"Content-Length: 0", body=END)),
    bad(
        "length-and-unknown",
        _BODY,
        post(b"Content-Length: 3", b"Transfer-Encoding: x", body=b"abc"),
        400,
        501,
    ),
    *(bad(f"coding-{text!r}", _CODING, coding(text), 400, 501) for text in CODINGS),
    bad("coding-repeated", _CODING, coding(b"chunked", b"chunked")),
    bad("coding-repeated-other", _CODING, coding(b"chunked", b"identity")),
    bad("coding-repeated-first-other", _CODING, coding(b"identity", b"chunked")),
    bad("coding-on-1.0", _CODING, old(CHUNKED)),
    bad("coding-on-1.0-kept", _CODING, old(b"Connection: keep-alive", CHUNKED)),
    bad("coding-space-before-colon", _COLON, post(b"Transfer-Encoding : chunked", body=ABC + END)),
    bad("coding-folded", _FOLD, post(b"Transfer-Encoding:", b" chunked", body=ABC + END)),
    *(
        bad_body(f"chunk-size-{text[:20]!r}", _CHUNK, in_chunks(text + b"\r\nabc\r\n" + END))
        for text in SIZES
    ),
    bad_body("chunk-size-bad-later", _CHUNK, in_chunks(ABC + b"g\r\n" + END)),
    bad_body("chunk-size-bare-lf", _CHUNK, in_chunks(b"3\nabc\r\n" + END)),
    bad_body("chunk-last-bare-lf", _CHUNK, in_chunks(ABC + b"0\n\r\n")),
    bad_body("chunks-end-bare-lf", _CHUNK, in_chunks(ABC + b"0\r\n\n")),
    bad_body("chunk-data-bare-lf", _CHUNK, in_chunks(b"3\r\nabc\n" + END)),
    bad_body("chunk-data-bare-cr", _CHUNK, in_chunks(b"3\r\nabc\r" + END)),
    bad_body("chunk-without-crlf", _CHUNK, in_chunks(b"3\r\nabc" + END)),
    bad_body("chunk-longer-than-said", _CHUNK, in_chunks(b"3\r\nabcd\r\n" + END)),
    bad_body("chunk-shorter-than-said", _CHUNK, in_chunks(b"3\r\nab\r\n" + END)),
    bad_body("chunk-and-more-crlf", _CHUNK, in_chunks(b"3\r\nabc\r\n\r\n" + END)),
    bad_body("extension-bare-lf", _EXTENSION, in_chunks(b"3;a\nabc\r\n" + END)),
    bad_body("extension-bare-cr", _EXTENSION, extended(b";a\rb")),
    bad_body("extension-nul", _EXTENSION, extended(b";a\0")),
    bad_body("extension-open-quote", _EXTENSION, extended(b';a="b')),
    *(
        bad_body(f"extension-of-{size}", _EXTENSION, extended(b";" + b"a" * size), 400, 431)
        for size in (9000, 60_000)
    ),
    *(
        bad_body(f"trailer-{name.decode()}", _FORBIDDEN, trailers(name + b": 5"))
        for name in FORBIDDEN
    ),
    bad_body("trailer-forbidden-first", _FORBIDDEN, trailers(b"Host: b", b"X-A: 1")),
    bad_body("trailer-forbidden-last", _FORBIDDEN, trailers(b"X-A: 1", b"Host: b")),
    bad_body("trailer-space-before-colon", _TRAILER, trailers(b"X-A : 1")),
    bad_body("trailer-fold", _TRAILER, trailers(b"X-A: 1", b" 2")),
    bad_body("trailer-space-first", _TRAILER, trailers(b" X-A: 1")),
    bad_body("trailer-no-colon", _TRAILER, trailers(b"X-A")),
    bad_body("trailer-nul", _TRAILER, trailers(b"X-A: \0")),
    bad_body("trailer-bare-lf", _TRAILER, trailers(b"X-A: 1\nX-B: 2")),
    bad_body("trailer-bare-cr", _TRAILER, trailers(b"X-A: 1\rX-B: 2")),
    # As many as fields in a head.
    *(
        bad_body(f"trailers-{kind}", _TRAILER, trailers(*lines), 431)
        for kind, lines in {
            "101": [b"X-%d: 1" % n for n in range(101)],
            "300": [b"X-%d: 1" % n for n in range(300)],
            "101-of-a-name": [b"X: 1"] * 101,
            "101-empty": [b"X:"] * 101,
        }.items()
    ),
    bad_body("trailer-9-kb", _TRAILER, trailers(b"X-A: " + b"a" * 9000), 400, 431),
    bad_body("trailers-40-kb", _TRAILER, trailers(*[b"X-A: " + b"a" * 4000] * 10), 400, 431),
)
