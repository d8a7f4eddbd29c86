"""Remember what a service said of itself, and complete the names of its methods by that."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..broker_urls import without_passwords
from ..errors import BadResponse

if TYPE_CHECKING:
    from ..contract.model import Contract

__all__ = ["Known", "at_a_prompt", "complete_in_ipython", "next_parts"]

_ATTRIBUTES = re.compile(r"(\w+)\.(?:methods|idempotent|notifications)\.[\w.]*")


class Known:
    """Holds what a service said of itself, when it was asked. Nobody asks for this.

    :ivar name: None for what was not said, as `methods`.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.idempotent: frozenset[str] = frozenset()
        self.methods: list[str] | None = None

    def learn_contract(self, contract: Contract) -> None:
        """Take what ``rpc.discover`` told."""
        self.name = contract.name
        self.idempotent = frozenset(m.name for m in contract.methods if m.idempotent)
        self.methods = [method.name for method in contract.methods]

    def learn_specs(self, specs: Any, url: str) -> None:
        """Take what ``get_service_specs`` told.

        :raises BadResponse: when it has no name.
        """
        try:
            name = str(specs["name"])
            idempotent = frozenset(specs.get("idempotent_methods") or ())
        except (KeyError, TypeError, AttributeError):
            raise BadResponse(
                f"{without_passwords(url)}: get_service_specs gave {specs!r:.60}, which has no name"
            ) from None
        self.name, self.idempotent = name, idempotent
        if isinstance(specs.get("methods"), dict):
            self.methods = [*specs["methods"]]


def at_a_prompt() -> bool:
    """Tell whether somebody types: in Python's own prompt, or in IPython."""
    return hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")


def complete_in_ipython(kind: type) -> None:
    """Have Tab complete ``client.methods.`` in IPython, whose own ways see no made-up attributes.

    :param kind: what has ``methods``. Only variables that hold one are looked into.
    """
    if "IPython" not in sys.modules:
        return
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    completer = getattr(shell, "Completer", None)
    matchers = getattr(completer, "custom_matchers", None)
    if matchers is None or any(getattr(each, "_is_ours", False) for each in matchers):
        return

    def methods_matcher(text: str) -> list[str]:
        found = _ATTRIBUTES.fullmatch(text)
        client = None if found is None else shell.user_ns.get(found[1])
        if found is None or not isinstance(client, kind):
            return []
        front, _, start = text.rpartition(".")
        place: Any = client
        for step in front.split(".")[1:]:
            place = getattr(place, step)
        return [f"{front}.{name}" for name in dir(place) if name.startswith(start)]

    methods_matcher._is_ours = True  # type: ignore[attr-defined]
    matchers.append(methods_matcher)


def next_parts(names: Iterable[str], start: str) -> list[str]:
    """List what stands behind the start of a method's name, to the next dot.

    >>> next_parts(["users.find", "users.admins.list", "ping"], "users.")
    ['admins', 'find']
    """
    rest = (name[len(start) :] for name in names if name.startswith(start))
    return sorted({name.partition(".")[0] for name in rest} - {""})
