"""Hosts in URLs: IPv6 addresses stand in brackets there, and their zones are encoded."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import SplitResult

__all__ = ["host_field", "host_in_url", "host_of", "is_every_address"]

_ZONE = re.compile(r"%[^\]]*\]")


def host_of(parts: SplitResult) -> str:
    """Return the host to look up: the zone of an IPv6 address follows ``%25`` in a URL (RFC 6874).

    >>> from urllib.parse import urlsplit
    >>> host_of(urlsplit("http://[fe80::1%25eth0]:8000/api"))
    'fe80::1%eth0'
    """
    address, percent, zone = (parts.hostname or "").partition("%25")
    return f"{address}%{zone}" if percent else address


def host_in_url(host: str) -> str:
    """Return a host as it stands in a URL.

    >>> host_in_url("fe80::1%eth0"), host_in_url("localhost")
    ('[fe80::1%25eth0]', 'localhost')
    """
    if ":" not in host:
        return host
    address, percent, zone = host.partition("%")
    return f"[{address}%25{zone}]" if percent else f"[{address}]"


def host_field(parts: SplitResult) -> str:
    """Return what is sent as ``Host``.

    Which of its own interfaces a machine takes to an address is nobody else's affair: the zone is
    left out (RFC 6874, section 1).
    """
    return _ZONE.sub("]", parts.netloc.rpartition("@")[2])


def is_every_address(host: str) -> bool:
    """Tell whether a host, however written, stands for all addresses of a machine (``0.0.0.0``).

    >>> [is_every_address(host) for host in ("0", "0x0", "::0", "::ffff:0.0.0.0", "::1", "name")]
    [True, True, True, True, False, False]
    """
    try:
        return socket.inet_aton(host) == bytes(4)  # the short and the hexadecimal forms too
    except (OSError, UnicodeError):
        pass
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return (address.ipv4_mapped or address).is_unspecified
