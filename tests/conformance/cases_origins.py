"""Who may call from where: the Host and Origin headers, and the headers between services."""

from .case import JSON, Case, call, executed
from .matchers import ABSENT, ANY_BODY, ANY_STRING, NOTHING, Contains, Error, result

REFUSED = Error(-32600, message=ANY_STRING)
DATA = ["hello", 5]
FRIEND = "https://friend.test"

KNOWN_HOSTS = [
    "127.0.0.1",
    "localhost",
    "localhost:1",
    "LOCALHOST",
    "subject.test",
    "subject.test:8080",
]
FOREIGN_HOSTS = [
    "evil.test",
    "evil.test:80",
    "127.0.0.1.evil.test",
    "localhost.evil.test",
    "xlocalhost",
    "169.254.169.254",
]
#: No host at all by RFC 9112, section 3.2: a server may say so (400) before asking whose it is.
MALFORMED_HOSTS = ["evil.test:localhost", "localhost@evil.test", "evil.test/localhost", "a b"]

HOSTS = (
    [
        Case(f"host-{host}", call("get_data"), result(DATA), headers=JSON | {"Host": host})
        for host in KNOWN_HOSTS
    ]
    + [
        Case(
            f"host-foreign-{host}",
            call("touch", [f"host {host}"]),
            REFUSED,
            403,
            headers=JSON | {"Host": host},
            effect=executed(f"host {host}", 0),
        )
        for host in FOREIGN_HOSTS
    ]
    + [
        Case(
            f"host-malformed-{host}",
            call("touch", [f"host {host}"]),
            REFUSED,
            (400, 403),
            headers=JSON | {"Host": host},
            effect=executed(f"host {host}", 0),
        )
        for host in MALFORMED_HOSTS
    ]
    + [
        Case(
            "host-foreign-behind-forwarded",
            call("touch", ["forwarded"]),
            REFUSED,
            403,
            headers=JSON | {"Host": "evil.test", "X-Forwarded-Host": "localhost"},
            effect=executed("forwarded", 0),
        ),
        Case(
            "host-forwarded-is-not-looked-at",
            call("get_data"),
            result(DATA),
            headers=JSON | {"X-Forwarded-Host": "evil.test"},
        ),
    ]
)

CORS = "Access-Control-Allow-Origin"
FOREIGN_ORIGINS = [
    "https://evil.test",
    "http://friend.test",
    "https://friend.test.evil.test",
    "https://xfriend.test",
    "https://friend.test:8443",
    "null",
    "file://",
]

ORIGINS = [
    Case(
        f"origin-foreign-{origin}",
        call("touch", [f"origin {origin}"]),
        REFUSED,
        403,
        headers=JSON | {"Origin": origin},
        reply_headers={CORS: ABSENT},
        effect=executed(f"origin {origin}", 0),
    )
    for origin in FOREIGN_ORIGINS
] + [
    Case(
        "origin-friend",
        call("get_data"),
        result(DATA),
        headers=JSON | {"Origin": FRIEND},
        reply_headers={CORS: FRIEND},
    ),
    Case(
        "origin-friend-error",
        call("no_such"),
        Error(-32601, id=1),
        headers=JSON | {"Origin": FRIEND},
        reply_headers={CORS: FRIEND},
    ),
    Case(
        "origin-friend-notification",
        call("get_data", id=ABSENT),
        NOTHING,
        204,
        headers=JSON | {"Origin": FRIEND},
        reply_headers={CORS: FRIEND},
    ),
    Case(
        "origin-of-the-host-itself",
        call("get_data"),
        result(DATA),
        headers=JSON | {"Host": "localhost:8000", "Origin": "http://localhost:8000"},
    ),
    Case(
        "origin-of-another-port-of-the-host",
        call("touch", ["port"]),
        REFUSED,
        403,
        headers=JSON | {"Host": "localhost:8000", "Origin": "http://localhost:8001"},
        effect=executed("port", 0),
    ),
    Case(
        "origin-foreign-with-a-large-body",
        call("touch", ["x" * 590_000]),
        REFUSED,
        403,
        headers=JSON | {"Origin": "https://evil.test"},
    ),
    Case(
        "origin-none", call("get_data", id="o"), result(DATA, id="o"), reply_headers={CORS: ABSENT}
    ),
    Case(
        "preflight-friend",
        b"",
        ANY_BODY,
        (200, 204),
        verb="OPTIONS",
        headers={
            "Origin": FRIEND,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
        reply_headers={
            CORS: FRIEND,
            "Access-Control-Allow-Methods": Contains("POST"),
            "Access-Control-Allow-Headers": ANY_STRING,
        },
    ),
    Case(
        "preflight-foreign",
        b"",
        ANY_BODY,
        403,
        verb="OPTIONS",
        headers={"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"},
        reply_headers={CORS: ABSENT, "Access-Control-Allow-Methods": ABSENT},
    ),
]

#: Headers between services.
BETWEEN_SERVICES = [
    Case("hops-few", call("get_data"), result(DATA), headers=JSON | {"X-Gemstone-Hops": "3"}),
    Case(
        "hops-too-many",
        call("touch", ["hops"]),
        Error(-32003, id=1),
        headers=JSON | {"X-Gemstone-Hops": "9999"},
        effect=executed("hops", 0),
    ),
    Case(
        "deadline-far",
        call("get_data"),
        result(DATA),
        headers=JSON | {"X-Gemstone-Deadline": "60000"},
    ),
    Case(
        "deadline-near",
        call("nap", [10.0]),
        Error(-32002, id=1),
        headers=JSON | {"X-Gemstone-Deadline": "50"},
    ),
    Case(
        "deadline-near-in-batch",
        b"[" + call("nap", [10.0]) + b"," + call("get_data", id=2) + b"]",
        [Error(-32002, id=1), result(DATA, id=2)],
        headers=JSON | {"X-Gemstone-Deadline": "50"},
    ),
]

#: What is no number, or no id, in such a header is not the caller's business and not looked at.
ODD_VALUES = ["", "abc", "-1", "1.5", "é", "\xb2", "x" * 2000, "%s{0}"]
ODD_HEADERS = [
    Case(
        f"between-services-{name}-{index}",
        call("get_data"),
        result(DATA),
        headers=JSON | {name: value},
    )
    for name in ("X-Gemstone-Hops", "X-Gemstone-Deadline", "X-Request-Id", "traceparent")
    for index, value in enumerate(ODD_VALUES)
]

CASES = HOSTS + ORIGINS + BETWEEN_SERVICES + ODD_HEADERS
