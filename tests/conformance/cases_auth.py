"""Private methods: who is refused, and that nothing else is learnt before that."""

from tests.support.cases import ABSENT, NOTHING, Error, InvalidParams, result

from .calls import DATA, Call, batch, call, message
from .subject_data import TOKEN

ALLOWED = {"X-Api-Token": TOKEN}
VAULT = call("vault")
DENIED = Error(-32001, id=1)

#: Tokens that open nothing.
WRONG_TOKENS = ["let-me-out", "", " ", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é", "null"]
WRONG_TOKENS += [f'"{TOKEN}"', f"Bearer {TOKEN}", "x" * 6000]
#: The right token in the wrong place.
MISPLACED = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"Auth={TOKEN}; X-Api-Token={TOKEN}"}


def _touch(name: str, reply: object, status: int, **more: object) -> Call:
    id = 1 if status == 200 else ABSENT
    return Call(name, call("private_touch", [name], id=id), reply, status, **more)


CASES = [
    Call("private-allowed", call("vault", [7]), result("vault 7"), headers=ALLOWED),
    Call("private-refused", call("vault", [7]), DENIED),
    Call("private-header-in-capitals", VAULT, result("vault 0"), headers={"X-API-TOKEN": TOKEN}),
    Call("private-refused-exactly", call("vault", id="x"), Error(-32001, id="x", data=ABSENT)),
    Call("private-before-parameters", call("vault", {"self": 1, "number": "seven"}), DENIED),
    Call(
        "private-parameters-after-the-token",
        call("vault", {"x": 1, "number": "seven"}),
        InvalidParams("x", "number"),
        headers=ALLOWED,
    ),
    _touch("private-notification-refused-silently", NOTHING, 204, ran=0),
    _touch("private-notification-allowed", NOTHING, 204, ran=1, headers=ALLOWED),
    _touch("private-refused-is-not-executed", DENIED, 200, ran=0),
    Call("private-token-in-parameters", call("vault", {"token": TOKEN}), DENIED),
    Call("private-token-in-query", VAULT, DENIED, path=f"/api?X-Api-Token={TOKEN}"),
    Call("public-with-wrong-token", call("get_data"), result(DATA), headers={"X-Api-Token": "é"}),
    Call(
        "private-in-batch-item-by-item",
        batch(
            message("vault", [1], id=1),
            message("subtract", [42, 23], id=2),
            message("vault", {"no": 1}, id=3),
            message("private_touch", ["private-in-batch-item-by-item"], id=ABSENT),
        ),
        [DENIED, result(19, id=2), Error(-32001, id=3)],
        ran=0,
    ),
    Call(
        "private-in-batch-allowed",
        batch(message("vault", [1], id=1), message("get_data", id=2)),
        [result("vault 1"), result(DATA, id=2)],
        headers=ALLOWED,
    ),
    # Both servers refuse a header of that size before the service sees it.
    Call(
        "private-token-of-1-MB",
        VAULT,
        DENIED,
        headers={"X-Api-Token": "x" * 1_000_000},
        over=("in_process",),
    ),
    *(
        Call(f"private-token-in-{name}", VAULT, DENIED, headers={name: value})
        for name, value in MISPLACED.items()
    ),
    *(
        Call(f"private-token-{token[:20]!a}", VAULT, DENIED, headers={"X-Api-Token": token})
        for token in WRONG_TOKENS
    ),
]
