"""A service that was written by an enemy of its readers: each text in it is an attack."""

from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Literal

import msgspec

import gemstone_sync as gemstone

SCRIPT = "<script>window.pwned=1</script>"
ATTACKS = [
    SCRIPT,
    "<img src=x onerror=window.pwned=1>",
    "<svg onload=window.pwned=1>",
    "[click](javascript:window.pwned=1) [d](data:text/html,x) [v](vbscript:x)",
    '[a](https://x.invalid/" onmouseover=window.pwned=1 ")',
    "</code></pre><iframe src=javascript:window.pwned=1></iframe>",
    '![x](https://evil.invalid/pixel.png) https://evil.invalid/"><script>',
    "\u202egnp.exe\u2066 \u200b\ufeff",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1}",
    "A" * 3000,
    "`" * 500 + "*" * 500 + "[" * 500 + "](" * 200,
]
ALL = "\n\n".join(ATTACKS)
MEGABYTE = "<b>x\u202e</b>" * 100_000


class Evil(gemstone.RpcError):
    code = 1
    message = SCRIPT * 3
    data: dict[str, str]


@dataclass
class Nested:
    __doc__ = ALL
    key: Annotated[str, msgspec.Meta(description=ALL, pattern="(a+)+$")] = SCRIPT
    again: "list[Nested]" = field(default_factory=list)
    one: "Nested | None" = None


Choice = Literal["<img src=x onerror=window.pwned=1>", "\u202e", "javascript:window.pwned=1"]
Odd = Annotated[str, msgspec.Meta(extra_json_schema={"type": "constructor", "format": "toString"})]
Proto = make_dataclass(
    "Proto", [("constructor", str), ("toString", str, ""), ("hasOwnProperty", str, "")]
)


class Hostile(gemstone.MicroService):
    __doc__ = ALL
    name = "hostile"
    version = SCRIPT
    emits = {"a.b": Nested}

    @gemstone.exposed_method(
        "a.evil",
        summary=ALL,
        tags=[SCRIPT],
        deprecated=ALL,
        errors=[Evil],
        examples=[gemstone.Example(params={"text": ALL}, summary=ALL)],
    )
    def evil(
        self,
        text: str = ALL,
        choice: Choice = "javascript:window.pwned=1",
        nested: Nested | None = None,
        proto: Proto | None = None,
    ) -> Any:  # type: ignore[valid-type]
        return {
            SCRIPT: ATTACKS,
            "__proto__": {"polluted": True},
            "constructor": MEGABYTE,
            "\u202e": [[[[[[ALL]]]]]],
            "list": list(range(5000)),
        }

    evil.__doc__ = (
        ALL + f"\n\n:param text: {SCRIPT} [x](javascript:window.pwned=1)\n:returns: {SCRIPT}"
    )

    @gemstone.exposed_method("a.error")
    def error(self) -> None:
        raise Evil(ALL, data={"error_id": SCRIPT, SCRIPT: MEGABYTE})

    @gemstone.exposed_method("__proto__.constructor", tags=["constructor"])
    def names(self, constructor: int, __proto__: Odd = "", toString: str = "x") -> Any:  # noqa: N803
        return {"constructor": {"prototype": 1}, "hasOwnProperty": constructor}

    @gemstone.exposed_method("a.big", summary=MEGABYTE)
    def big(self, text: str = MEGABYTE) -> str:
        return MEGABYTE

    big.__doc__ = MEGABYTE

    @gemstone.event_handler("x.#")
    def on_x(self, body: Nested) -> None: ...

    on_x.__doc__ = ALL


def many(count: int) -> type[gemstone.MicroService]:
    """Make a service of so many methods in fifty groups, and nothing else."""

    def method(number: int) -> Any:
        def call(self: Any, first: int, second: str = "x") -> str:
            return f"{number} {first} {second}"

        call.__doc__ = f"Do thing number {number}.\n\nWith some words about it."
        return gemstone.exposed_method(f"group{number % 50:02}.method_{number}")(call)

    members = {f"m{number}": method(number) for number in range(count)}
    return type("Many", (gemstone.MicroService,), {"name": "many", **members})
