"""Private methods: who is refused, and that nothing else is learnt before that."""

from .case import JSON, Case, call, encode, executed, message
from .matchers import ABSENT, NOTHING, Error, InvalidParams, result
from .subject_data import TOKEN

ALLOWED = JSON | {"X-Api-Token": TOKEN}

#: Name and a token that opens nothing.
WRONG_TOKENS = [
    ("wrong", "let-me-out"),
    ("empty", ""),
    ("blank", " "),
    ("prefix", TOKEN[:-1]),
    ("longer", TOKEN + "x"),
    ("capitals", TOKEN.upper()),
    ("outside-ascii", "é"),
    ("quoted", f'"{TOKEN}"'),
    ("bearer", f"Bearer {TOKEN}"),
    ("null", "null"),
    ("6000-characters", "x" * 6000),
]

CASES = [
    Case("private-allowed", call("vault", [7]), result("vault 7"), headers=ALLOWED),
    Case("private-refused", call("vault", [7]), Error(-32001, id=1)),
    Case(
        "private-header-name-in-capitals",
        call("vault"),
        result("vault 0"),
        headers=JSON | {"X-API-TOKEN": TOKEN},
    ),
    Case(
        "private-refused-exactly",
        call("vault", id="x"),
        Error(-32001, id="x", data=ABSENT),
    ),
    Case(
        "private-refused-before-parameters",
        call("vault", {"self": 1, "number": "seven"}),
        Error(-32001, id=1),
    ),
    Case(
        "private-parameters-after-the-token",
        call("vault", {"x": 1, "number": "seven"}),
        InvalidParams("x", "number"),
        headers=ALLOWED,
    ),
    Case(
        "private-notification-refused-silently",
        call("private_touch", ["private-note"], id=ABSENT),
        NOTHING,
        204,
        effect=executed("private-note", 0),
    ),
    Case(
        "private-notification-allowed",
        call("private_touch", ["private-note-allowed"], id=ABSENT),
        NOTHING,
        204,
        headers=ALLOWED,
        effect=executed("private-note-allowed", 1),
    ),
    Case(
        "private-refused-is-not-executed",
        call("private_touch", ["private-refused"]),
        Error(-32001, id=1),
        effect=executed("private-refused", 0),
    ),
    Case("private-token-in-parameters", call("vault", {"token": TOKEN}), Error(-32001, id=1)),
    Case(
        "private-token-in-another-header",
        call("vault"),
        Error(-32001, id=1),
        headers=JSON | {"Authorization": f"Bearer {TOKEN}"},
    ),
    Case(
        "private-token-in-a-cookie",
        call("vault"),
        Error(-32001, id=1),
        headers=JSON | {"Cookie": f"AuthToken={TOKEN}; X-Api-Token={TOKEN}"},
    ),
    Case(
        "private-token-in-query",
        call("vault"),
        Error(-32001, id=1),
        path=f"/api?X-Api-Token={TOKEN}",
    ),
    Case(
        "public-with-wrong-token",
        call("get_data"),
        result(["hello", 5]),
        headers=JSON | {"X-Api-Token": "é"},
    ),
    Case(
        "private-in-batch-item-by-item",
        encode(
            [
                message("vault", [1], id=1),
                message("subtract", [42, 23], id=2),
                message("vault", {"no": 1}, id=3),
                message("private_touch", ["private-batch"], id=ABSENT),
            ]
        ),
        [Error(-32001, id=1), result(19, id=2), Error(-32001, id=3)],
        effect=executed("private-batch", 0),
    ),
    Case(
        "private-in-batch-allowed",
        encode([message("vault", [1], id=1), message("get_data", id=2)]),
        [result("vault 1"), result(["hello", 5], id=2)],
        headers=ALLOWED,
    ),
    Case(
        "private-token-of-1-MB",
        call("vault"),
        Error(-32001, id=1),
        headers=JSON | {"X-Api-Token": "x" * 1_000_000},
        transports=("in_process",),
        why="both servers refuse a header of that size before the service sees it",
    ),
] + [
    Case(
        f"private-token-{name}",
        call("vault"),
        Error(-32001, id=1),
        headers=JSON | {"X-Api-Token": token},
    )
    for name, token in WRONG_TOKENS
]
