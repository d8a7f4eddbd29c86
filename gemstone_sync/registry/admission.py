"""Admission to a registry: which names, URLs and hosts it takes; every refusal says why.

Whoever asks a registry calls the URL that it gives out. So a URL that would lead callers to a cloud
machine's metadata service (which hands out credentials), or that is no address of a service at all,
is refused, in whatever spelling. Names are not resolved: what a name of the DNS leads to may change
at any moment, and is for the caller's network to restrict.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TypeAlias
from urllib.parse import urlsplit

from ..errors import RpcError

__all__ = ["RegistrationRefused", "check_instance", "check_name", "check_url", "url_of"]

MAX_NAME = 128
MAX_URL = 2048
MAX_INSTANCE = 128

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
#: A label may have an underscore: container networks name hosts so.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
#: What a URL parser takes for an IPv4 address: a last label that is a number (WHATWG URL, 3.5).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

_METADATA_NAMES = {
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.azure.com",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
    "metadata.packet.net",
    "instance-data",
    "instance-data.ec2.internal",
}

#: Beside the link-local ones, which most clouds use.
_METADATA_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::/32",  # Google
        "fd00:c1::/32",  # Oracle
        "fd00:42::/32",  # Scaleway
    )
]

#: IPv6 networks whose addresses hold an IPv4 address: where it stands, in bits from the right.
_HOLDERS = [
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped (RFC 4291)
    (ipaddress.IPv6Network("::/96"), 0),  # compatible (RFC 4291)
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # translated (RFC 7915)
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056)
]

#: NAT64 within a network, which says itself where the IPv4 address stands (RFC 8215).
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


class RegistrationRefused(RpcError):
    """The registry does not take this name or address; the message says why.

    The code is one of its own and not -32602: to that, clients answer by trying the other form of
    ``ping``.
    """

    code = 1001
    message = "Registration refused"

    @classmethod
    def because(cls, reason: str) -> RegistrationRefused:
        return cls(f"Registration refused: {reason}")


def check_name(name: str) -> None:
    """Check the name of a service.

    :raises RegistrationRefused: when no service may be called so.
    """
    if len(name) > MAX_NAME:
        raise RegistrationRefused.because(
            f"the name has {len(name)} characters, {MAX_NAME} are the most"
        )
    if not _NAME.fullmatch(name):
        raise RegistrationRefused.because(
            f"the name {name!a} is not made of letters, digits, dots, underscores and hyphens"
        )


def check_instance(instance: str) -> None:
    """Check the name of an instance.

    :raises RegistrationRefused: when no instance may be called so.
    """
    if len(instance) > MAX_INSTANCE or not _VISIBLE.fullmatch(instance):
        raise RegistrationRefused.because(
            f"the instance is not 1 to {MAX_INSTANCE} visible ASCII characters"
        )


def check_url(url: str) -> None:
    """Check the URL of a service.

    :raises RegistrationRefused: when callers must not be sent there.
    """
    if len(url) > MAX_URL:
        raise RegistrationRefused.because(
            f"the URL has {len(url)} characters, {MAX_URL} are the most"
        )
    # A backslash is a slash to some parsers and a part of the host to others.
    if not _VISIBLE.fullmatch(url) or "\\" in url:
        raise RegistrationRefused.because(
            "the URL is empty, or has spaces, control characters, backslashes or characters that "
            "are not ASCII"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may hold a piece of a password
        raise RegistrationRefused.because(
            "the URL cannot be read: its port is no number, or its host no address"
        ) from None
    if parts.scheme not in ("http", "https"):
        raise RegistrationRefused.because(
            f"the URL's scheme is {parts.scheme[:32]!r}; http and https are allowed"
        )
    if "@" in parts.netloc:
        raise RegistrationRefused.because("the URL has user information in it")
    if "#" in url:
        raise RegistrationRefused.because("the URL has a fragment (#), which is never sent")
    if port == 0 or parts.netloc.endswith(":"):
        raise RegistrationRefused.because("the URL's port is not 1 to 65535")
    _check_host(host or "", bracketed="[" in parts.netloc)


def url_of(host: str, port: int) -> str:
    """Make the URL that ``ping(name, host, port)`` means: the endpoint's usual path.

    :raises RegistrationRefused: when callers must not be sent there.
    """
    is_ipv6 = ":" in host
    if len(host) > MAX_URL or not _VISIBLE.fullmatch(host):
        raise RegistrationRefused.because("the host is not a host's name or address")
    _check_host(host, bracketed=is_ipv6)
    if not 1 <= port <= 65535:
        raise RegistrationRefused.because("the port is not 1 to 65535")
    return f"http://[{host}]:{port}/api" if is_ipv6 else f"http://{host}:{port}/api"


# Hosts


def _check_host(host: str, *, bracketed: bool) -> None:
    address = _ipv6(host) if bracketed else _ipv4(host)
    if address is not None:
        _check_address(address)
        return
    name = host[:-1] if host.endswith(".") else host
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
        raise RegistrationRefused.because(f"{host[:64]!a} is not a host's name or address")
    if name.lower() in _METADATA_NAMES:
        raise RegistrationRefused.because(f"{name} is the name of a cloud's metadata service")


def _ipv6(host: str) -> ipaddress.IPv6Address:
    try:
        if "%" in host:  # a zone means something on one machine only
            raise ValueError
        return ipaddress.IPv6Address(host)
    except ValueError:
        raise RegistrationRefused.because(f"{host[:64]!a} is not an IPv6 address") from None


def _ipv4(host: str) -> ipaddress.IPv4Address | None:
    """Read an address as the system's resolver does: hex, octal and short forms too."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None


def _check_address(address: _Address) -> None:
    for each in (address, *_held_in(address)):
        if each.is_unspecified or (each.version == 4 and int(each) < 1 << 24):
            reason = "is no address of a machine (unspecified)"
        elif each.is_multicast:
            reason = "is a multicast address"
        elif each.is_link_local:
            reason = "is a link-local address, where clouds have their metadata services"
        elif any(each in network for network in _METADATA_NETWORKS):
            reason = "is the address of a cloud's metadata service"
        elif each in _LOCAL_NAT64:
            reason = "is translated to an IPv4 address that only its network knows"
        elif each.version == 4 and each.is_reserved:
            reason = "is a reserved address"
        else:
            continue
        raise RegistrationRefused.because(f"{address} {reason}")


def _held_in(address: _Address) -> list[ipaddress.IPv4Address]:
    if address.version == 4 or address.is_loopback:  # ::1 would be read as 0.0.0.1
        return []
    return [
        ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF)
        for network, shift in _HOLDERS
        if address in network
    ]
