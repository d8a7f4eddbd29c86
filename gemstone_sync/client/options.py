"""Holds what is set for a client as a whole, and changed for some of its calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import UNSET, RpcError, Unset
from .messages import Limits

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """Holds what `with_options` may change.

    :raises TypeError: for errors that are none.
    """

    limits: Limits
    idempotent_methods: frozenset[str] = frozenset()
    errors: tuple[type[RpcError], ...] = ()

    def __post_init__(self) -> None:
        for cls in self.errors:
            if not (isinstance(cls, type) and issubclass(cls, RpcError)):
                raise TypeError(f"errors holds subclasses of RpcError, not {cls!r}")

    def changed(
        self,
        timeout: float | tuple[float, float] | Unset,
        total_timeout: float | Unset,
        idempotent_methods: Iterable[str] | Unset,
        errors: Iterable[type[RpcError]] | Unset,
    ) -> Options:
        """Return options in which what is set takes the place of what was.

        :raises ValueError: for what is no limit.
        """
        options, limits = self, self.limits
        if timeout is not UNSET:
            pair = timeout if isinstance(timeout, tuple) else (timeout, timeout)
            if len(pair) != 2:
                raise ValueError(f"timeout is one number or a (connect, read) pair, not {pair!r}")
            limits = replace(limits, connect=pair[0], read=pair[1])
        if total_timeout is not UNSET:
            limits = replace(limits, total=total_timeout)
        if idempotent_methods is not UNSET:
            options = replace(options, idempotent_methods=frozenset(idempotent_methods))
        if errors is not UNSET:
            options = replace(options, errors=tuple(errors))
        return replace(options, limits=limits)
