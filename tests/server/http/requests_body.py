"""Requests for the table: how the body is framed; chunks and trailers."""

from .case import CHUNKED, HOST, Case, bad, bad_body, good, in_chunks, post, request

_LENGTH = "RFC 9112, section 6.2; RFC 9110, section 8.6"
_CODING = "RFC 9112, section 6.1"
_BODY = "RFC 9112, section 6.3"
_CHUNK = "RFC 9112, section 7.1"
_EXTENSION = "RFC 9112, section 7.1.1"
_TRAILER = "RFC 9112, section 7.1.2; RFC 9110, section 6.5"
_FORBIDDEN = "RFC 9110, section 6.5.1"

#: Whatever reads the framing in another way than the server runs this.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
ABC = b"3\r\nabc\r\n"
END = b"0\r\n\r\n"


def length(text: bytes, body: bytes = b"abcde") -> bytes:
    return post(b"Content-Length: " + text, body=body)


def coding(*texts: bytes, body: bytes = ABC + END) -> bytes:
    return post(*[b"Transfer-Encoding: " + text for text in texts], body=body)


def trailers(*lines: bytes) -> bytes:
    return in_chunks(b"\r\n".join([ABC + b"0", *lines, b"", b""]))


_SMUGGLED = SMUGGLED.decode()

GOOD_BODIES: tuple[Case, ...] = (
    good("length", _LENGTH, length(b"5"), body="abcde", environ={"CONTENT_LENGTH": "5"}),
    good("length-zero", _LENGTH, length(b"0", b""), body=""),
    good("length-leading-zeros", _LENGTH, length(b"0005"), body="abcde"),
    good("length-white-space", _LENGTH, length(b" \t5 \t"), body="abcde"),
    good(
        "length-get",
        _BODY,
        request(b"GET /x HTTP/1.1", HOST, b"Content-Length: 3", body=b"abc"),
        method="GET",
        body="abc",
    ),
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
        environ={"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked"},
    ),
    good("chunks-none", _CHUNK, in_chunks(END), body=""),
    good("chunks-upper-case", _CODING, coding(b"Chunked"), body="abc"),
    good(
        "chunks-hex",
        _CHUNK,
        in_chunks(b"1a\r\n" + b"x" * 26 + b"\r\n1B\r\n" + b"y" * 27 + b"\r\n" + END),
        body="x" * 26 + "y" * 27,
    ),
    good("chunks-leading-zeros", _CHUNK, in_chunks(b"0003\r\nabc\r\n000\r\n\r\n"), body="abc"),
    good("chunks-of-one", _CHUNK, in_chunks(b"1\r\nz\r\n" * 300 + END), body="z" * 300),
    good(
        "chunk-70-kb",
        _CHUNK,
        in_chunks(b"11170\r\n" + b"y" * 70_000 + b"\r\n" + END),
        body="y" * 70_000,
    ),
    good(
        "chunk-like-a-request",
        _CHUNK,
        in_chunks(b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED) + END),
        body=_SMUGGLED,
    ),
    good("chunk-like-an-end", _CHUNK, in_chunks(b"5\r\n" + END + b"\r\n" + END), body="0\r\n\r\n"),
    good(
        "chunks-get",
        _CHUNK,
        request(b"GET /x HTTP/1.1", HOST, CHUNKED, body=ABC + END),
        method="GET",
        body="abc",
    ),
    good("extension", _EXTENSION, in_chunks(b"3;a\r\nabc\r\n0;b=c\r\n\r\n"), body="abc"),
    good("extension-quoted", _EXTENSION, in_chunks(b'3;a="b c"\r\nabc\r\n' + END), body="abc"),
    good("extensions", _EXTENSION, in_chunks(b"3;a=b;c;d=e\r\nabc\r\n" + END), body="abc"),
    good("trailer", _TRAILER, trailers(b"X-Sum: 1"), body="abc", environ={"HTTP_X_SUM": None}),
    good(
        "trailers",
        _TRAILER,
        trailers(b"X-A: 1", b"X-B:", b"X-A: 2"),
        body="abc",
        environ={"HTTP_X_A": None, "HTTP_X_B": None},
    ),
    # Fields of the head are limited to 100; these are thrown away, and limited by their bytes.
    good("trailers-101", _TRAILER, trailers(*[b"X-%d: 1" % n for n in range(101)]), body="abc"),
    # Never merged: the head's own stays.
    good(
        "trailer-of-a-field",
        _TRAILER,
        post(b"X-A: head", CHUNKED, body=ABC + b"0\r\nX-A: trailer\r\n\r\n"),
        environ={"HTTP_X_A": "head"},
    ),
)

