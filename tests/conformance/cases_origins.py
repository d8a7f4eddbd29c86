"""Who may call from where: the Host and Origin headers, and the headers between services."""

from tests.support.cases import ABSENT, ANY, ANY_BODY, NOTHING, REFUSED, Contains, Error, result

from .calls import DATA, Call, call, never

FRIEND = "https://friend.test"
GET_DATA = call("get_data")


def _good(name: str, **headers: str) -> Call:
    """`get_data` with these headers (an underscore for each dash), answered."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Call(name, GET_DATA, result(DATA), headers=named)


EVIL = "evil.test"
KNOWN = ["127.0.0.1", "localhost", "localhost:1", "LOCALHOST", "subject.test", "subject.test:8080"]
FOREIGN = [EVIL, f"{EVIL}:80", f"127.0.0.1.{EVIL}", f"localhost.{EVIL}", "xlocalhost"]
FOREIGN += ["169.254.169.254"]  # where clouds tell secrets
#: No host at all by RFC 9112, section 3.2: a server may say so (400) before asking whose it is.
MALFORMED_HOSTS = ["evil.test:localhost", "localhost@evil.test", "evil.test/localhost", "a b"]

HOSTS = [
    *(_good(f"host-{host}", Host=host) for host in KNOWN),
    *(never(f"host-foreign-{host}", status=403, headers={"Host": host}) for host in FOREIGN),
    *(
        never(f"host-malformed-{host}", status=(400, 403), headers={"Host": host})
        for host in MALFORMED_HOSTS
    ),
    never(
        "host-foreign-behind-forwarded",
        status=403,
        headers={"Host": "evil.test", "X-Forwarded-Host": "localhost"},
    ),
    _good("host-forwarded-is-not-looked-at", X_Forwarded_Host="evil.test"),
]

CORS = "Access-Control-Allow-Origin"
NO_CORS = {CORS: ABSENT}
STRANGERS = (EVIL, f"friend.test.{EVIL}", "xfriend.test", "friend.test:8443")
FOREIGN_ORIGINS = [f"https://{host}" for host in STRANGERS]
FOREIGN_ORIGINS += ["http://friend.test", "null", "file://"]
PREFLIGHT = {
    "Content-Type": ABSENT,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}
#: What comes from a friend, and is answered so that its browser shows it.
FRIENDLY = {"headers": {"Origin": FRIEND}, "reply_headers": {CORS: FRIEND}}

ORIGINS = [
    *(
        never(f"origin-{origin}", status=403, headers={"Origin": origin}, reply_headers=NO_CORS)
        for origin in FOREIGN_ORIGINS
    ),
    Call("origin-friend", GET_DATA, result(DATA), **FRIENDLY),
    Call("origin-friend-error", call("no_such"), Error(-32601, id=1), **FRIENDLY),
    Call("origin-friend-note", call("get_data", id=ABSENT), NOTHING, 204, **FRIENDLY),
    _good("origin-of-the-host-itself", Host="localhost:8000", Origin="http://localhost:8000"),
    never(
        "origin-of-another-port-of-the-host",
        status=403,
        headers={"Host": "localhost:8000", "Origin": "http://localhost:8001"},
    ),
    Call(
        "origin-foreign-with-a-large-body",
        call("touch", ["x" * 590_000]),
        REFUSED,
        403,
        headers={"Origin": "https://evil.test"},
    ),
    Call("origin-none", GET_DATA, result(DATA), reply_headers=NO_CORS),
    Call(
        "preflight-friend",
        b"",
        ANY_BODY,
        (200, 204),
        {
            CORS: FRIEND,
            "Access-Control-Allow-Methods": Contains("POST"),
            "Access-Control-Allow-Headers": ANY,
        },
        verb="OPTIONS",
        headers={**PREFLIGHT, "Origin": FRIEND},
    ),
    Call(
        "preflight-foreign",
        b"",
        ANY_BODY,
        403,
        {CORS: ABSENT, "Access-Control-Allow-Methods": ABSENT},
        verb="OPTIONS",
        headers={**PREFLIGHT, "Origin": "https://evil.test"},
    ),
]

SOON = {"X-Gemstone-Deadline": "50"}

#: Headers between services.
BETWEEN_SERVICES = [
    _good("hops-few", X_Gemstone_Hops="3"),
    never("hops-too-many", Error(-32003, id=1), headers={"X-Gemstone-Hops": "9999"}),
    _good("deadline-far", X_Gemstone_Deadline="60000"),
    Call("deadline-near", call("nap", [10.0]), Error(-32002, id=1), headers=SOON),
    Call(
        "deadline-near-in-batch",
        b"[" + call("nap", [10.0]) + b"," + call("get_data", id=2) + b"]",
        [Error(-32002, id=1), result(DATA, id=2)],
        headers=SOON,
    ),
]

#: What is no number, or no id, in such a header is not the caller's business and not looked at.
ODD_VALUES = ["", "abc", "-1", "1.5", "é", "\xb2", "x" * 2000, "%s{0}"]
ODD_HEADERS = [
    _good(f"between-services-{name}-{index}", **{name: value})
    for name in ("X-Gemstone-Hops", "X-Gemstone-Deadline", "X-Request-Id", "traceparent")
    for index, value in enumerate(ODD_VALUES)
]

CASES = HOSTS + ORIGINS + BETWEEN_SERVICES + ODD_HEADERS
