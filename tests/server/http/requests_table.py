"""The table of raw requests, written from RFC 9110 and RFC 9112.

Its parts: the request line, the fields, the body's framing, the connection. Where an RFC leaves a
choice, the case names every status that is right, or says why this server chooses as it does.
"""

from . import requests_body, requests_connection, requests_fields, requests_line

CASES = (
    *(requests_line.CASES + requests_fields.CASES),
    *(requests_body.CASES + requests_connection.CASES),
)
