"""Believe the X-Forwarded fields of trusted proxies, and of nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from ..errors import ServiceConfigurationError
from .head import HOST

__all__ = ["PROXIED", "TrustedProxies"]

#: In the environ of a request that came through a proxy which nobody has called trusted, or which
#: does not say for whom.
PROXIED = "gemstone_sync.proxied"


class TrustedProxies:
    """Know the proxies that may say who the client is.

    :param proxies: addresses and networks.
    :raises ServiceConfigurationError: when one is neither.
    """

    def __init__(self, proxies: Sequence[str]) -> None:
        try:
            self._networks = [ipaddress.ip_network(proxy) for proxy in proxies]
        except ValueError as error:
            raise ServiceConfigurationError(
                f"trusted_proxies holds addresses and networks: {error}"
            ) from error

    def apply(self, environ: dict[str, Any], forwarded: dict[str, str]) -> None:
        """Put into the environ what a trusted proxy says; others' fields never reach it.

        The client's address is the last one in X-Forwarded-For that is not itself a trusted proxy:
        what stands before it the client may have made up.
        """
        if not self._networks or not self._trusts(_address(environ["REMOTE_ADDR"])):
            environ[PROXIED] = True
            return
        for hop in reversed(forwarded.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            address = _address(hop.strip())
            if address is None:  # "", "unknown", with a port: it is not known for whom it speaks
                environ[PROXIED] = True
                break
            environ["REMOTE_ADDR"] = hop.strip()
            if not self._trusts(address):
                break
        scheme = _last(forwarded, "HTTP_X_FORWARDED_PROTO").lower()
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        host = _last(forwarded, "HTTP_X_FORWARDED_HOST")
        if host and HOST.fullmatch(host):
            environ["HTTP_HOST"] = host
        environ.update(forwarded)

    def _trusts(self, address: Any) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _last(fields: dict[str, str], name: str) -> str:
    return fields.get(name, "").rpartition(",")[2].strip()


def _address(text: str) -> Any:
    """Read an address; None when it is none. On ``::`` clients of IPv4 have mapped ones."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
