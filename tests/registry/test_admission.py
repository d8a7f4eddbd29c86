"""Which names and addresses a registry takes; every refusal says why."""

import pytest

from gemstone_sync import RemoteError
from gemstone_sync.registry.admission import RegistrationRefused, check_name, check_url, url_of

GOOD_URLS = [
    "http://10.0.0.1:8000/api",
    "http://localhost:8000/api",
    "http://127.0.0.1/api",
    "http://[::1]:8000/api",
    "http://[2001:db8::1]/",
    "HTTPS://Users.Example.ORG./v1/api?tenant=5",
    "http://my_service.default.svc.cluster.local:80",
    "http://users",
    "http://0x.example.org/",
    "http://xn--bcher-kva.example/api",
    "http://metadata.example.org/api",
    "http://192.168.169.254/api",
    "http://169.253.169.254/api",
    "http://[::ffff:10.0.0.1]/api",
    "http://[fd00::1]/api",
]

BAD_URLS = [
    # scheme
    ("javascript:alert(1)", "scheme"),
    ("javascript://example.org/%0aalert(1)", "scheme"),
    ("ftp://example.org/", "scheme"),
    ("file:///etc/passwd", "scheme"),
    ("//example.org/api", "scheme"),
    ("example.org/api", "scheme"),
    ("http+unix://socket/api", "scheme"),
    ("", "empty"),
    # shape
    ("http://a/" + "x" * 2048, "2048"),
    ("http://user@example.org/", "user"),
    ("http://user:secret@example.org/", "user"),
    ("http://example.org@169.254.169.254/", "user"),
    ("http://@example.org/", "user"),
    ("http://example.org/ api", "spaces"),
    ("http://example.org/\napi", "control"),
    ("http://example.org/\x00", "control"),
    (" http://example.org/", "spaces"),
    ("http://b\xfccher.example/", "ASCII"),
    ("http://169.254.169.254\uff0e/", "ASCII"),
    ("http:\\\\example.org\\api", "backslashes"),
    ("http://example.org\\@169.254.169.254/", "backslashes"),
    ("http://example.org/#169", "fragment"),
    # host and port
    ("http://", "host"),
    ("http:///api", "host"),
    ("http:api", "host"),
    ("http://:8000/", "host"),
    ("http://./", "host"),
    ("http://a..b/", "host"),
    ("http://-a/", "host"),
    ("http://a-/", "host"),
    ("http://" + "a" * 64 + "/", "host"),
    ("http://" + "a." * 127 + "a/", "host"),
    ("http://%6d/", "host"),
    ("http://a,b/", "host"),
    ("http://a:0/", "port"),
    ("http://a:/", "port"),
    ("http://a:65536/", "read"),
    ("http://a:-1/", "read"),
    ("http://a:x/", "read"),
    ("http://[::1/", "read"),
    ("http://[::g]/", "IPv6|read"),
    ("http://[127.0.0.1]/", "IPv6|read"),
    ("http://[fe80::1%25eth0]/", "IPv6|read"),
    # numbers that are no address, whatever a resolver makes of them
    ("http://1.2.3.4.5/", "host"),
    ("http://256.1.1.1/", "host"),
    ("http://4294967296/", "host"),
    ("http://169.254.169.254.0/", "host"),
    ("http://0xA9FEA9FE0/", "host"),
    ("http://169.254.169.0xfe./", "link-local"),
    # link-local, in every spelling
    ("http://169.254.169.254/latest/meta-data/", "link-local"),
    ("http://169.254.0.1:80/", "link-local"),
    ("http://169.254.169.254./", "link-local"),
    ("http://0xA9FEA9FE/", "link-local"),
    ("http://0xa9.0xfe.0xa9.0xfe/", "link-local"),
    ("http://2852039166/", "link-local"),
    ("http://025177524776/", "link-local"),
    ("http://0251.0376.0251.0376/", "link-local"),
    ("http://0000251.0000376.169.254/", "link-local"),
    ("http://169.254.43518/", "link-local"),
    ("http://169.16689662/", "link-local"),
    ("http://169.0xfea9fe/", "link-local"),
    ("http://[fe80::1]/", "link-local"),
    ("http://[febf::1]/", "link-local"),
    ("http://[::ffff:169.254.169.254]/", "link-local"),
    ("http://[::ffff:a9fe:a9fe]/", "link-local"),
    ("http://[0:0:0:0:0:ffff:a9fe:a9fe]/", "link-local"),
    ("http://[::169.254.169.254]/", "link-local"),
    ("http://[64:ff9b::a9fe:a9fe]/", "link-local"),
    ("http://[2002:a9fe:a9fe::1]/", "link-local"),
    # metadata services elsewhere
    ("http://[fd00:ec2::254]/", "metadata"),
    ("http://[FD00:0EC2:0:0::254]/", "metadata"),
    ("http://100.100.100.200/", "metadata"),
    ("http://0x646464c8/", "metadata"),
    ("http://[::ffff:100.100.100.200]/", "metadata"),
    ("http://168.63.129.16/", "metadata"),
    ("http://metadata.google.internal/", "metadata"),
    ("http://METADATA.google.Internal./computeMetadata/v1/", "metadata"),
    ("http://metadata/", "metadata"),
    ("http://instance-data/", "metadata"),
    # nobody's address
    ("http://0.0.0.0:8000/api", "unspecified"),
    ("http://0/", "unspecified"),
    ("http://[::]/", "unspecified"),
    ("http://[::ffff:0.0.0.0]/", "unspecified"),
    ("http://224.0.0.1/", "multicast"),
    ("http://0xe0000001/", "multicast"),
    ("http://[ff02::1]/", "multicast"),
    ("http://255.255.255.255/", "reserved"),
]

BAD_HOSTS = [
    *("", " ", "a/b", "a:80", "user@a", "a#", "a?", "a\nb", "a" * 3000, "[::1]", "fe80::1"),
    *("169.254.169.254", "0xA9FEA9FE", "metadata.google.internal", "0.0.0.0"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_an_address_that_is_taken(url):
    check_url(url)


@pytest.mark.parametrize(("url", "reason"), BAD_URLS)
def test_an_address_that_is_refused(url, reason):
    with pytest.raises(RegistrationRefused, match=reason) as caught:
        check_url(url)
    assert len(str(caught.value)) < 300


def test_every_refused_address_is_refused_over_http(run_registry):
    """With a code of its own, not -32602: to that, clients try the other form of ping."""
    client = run_registry()[1]
    assert not -32768 <= RegistrationRefused.code <= -32000
    for url, _ in BAD_URLS:
        with pytest.raises(RemoteError) as caught:
            client.methods.ping("users", url)
        assert caught.value.code == RegistrationRefused.code, url

    assert client.methods.list_services() == {}


@pytest.mark.parametrize(
    ("host", "port"),
    [*((host, 8000) for host in BAD_HOSTS), *(("a", port) for port in (0, -1, 65536, 10**30))],
)
def test_a_host_or_port_that_is_refused(host, port):
    with pytest.raises(RegistrationRefused):
        url_of(host, port)


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "::1", "users.example.org"])
def test_a_host_that_is_taken_makes_a_url_that_is(host):
    check_url(url_of(host, 8000))


@pytest.mark.parametrize("name", ["a", "shop.users", "Shop_users-2", "0", "x" * 128, "..."])
def test_a_name_that_is_taken(name):
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a*", "a?", "[a]", "a/b", "<b>", "\xe4", "a\n", "\x00", "x" * 129]
)
def test_a_name_that_is_refused(name):
    with pytest.raises(RegistrationRefused, match="name"):
        check_name(name)
