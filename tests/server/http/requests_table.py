"""The table of raw requests, written from RFC 9110 and RFC 9112.

Its parts: the request line, the fields, the body's framing, the connection. Where an RFC leaves a
choice, the case names every status that is right, or says why this server chooses as it does.
"""

from .case import Case
from .requests_body import BAD_CHUNKS, BAD_CODINGS, BAD_LENGTHS, BAD_TRAILERS, GOOD_BODIES
from .requests_connection import CONNECTIONS
from .requests_fields import BAD_FIELDS, BAD_HOSTS, GOOD_FIELDS
from .requests_line import BAD_LINES, BAD_TARGETS, GOOD_LINES

CASES: tuple[Case, ...] = (
    *GOOD_LINES,
    *BAD_TARGETS,
    *BAD_LINES,
    *GOOD_FIELDS,
    *BAD_HOSTS,
    *BAD_FIELDS,
    *GOOD_BODIES,
    *BAD_LENGTHS,
    *BAD_CODINGS,
    *BAD_CHUNKS,
    *BAD_TRAILERS,
    *CONNECTIONS,
)
