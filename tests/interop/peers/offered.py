"""What the servers of other packages offer; each exposes it in its own way, and `fail` itself."""

from typing import Any

NOTED: list[str] = []


def subtract(minuend: int, subtrahend: int) -> int:
    return minuend - subtrahend


def echo(value: Any) -> Any:
    return value


def nothing() -> None:
    return None


def note(word: str) -> None:
    NOTED.append(word)


def noted() -> list[str]:
    return NOTED


METHODS = (subtract, echo, nothing, note, noted)
