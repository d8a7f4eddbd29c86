"""The HTTP side: content types, verbs, paths. Hosts and origins are in cases_origins.py.

Transport faults keep HTTP's own status and carry a JSON-RPC error with id null.
"""

import gzip

from .case import JSON, Case, call, executed
from .matchers import ABSENT, ANY_BODY, ANY_STRING, NOTHING, Contains, Error, OneOf, result

REFUSED = Error(-32600, message=ANY_STRING)
DATA = ["hello", 5]

TAKEN_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'application/json; charset="utf-8"',
    "application/json ; Charset=utf-8",
    "Application/JSON",
    "application/json-rpc",
    "application/json-rpc; charset=utf-8",
    "application/jsonrequest",
    "application/vnd.api+json",
    "application/problem+JSON; charset=utf-8",
]

REFUSED_TYPES = [
    "text/plain",
    "text/plain; charset=utf-8",
    "text/json",
    "text/html",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=application/json",
    "application/octet-stream",
    "application/xml",
    "application/javascript",
    "application/jsonx",
    "application/json-seq",
    "application/x-json",
    "application",
    "json",
    "*/*",
    "application/*",
    "",
    "text/plain; application/json",
    "text/plain; type=application/json",
    "text/plain, application/json",
    "text/plain;+json",
    "application/json; charset=latin-1",
    "application/json; charset=utf-16",
    'application/json; charset="utf-16"',
    "application/json; charset=ascii",
    "application/json; charset=",
    "application/json; charset=no-such-charset",
    "application/json; charset=utf-8; charset=utf-16",
]

CONTENT_TYPES = (
    [
        Case(f"type-{kind}", call("echo", [kind]), result(kind), headers={"Content-Type": kind})
        for kind in TAKEN_TYPES
    ]
    + [
        Case(
            f"type-refused-{kind}",
            call("touch", [f"type {kind}"]),
            REFUSED,
            415,
            headers={"Content-Type": kind},
            effect=executed(f"type {kind}", 0),
        )
        for kind in REFUSED_TYPES
    ]
    + [
        Case(
            "type-refused-none",
            call("touch", ["no type"]),
            REFUSED,
            415,
            headers={},
            effect=executed("no type", 0),
        ),
        Case(
            "type-refused-for-a-notification",
            call("touch", ["plain note"], id=ABSENT),
            REFUSED,
            415,
            headers={"Content-Type": "text/plain"},
            effect=executed("plain note", 0),
        ),
        Case(
            "type-refused-before-parsing",
            b"{",
            REFUSED,
            415,
            headers={"Content-Type": "text/plain"},
        ),
        Case(
            "type-compressed",
            gzip.compress(call("touch", ["gzip"])),
            OneOf(REFUSED, Error(-32700)),
            (200, 415),
            headers=JSON | {"Content-Encoding": "gzip"},
            effect=executed("gzip", 0),
        ),
        Case(
            "accept-is-not-looked-at",
            call("get_data"),
            result(DATA),
            headers=JSON | {"Accept": "text/html"},
        ),
    ]
)

ALLOW_POST = {"Allow": Contains("POST")}

VERBS = (
    [
        Case(
            f"verb-{verb}",
            call("touch", [f"verb {verb}"]),
            REFUSED,
            405,
            verb=verb,
            reply_headers=ALLOW_POST,
            effect=executed(f"verb {verb}", 0),
        )
        for verb in ("GET", "PUT", "PATCH", "DELETE")
    ]
    + [
        Case(
            f"verb-{verb}-without-body",
            b"",
            REFUSED,
            405,
            verb=verb,
            headers={},
            reply_headers=ALLOW_POST,
        )
        for verb in ("GET", "PUT", "PATCH", "DELETE")
    ]
    + [
        Case("verb-HEAD", b"", NOTHING, 405, verb="HEAD", headers={}, reply_headers=ALLOW_POST),
        Case(
            "verb-GET-with-a-call-in-the-query",
            b"",
            REFUSED,
            405,
            verb="GET",
            path='/api?jsonrpc=2.0&method=touch&params=["query"]&id=1',
            headers={},
            effect=executed("query", 0),
        ),
        Case(
            "verb-PUT-with-a-large-body",
            call("touch", ["x" * 590_000]),
            REFUSED,
            405,
            verb="PUT",
            reply_headers=ALLOW_POST,
        ),
        Case(
            "verb-OPTIONS-without-origin",
            b"",
            ANY_BODY,
            (200, 204, 405),
            verb="OPTIONS",
            headers={},
            reply_headers=ALLOW_POST | {"Access-Control-Allow-Origin": ABSENT},
        ),
        Case(
            "verb-GET-overridden",
            call("touch", ["overridden"]),
            REFUSED,
            405,
            verb="GET",
            headers=JSON | {"X-HTTP-Method-Override": "POST"},
            effect=executed("overridden", 0),
        ),
        Case(
            "verb-POST-overridden",
            call("get_data"),
            result(DATA),
            headers=JSON | {"X-HTTP-Method-Override": "DELETE"},
        ),
    ]
)

PATHS = [
    Case("path-with-query", call("get_data"), result(DATA), path="/api?x=1&method=no_such"),
    Case("path-percent-encoded", call("get_data"), result(DATA), path="/%61pi"),
    Case(
        "path-unknown",
        call("touch", ["path"]),
        ANY_BODY,
        404,
        path="/no-such",
        effect=executed("path", 0),
    ),
    Case("path-root", call("get_data"), ANY_BODY, 404, path="/"),
    Case("path-below", call("get_data"), ANY_BODY, 404, path="/api/x"),
    Case(
        "path-with-slash",
        call("touch", ["slash"]),
        ANY_BODY,
        404,
        path="/api/",
        effect=executed("slash", 0),
    ),
    Case("path-in-capitals", call("get_data"), ANY_BODY, 404, path="/API"),
    Case("health-live", b"", ANY_BODY, verb="GET", path="/health/live", headers={}),
    Case("health-ready", b"", ANY_BODY, verb="GET", path="/health/ready", headers={}),
]

CASES = CONTENT_TYPES + VERBS + PATHS
