"""Functions whose hints are text, as in every module that starts with this import."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from somewhere import OnlyForTypeChecking  # type: ignore[import-not-found]


@dataclass
class Box:
    size: int


def register(self: object, day: date, box: Box, count: int = 0) -> None: ...


def half_known(unknown: OnlyForTypeChecking, count: int) -> None: ...


def with_a_name_around_it():
    @dataclass
    class Local:
        size: int

    def method(value: Local) -> Local:
        return Local(value.size)

    return Local, method
