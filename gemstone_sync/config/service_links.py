"""Variables that Kubernetes sets in every pod for each Service around it: no person meant them.

For a Service ``gemstone`` those are ``GEMSTONE_PORT=tcp://10.96.0.11:8000``,
``GEMSTONE_SERVICE_HOST``, ``GEMSTONE_SERVICE_PORT``, ``GEMSTONE_PORT_8000_TCP`` and more, unless
the pod's spec says ``enableServiceLinks: false``. Docker's links have the same form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

__all__ = ["HOW_NOT", "hint_of", "is_service_link"]

HOW_NOT = "unless the pod's spec says enableServiceLinks: false"

_URL = re.compile(r"(?:tcp|udp|sctp)://(?:\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]+")
_PORT = r"PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?"
_NAME = re.compile(rf"_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|{_PORT})$")


def is_service_link(
    variable: str, variables: Mapping[str, str], takes: Callable[[str], bool]
) -> bool:
    """Tell whether Kubernetes has set a variable, rather than a person.

    It is one of a whole set for one Service, or it has the form of one and a value that the setting
    cannot take.

    :param takes: whether the setting can be such a text.
    """
    for place in _NAME.finditer(variable):
        service = variable[: place.start()]
        host, port = (variables.get(f"{service}_SERVICE_{what}") for what in ("HOST", "PORT"))
        if host is not None and port is not None:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            if variables.get(f"{service}_PORT", "").partition("://")[2] == address:
                return True
        value = variables[variable]
        if _URL.fullmatch(value) and not takes(value):
            return True
    return False


def hint_of(value: object) -> str:
    """Explain a value that looks like one of these, for the end of an error; mostly empty."""
    found = isinstance(value, str) and _URL.fullmatch(value.strip())
    return f"; Kubernetes sets such values for Services, {HOW_NOT}" if found else ""
