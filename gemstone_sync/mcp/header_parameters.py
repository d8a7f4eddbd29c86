"""Parameters of tools that a client repeats in HTTP headers, for proxies that route by them.

``Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})]`` has clients send
``Mcp-Param-Region``. The rules: 2026-07-28, "Custom Headers from Tool Parameters".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..errors import ServiceConfigurationError

__all__ = ["HeaderParameter", "decoded", "header_parameters"]

_KEY = "x-mcp-header"
# A token (RFC 9110, section 5.6.2) without `_`: servers drop such headers, or take them for `-`.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")
_TYPES = ("string", "integer", "boolean")
_BASE64 = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
#: RFC 8259, section 6.
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True)
class HeaderParameter:
    """A parameter that stands in a header too.

    :ivar header: its name.
    :ivar path: names of properties, from the outside in.
    """

    header: str
    path: tuple[str, ...]

    def mismatch(self, arguments: Mapping[str, Any], header: str | None) -> str | None:
        """Say why a header does not fit the arguments; None when it does."""
        value: Any = arguments
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return None if header is None else f"{self.header} has a value, its parameter none"
        if header is None:
            return f"{self.header} is missing"
        text = decoded(header)
        if text is None:
            return f"{self.header} has invalid characters"
        return None if _same(text, value) else f"{self.header} is not what the body has"


def _same(text: str, value: Any) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, (int, float)):  # by their values, as proxies do: not by Python's float()
        return len(text) <= 100 and bool(_NUMBER.fullmatch(text)) and Decimal(text) == value
    return bool(text == value)


def decoded(header: str) -> str | None:
    """Decode the value of a header; None for characters that it must not have.

    >>> decoded("=?base64?SGVsbG8=?="), decoded("us-west1"), decoded("=?base64?!?=")
    ('Hello', 'us-west1', None)
    """
    found = _BASE64.fullmatch(header)
    if found is None:
        return header if _PLAIN.fullmatch(header) else None
    try:
        return base64.b64decode(found[1], validate=True).decode()
    except ValueError:
        return None


def header_parameters(schema: Mapping[str, Any], tool: str) -> tuple[HeaderParameter, ...]:
    """Find those of an input schema.

    :raises ServiceConfigurationError: for one that clients would refuse, with its whole tool.
    """
    found = tuple(_reachable(schema, (), tool))
    if _count(schema) > len(found):
        raise ServiceConfigurationError(
            f"the tool {tool}: {_KEY} belongs to a parameter itself, not to a part of its type"
        )
    names = [each.header.lower() for each in found]
    if len({*names}) < len(names):
        raise ServiceConfigurationError(f"the tool {tool}: two parameters with one {_KEY}")
    return found


def _reachable(
    schema: Mapping[str, Any], path: tuple[str, ...], tool: str
) -> Iterator[HeaderParameter]:
    properties = schema.get("properties")
    for name, each in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(each, Mapping):
            continue
        if _KEY in each:
            header = each[_KEY]
            if not isinstance(header, str) or not _NAME.fullmatch(header):
                raise ServiceConfigurationError(
                    f"the tool {tool}: {_KEY} of {name} is {header!r}, which is no header's name"
                )
            if each.get("type") not in _TYPES:
                raise ServiceConfigurationError(
                    f"the tool {tool}: {_KEY} wants a text, a whole number or a bool, not {name}"
                )
            yield HeaderParameter(f"Mcp-Param-{header}", (*path, name))
        yield from _reachable(each, (*path, name), tool)


def _count(schema: Any) -> int:
    count, left = 0, [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            count += isinstance(part.get(_KEY), str) or (_KEY in part and "properties" not in part)
            left += part.values()
        elif isinstance(part, (list, tuple)):
            left += part
    return count