BAD_LENGTHS: tuple[Case, ...] = (
    *(
        bad(f"length-{name}", _LENGTH, length(text))
        for name, text in {
            "plus": b"+5",
            "minus": b"-5",
            "underscore": b"0_5",
            "list": b"5, 5",
            "list-tight": b"5,5",
            "list-differs": b"5, 6",
            "empty": b"",
            "white": b" ",
            "two-numbers": b"5 5",
            "hex": b"0x5",
            "fraction": b"5.0",
            "exponent": b"5e0",
            "word": b"five",
            "semicolon": b"5;",
            "quoted": b'"5"',
            "vertical-tab": b"\x0b5",
            "other-digits": "\u0665".encode(),
            "over-64-bits": b"18446744073709551621",
            "very-long": b"9" * 1000,
        }.items()
    ),
    # RFC 9110, section 8.6 lets a server take equal ones for one; to refuse is the other choice.
    bad("length-twice", _LENGTH, post(b"Content-Length: 5", b"Content-Length: 5", body=b"abcde")),
    bad("length-differs", _BODY, post(b"Content-Length: 5", b"Content-Length: 0", body=b"abcde")),
    bad(
        "length-differs-1.0",
        _BODY,
        request(b"POST /x HTTP/1.0", b"Content-Length: 5", b"Content-Length: 0", body=b"abcde"),
    ),
    bad(
        "length-twice-in-case",
        _BODY,
        post(b"Content-Length: 5", b"CONTENT-LENGTH: 6", body=b"abcde"),
    ),
    bad(
        "length-space-before-colon",
        "RFC 9112, section 5.1",
        post(b"Content-Length : 5", body=b"abcde"),
    ),
)

BAD_CODINGS: tuple[Case, ...] = (
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
    *(
        bad(f"coding-{name}", _CODING, coding(text), 400, 501)
        for name, text in {
            "gzip": b"gzip",
            "gzip-first": b"gzip, chunked",
            "gzip-last": b"chunked, gzip",
            "chunked-twice": b"chunked, chunked",
            "identity": b"identity",
            "x": b"xchunked",
            "and-more": b"chunkedx",
            "semicolon": b"chunked;q=1",
            "quoted": b'"chunked"',
            "empty": b"",
            "comma-last": b"chunked,",
            "comma-first": b", chunked",
            "vertical-tab": b"\x0bchunked",
            "nul": b"chunked\0",
            "two-words": b"chunked x",
            "identity-first": b"identity, chunked",
        }.items()
    ),
    bad("coding-repeated", _CODING, coding(b"chunked", b"chunked")),
    bad("coding-repeated-other", _CODING, coding(b"chunked", b"identity")),
    bad("coding-repeated-first-other", _CODING, coding(b"identity", b"chunked")),
    bad("coding-on-1.0", _CODING, request(b"POST /x HTTP/1.0", HOST, CHUNKED, body=ABC + END)),
    bad(
        "coding-on-1.0-kept",
        _CODING,
        request(b"POST /x HTTP/1.0", HOST, b"Connection: keep-alive", CHUNKED, body=ABC + END),
    ),
    bad(
        "coding-space-before-colon",
        "RFC 9112, section 5.1",
        post(b"Transfer-Encoding : chunked", body=ABC + END),
    ),
    bad(
        "coding-folded",
        "RFC 9112, section 5.2",
        post(b"Transfer-Encoding:", b" chunked", body=ABC + END),
    ),
)

BAD_CHUNKS: tuple[Case, ...] = (
    *(
        bad_body(f"chunk-size-{name}", _CHUNK, in_chunks(text + b"\r\nabc\r\n" + END))
        for name, text in {
            "letters": b"xyz",
            "minus": b"-3",
            "plus": b"+3",
            "empty": b"",
            "0x": b"0x3",
            "underscore": b"0_3",
            "two": b"3 3",
            "space-first": b" 3",
            "tab-first": b"\t3",
            "comma": b"3,",
            "nul": b"3\0",
            "over-64-bits": b"10000000000000003",
            "bare-cr": b"3\r",
            "very-long": b"0" * 9000 + b"3",
            "space-last": b"3 x",
        }.items()
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
    bad_body("extension-bare-cr", _EXTENSION, in_chunks(b"3;a\rb\r\nabc\r\n" + END)),
    bad_body("extension-nul", _EXTENSION, in_chunks(b"3;a\0\r\nabc\r\n" + END)),
    bad_body("extension-open-quote", _EXTENSION, in_chunks(b'3;a="b\r\nabc\r\n' + END)),
    bad_body(
        "extension-9-kb",
        _EXTENSION,
        in_chunks(b"3;" + b"a" * 9000 + b"\r\nabc\r\n" + END),
        400,
        431,
    ),
    bad_body(
        "extension-60-kb",
        _EXTENSION,
        in_chunks(b"3;" + b"a" * 60_000 + b"\r\nabc\r\n" + END),
        400,
        431,
    ),
)

BAD_TRAILERS: tuple[Case, ...] = (
    *(
        bad_body(f"trailer-{name.decode().lower()}", _FORBIDDEN, trailers(name + b": 5"))
        for name in (
            b"Content-Length",
            b"Transfer-Encoding",
            b"HOST",
            b"Authorization",
            b"Cookie",
            b"content-type",
            b"Content-Encoding",
            b"Connection",
            b"Trailer",
            b"TE",
        )
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
    bad_body("trailer-9-kb", _TRAILER, trailers(b"X-A: " + b"a" * 9000), 400, 431),
    bad_body("trailers-40-kb", _TRAILER, trailers(*[b"X-A: " + b"a" * 4000] * 10), 400, 431),
)
