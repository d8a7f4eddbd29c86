"""The registry's own settings: what each must be, where it is given and again at the start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..config import Configurable

__all__ = ["CHECKS", "ONE_PROCESS", "CheckedConfigurable"]

ONE_PROCESS = (
    "a registry is one process: with several workers each would know a part of the services. "
    "Start more registries instead, and have services ping them all"
)

_TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")


def _check_token(token: Any) -> None:
    """A header must be able to carry it. The complaint does not show it."""
    if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise ValueError("a token is 1 to 1000 visible ASCII characters, without spaces")


def _check_state(state: Any) -> None:
    if state is None:
        return
    # An empty text would be the working directory, as Path("") is.
    if not isinstance(state, (str, os.PathLike)) or os.fspath(state) in ("", "."):
        raise ValueError(f"must be the path of a file, or none, not {state!r}")


def _check_ttl(ttl: Any) -> None:
    if ttl is not None and not (isinstance(ttl, (int, float)) and ttl > 0):
        raise ValueError(f"must be seconds above 0, or none, not {ttl!r}")


def _check_limit(limit: Any) -> None:
    if not (isinstance(limit, int) and limit > 0):
        raise ValueError(f"must be a whole number above 0, not {limit!r}")


def _check_workers(workers: Any) -> None:
    if workers > 1:
        raise ValueError(ONE_PROCESS)


#: The check of each setting: it raises ValueError for a value that cannot be used.
CHECKS: Mapping[str, Callable[[Any], None]] = {
    "token": _check_token,
    "state": _check_state,
    "ttl": _check_ttl,
    "max_entries": _check_limit,
    "max_per_name": _check_limit,
    "workers": _check_workers,
}


class CheckedConfigurable(Configurable):
    """Its value is read by the type hint of its attribute, then checked by `CHECKS`.

    Not by a template: what that says of a secret is not passed on, and here it can be.
    """

    def get_final_value(self) -> Any:
        value = super().get_final_value()
        CHECKS[self.name](value)
        return value
