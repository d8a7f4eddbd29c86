"""A strict reading of HTTP/1.1, slow and small: what a server may run of a stream, at most.

Written from the grammar of RFC 9112 alone, with none of the server's code. A server may refuse
more than this does (a missing Host, a limit, an odd target); it must never run anything else.
"""

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
#: Section 3; the empty lines before it are section 2.2.
_LINE = re.compile(rb"(?:\r\n)*(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([01])\r\n")
#: Section 5; obs-fold is refused.
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\0-\x08\x0a-\x1f\x7f]*)\r\n")
#: Section 7.1; of extensions only that they are on the line.
_SIZE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[^\0-\x08\x0a-\x1f\x7f]*)?\r\n")


class Run(NamedTuple):
    """One request that an application was called for, with its whole body."""

    method: str
    target: str
    body: bytes


class _Malformed(Exception):
    """Nothing behind this can be trusted."""


def read_stream(stream: bytes) -> list[Run]:
    """The requests of a stream, up to the first one that is malformed or not whole."""
    found: list[Run] = []
    place = 0
    while True:
        try:
            run, place = _read_request(stream, place)
        except _Malformed:
            return found
        found.append(run)


def _read_request(stream: bytes, place: int) -> tuple[Run, int]:
    line = _match(_LINE, stream, place)
    fields, place = _read_fields(stream, line.end())
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"] or line[3] == b"0":
            raise _Malformed
        body, place = _read_chunks(stream, place)
    elif lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise _Malformed
        body, place = _take(stream, place, int(lengths[0]))
    else:
        body = b""
    return Run(line[1].decode(), line[2].decode(), body), place


def _read_fields(stream: bytes, place: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """The fields up to and with the empty line."""
    fields = []
    while not stream.startswith(b"\r\n", place):
        field = _match(_FIELD, stream, place)
        fields.append((field[1].lower(), field[2].rstrip(b" \t")))
        place = field.end()
    return fields, place + 2


def _read_chunks(stream: bytes, place: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line = _match(_SIZE, stream, place)
        size = int(line[1], 16)
        if size == 0:
            return body, _read_fields(stream, line.end())[1]
        data, place = _take(stream, line.end(), size)
        _, place = _take(stream, place, 2, b"\r\n")
        body += data


def _take(stream: bytes, place: int, size: int, exactly: bytes | None = None) -> tuple[bytes, int]:
    taken = stream[place : place + size]
    if len(taken) < size or (exactly is not None and taken != exactly):
        raise _Malformed
    return taken, place + size


def _match(pattern: "re.Pattern[bytes]", stream: bytes, place: int) -> "re.Match[bytes]":
    match = pattern.match(stream, place)
    if match is None:
        raise _Malformed
    return match
