"""Texts and values of people's code, made fit for documents."""

from __future__ import annotations

from typing import Any

from ..errors import UNSET
from ..protocol import decode_json, encode_json

__all__ = ["as_json", "clean_text"]


def clean_text(text: str) -> str:
    """Return a text without what no document can show: control characters, lone surrogates.

    >>> clean_text("a\\x1b[1mb\\n\\ud800")
    'a[1mb\\n'
    """
    return "".join(c for c in text.expandtabs() if c == "\n" or c.isprintable())


def as_json(value: Any) -> Any:
    """Return what `value` is as JSON: lists, dicts, texts, numbers; `UNSET` when it is none."""
    try:
        return decode_json(encode_json(value))
    except Exception:  # whatever encoding an object of the user's raises
        return UNSET
