"""Which names and addresses a registry takes; every refusal says why."""

import pytest

from gemstone_sync import RemoteError
from gemstone_sync.registry.admission import RegistrationRefused, check_name, check_url, url_of

GOOD_URLS = """
http://10.0.0.1:8000/api http://localhost:8000/api http://127.0.0.1/api http://users
http://[::1]:8000/api http://[2001:db8::1]/ http://[fd00::1]/api http://[::ffff:10.0.0.1]/api
HTTPS://Users.Example.ORG./v1/api?tenant=5 http://my_service.default.svc.cluster.local:80
http://0x.example.org/ http://xn--bcher-kva.example/api http://metadata.example.org/api
http://192.168.169.254/api http://169.253.169.254/api
"""

#: What is said of them, and of which.
BAD_URLS = {
    "scheme": """
        javascript:alert(1) javascript://example.org/%0aalert(1) ftp://example.org/
        file:///etc/passwd //example.org/api example.org/api http+unix://socket/api""",
    "user": """
        http://user@example.org/ http://user:secret@example.org/ http://@example.org/
        http://example.org@169.254.169.254/""",
    "ASCII": "http://b\xfccher.example/ http://169.254.169.254\uff0e/",
    "backslashes": r"http:\\example.org\api http://example.org\@169.254.169.254/",
    "fragment": "http://example.org/#169",
    "2048": "http://a/" + "x" * 2048,
    # The numbers are no address, whatever a resolver makes of them.
    "host": f"""
        http:// http:///api http:api http://:8000/ http://./ http://a..b/ http://-a/
        http://a-/ http://%6d/ http://a,b/ http://{"a" * 64}/ http://{"a." * 127}a/
        http://1.2.3.4.5/ http://256.1.1.1/ http://4294967296/ http://0xA9FEA9FE0/
        http://169.254.169.254.0/""",
    "port": "http://a:0/ http://a:/",
    "read": "http://a:65536/ http://a:-1/ http://a:x/ http://[::1/",
    "IPv6|read": "http://[::g]/ http://[127.0.0.1]/ http://[fe80::1%25eth0]/",
    # In every spelling.
    "link-local": """
        http://169.254.169.254/latest/meta-data/ http://169.254.0.1:80/ http://169.254.169.254./
        http://169.254.169.0xfe./ http://0xA9FEA9FE/ http://0xa9.0xfe.0xa9.0xfe/ http://2852039166/
        http://025177524776/ http://0251.0376.0251.0376/ http://0000251.0000376.169.254/
        http://169.254.43518/ http://169.16689662/ http://169.0xfea9fe/ http://[fe80::1]/
        http://[febf::1]/ http://[::ffff:169.254.169.254]/ http://[::ffff:a9fe:a9fe]/
        http://[0:0:0:0:0:ffff:a9fe:a9fe]/ http://[::169.254.169.254]/ http://[64:ff9b::a9fe:a9fe]/
        http://[2002:a9fe:a9fe::1]/""",
    "translated": "http://[64:ff9b:1::a9fe:a9fe]/ http://[64:ff9b:1:a9fe:a9:fe00::]/",
    "metadata": """
        http://[fd00:ec2::254]/ http://[FD00:0EC2:0:0::254]/ http://100.100.100.200/
        http://0x646464c8/ http://[::ffff:100.100.100.200]/ http://168.63.129.16/ http://metadata/
        http://metadata.google.internal/ http://METADATA.google.Internal./computeMetadata/v1/
        http://instance-data/""",
    "unspecified": "http://0.0.0.0:8000/api http://0/ http://[::]/ http://[::ffff:0.0.0.0]/",
    "multicast": "http://224.0.0.1/ http://0xe0000001/ http://[ff02::1]/",
    "reserved": "http://255.255.255.255/",
}
REFUSED = [
    ("", "empty"),
    ("http://example.org/ api", "spaces"),
    (" http://example.org/", "spaces"),
    ("http://example.org/\napi", "control"),
    ("http://example.org/\x00", "control"),
    *((url, reason) for reason, urls in BAD_URLS.items() for url in urls.split()),
]

BAD_HOSTS = [
    *("", " ", "a/b", "a:80", "user@a", "a#", "a?", "a\nb", "a" * 3000, "[::1]", "fe80::1"),
    *("169.254.169.254", "0xA9FEA9FE", "metadata.google.internal", "0.0.0.0"),
]


@pytest.mark.parametrize("url", GOOD_URLS.split())
def test_an_address_that_is_taken(url):
    check_url(url)


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_an_address_that_is_refused(url, reason):
    with pytest.raises(RegistrationRefused, match=reason) as caught:
        check_url(url)
    assert len(str(caught.value)) < 300


def test_every_refused_address_is_refused_over_http(run_registry):
    """With a code of its own, not -32602: to that, clients try the other form of ping."""
    client = run_registry()[1]
    assert not -32768 <= RegistrationRefused.code <= -32000
    for url, _ in REFUSED:
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
