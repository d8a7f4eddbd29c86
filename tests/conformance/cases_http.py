"""The HTTP side: content types, verbs, paths. Hosts and origins are in cases_origins.py.

Transport faults keep HTTP's own status and carry a JSON-RPC error with id null.
"""

import gzip

from tests.support.cases import ABSENT, ANY_BODY, NOTHING, REFUSED, Contains, Error, OneOf, result

from .calls import DATA, Call, call, never

TAKEN_TYPES = [
    *("application/json", "application/json;charset=UTF-8", "Application/JSON"),
    *("application/json-rpc", "application/jsonrequest", "application/vnd.api+json"),
    *("application/json; charset=utf-8", 'application/json; charset="utf-8"'),
    *("application/json ; Charset=utf-8", "application/json-rpc; charset=utf-8"),
    "application/problem+JSON; charset=utf-8",
]
REFUSED_TYPES = [
    *("text/plain", "text/plain; charset=utf-8", "text/json", "text/html", "application", "json"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json"),
    *("application/octet-stream", "application/xml", "application/javascript"),
    *("application/jsonx", "application/json-seq", "application/x-json", "*/*", "application/*"),
    *("text/plain; application/json", "text/plain; type=application/json"),
    *("text/plain, application/json", "text/plain;+json", ""),
    *(
        f"application/json; charset={charset}"
        for charset in ("latin-1", "utf-16", '"utf-16"', "ascii", "", "no-such-charset")
    ),
    "application/json; charset=utf-8; charset=utf-16",
]

PLAIN = {"Content-Type": "text/plain"}
UNTYPED = {"Content-Type": ABSENT}
GET_DATA = call("get_data")

CONTENT_TYPES = [
    *(
        Call(f"type-{kind}", call("echo", [kind]), result(kind), headers={"Content-Type": kind})
        for kind in TAKEN_TYPES
    ),
    *(
        never(f"type-refused-{kind}", status=415, headers={"Content-Type": kind})
        for kind in REFUSED_TYPES
    ),
    never("type-refused-none", status=415, headers=UNTYPED),
    Call(
        "type-of-a-note",
        call("touch", ["type-of-a-note"], id=ABSENT),
        REFUSED,
        415,
        headers=PLAIN,
        ran=0,
    ),
    Call("type-refused-before-parsing", b"{", REFUSED, 415, headers=PLAIN),
    Call(
        "type-compressed",
        gzip.compress(call("touch", ["type-compressed"])),
        OneOf(REFUSED, Error(-32700)),
        (200, 415),
        headers={"Content-Encoding": "gzip"},
        ran=0,
    ),
    Call("accept-is-not-looked-at", GET_DATA, result(DATA), headers={"Accept": "text/html"}),
]

#: A refused verb.
WRONG = {"status": 405, "reply_headers": {"Allow": Contains("POST")}}
OVERRIDE = "X-HTTP-Method-Override"

VERBS = [
    *(never(f"verb-{verb}", verb=verb, **WRONG) for verb in ("GET", "PUT", "PATCH", "DELETE")),
    *(
        Call(f"verb-{verb}-without-body", b"", REFUSED, verb=verb, headers=UNTYPED, **WRONG)
        for verb in ("GET", "PUT", "PATCH", "DELETE")
    ),
    Call("verb-HEAD", b"", NOTHING, verb="HEAD", headers=UNTYPED, **WRONG),
    Call(
        "verb-GET-query",
        b"",
        REFUSED,
        verb="GET",
        path='/api?jsonrpc=2.0&method=touch&params=["verb-GET-query"]&id=1',
        headers=UNTYPED,
        ran=0,
        **WRONG,
    ),
    Call(
        "verb-PUT-with-a-large-body", call("touch", ["x" * 590_000]), REFUSED, verb="PUT", **WRONG
    ),
    Call(
        "verb-OPTIONS-without-origin",
        b"",
        ANY_BODY,
        (200, 204, 405),
        {"Allow": Contains("POST"), "Access-Control-Allow-Origin": ABSENT},
        verb="OPTIONS",
        headers=UNTYPED,
    ),
    never("verb-GET-overridden", verb="GET", headers={OVERRIDE: "POST"}, **WRONG),
    Call("verb-POST-overridden", GET_DATA, result(DATA), headers={OVERRIDE: "DELETE"}),
]

PATHS = [
    Call("path-with-query", GET_DATA, result(DATA), path="/api?x=1&method=no_such"),
    Call("path-percent-encoded", GET_DATA, result(DATA), path="/%61pi"),
    *(
        never(f"path-{path}", ANY_BODY, 404, path=path)
        for path in ("/no-such", "/", "/api/x", "/api/", "/API")
    ),
    *(
        Call(f"health-{path}", b"", ANY_BODY, verb="GET", path=f"/health/{path}", headers=UNTYPED)
        for path in ("live", "ready")
    ),
]

CASES = CONTENT_TYPES + VERBS + PATHS
