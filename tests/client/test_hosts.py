"""IPv6 addresses with zones, which say by which of its interfaces a machine reaches them."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import gemstone_sync
from gemstone_sync import RemoteService
from gemstone_sync.client.hosts import host_field, host_in_url, host_of
from gemstone_sync.discovery.urls import is_endpoint, url_of
from tests.support.machine import absent


class Greeter(gemstone_sync.MicroService):
    name = "greeter"

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def host_seen(self, handler: gemstone_sync.JsonRpcHandler) -> str | None:
        return handler.headers.get("Host")


def link_local() -> str:
    """An address of this machine that means something with its zone only: ``fe80::1%eth0``."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, *_, flags, name = line.split()
        if digits.startswith("fe80") and not int(flags, 16) & 0x40:  # is not tentative
            packed = bytes.fromhex(digits)
            return f"{socket.inet_ntop(socket.AF_INET6, packed)}%{name}"
    absent("this machine has no link-local address")


def test_a_service_on_an_address_with_a_zone_is_called_by_its_url(running_service):
    """RFC 6874: %25 in the URL, % to the system, nothing on the wire."""
    host = link_local()
    address, _, zone = host.partition("%")
    service = running_service(Greeter, host=host)

    assert service.url == f"http://[{address}%25{zone}]:{service.port}/api"
    assert service.accessible_at == service.url
    bare = f"http://[{host}]:{service.port}/api"  # as many write it
    for url in (service.url, bare):
        with RemoteService(url) as client:
            assert client.methods.host_seen() == f"[{address}]:{service.port}"


@pytest.mark.parametrize(
    ("host", "in_url"),
    [
        ("fe80::1%eth0", "[fe80::1%25eth0]"),
        ("FE80::1%Eth0", "[FE80::1%25Eth0]"),
        ("fe80::1%br-lan.7", "[fe80::1%25br-lan.7]"),
        ("fe80::1%2", "[fe80::1%252]"),
        ("::1", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("users.example.org", "users.example.org"),
    ],
)
def test_a_host_stands_in_a_url_and_is_found_there_again(host, in_url):
    assert host_in_url(host) == in_url
    parts = urlsplit(f"http://user:p%25w@{in_url}:8000/api")
    found = host_of(parts)
    assert found.partition("%")[2] == host.partition("%")[2]  # the case of a zone counts
    assert found.lower() == host.lower()
    assert host_field(parts) == f"{in_url.partition('%')[0].strip('[]').join(brackets(host))}:8000"
    assert is_endpoint(f"http://{in_url}:8000/api")


def brackets(host: str) -> tuple[str, str]:
    return ("[", "]") if ":" in host else ("", "")


def test_a_registry_may_say_host_and_port():
    assert url_of("fe80::1%eth0", 8000) == "http://[fe80::1%25eth0]:8000/api"
    assert url_of("[::1]", 8000) == "http://[::1]:8000/api"
