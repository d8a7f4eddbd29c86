"""TLS: who is believed, what is said when nobody is, and that no handshake outlives its time."""

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import ConnectionFailed, RemoteService
from tests.support.faulty_server import CERTIFICATE, FaultyServer, answer
from tests.support.waiting import LIMIT

from .faults import assert_clear, client_of, fault_of


def test_certificates_are_verified_without_asking_for_it() -> None:
    with FaultyServer(tls=True) as server, RemoteService(server.url, timeout=LIMIT) as client:
        error = fault_of(client.methods.ping)

        assert type(error) is ConnectionFailed
        assert error.may_have_run is False
        assert "certificate does not verify" in str(error)
        assert "self-signed" in str(error)
        assert_clear(error, server.url)
        assert server.requests == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST"])
def test_an_authority_of_ones_own_is_believed_and_only_names_are_told(host: str) -> None:
    """RFC 6066, section 3: no addresses in the server name indication."""
    names: list[str | None] = []
    with FaultyServer(tls=True) as server, client_of(f"https://{host}:{server.port}/api") as client:
        server._tls.sni_callback = lambda sock, name, context: names.append(name)
        assert [client.methods.ping() for _ in range(3)] == ["pong"] * 3
        assert server.connections == 1
    assert names == [None if host == "127.0.0.1" else "localhost"]


def test_a_folder_of_authorities(tmp_path: Path) -> None:
    hashed = subprocess.run(
        ["openssl", "x509", "-in", CERTIFICATE, "-noout", "-subject_hash"],
        capture_output=True,
        text=True,
        check=True,
    )
    (tmp_path / f"{hashed.stdout.strip()}.0").write_text(Path(CERTIFICATE).read_text())
    with FaultyServer(tls=True) as server, client_of(server, verify=str(tmp_path)) as client:
        assert client.methods.ping() == "pong"


@pytest.mark.parametrize("kind", ["address", "name"])
def test_a_certificate_for_another_host(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is valid for localhost and 127.0.0.1, and the authority is believed."""
    with FaultyServer(tls=True, host="127.0.0.2") as server:
        if kind == "name":
            known = socket.getaddrinfo

            def resolve(host: str, *rest: Any) -> Any:
                return known("127.0.0.2" if host == "other.example" else host, *rest)

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
        host = {"address": "127.0.0.2", "name": "other.example"}[kind]
        with client_of(f"https://{host}:{server.port}/api") as client:
            error = fault_of(client.methods.ping)

        assert type(error) is ConnectionFailed
        assert "mismatch" in str(error)
        assert host in str(error)
        assert server.requests == []
        with client_of(server, verify=False) as client:  # who asks for no verification
            assert client.methods.ping() == "pong"


@pytest.mark.parametrize("names", [None, "DNS:other.example", "IP:127.0.0.1"])
def test_the_common_name_of_a_certificate_is_no_host_name(
    names: str | None, tmp_path: Path
) -> None:
    """RFC 9525, section 2: only subjectAltName says for which hosts it is."""
    path = str(tmp_path / "server.pem")
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    request += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-keyout", path, "-out", f"{path}.crt"]
    request += [] if names is None else ["-addext", f"subjectAltName={names}"]
    subprocess.run(request, check=True, capture_output=True)
    with open(path, "a") as file:
        file.write(Path(f"{path}.crt").read_text())
    with (
        FaultyServer(tls=True) as server,
        client_of(f"https://localhost:{server.port}/api", verify=f"{path}.crt") as client,
    ):
        server._tls.load_cert_chain(path)
        assert type(fault_of(client.methods.ping)) is ConnectionFailed
        assert server.requests == []


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    with FaultyServer(tls=True) as server:
        for options in ({"verify": str(missing)}, {"verify": str(junk)}, {"cert": str(missing)}):
            with client_of(server, **options) as client:
                error = fault_of(client.methods.ping)

            assert type(error) is ConnectionFailed
            assert "certificates cannot be read" in str(error)
        assert server.requests == []


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions_of_tls(version: str) -> None:
    with FaultyServer(tls=True) as server, client_of(server) as client:
        server._tls.minimum_version = server._tls.maximum_version = ssl.TLSVersion[version]
        assert [client.methods.ping() for _ in range(3)] == ["pong"] * 3
        assert server.connections == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused() -> None:
    with FaultyServer(tls=True) as server, client_of(server, verify=False) as client:
        server._tls.minimum_version = ssl.TLSVersion.TLSv1
        server._tls.maximum_version = ssl.TLSVersion.TLSv1_1
        server._tls.set_ciphers("ALL:@SECLEVEL=0")
        error = fault_of(client.methods.ping)

        assert type(error) is ConnectionFailed
        assert "TLS failed" in str(error)
        assert_clear(error, server.url)
        assert server.requests == []


def test_a_certificate_of_the_clients_own() -> None:
    with FaultyServer(tls=True) as server:
        server._tls.load_verify_locations(CERTIFICATE)
        server._tls.verify_mode = ssl.CERT_REQUIRED
        with client_of(server, cert=CERTIFICATE) as client:
            assert client.methods.ping() == "pong"
        with client_of(server) as client:
            assert fault_of(client.notifications.ping, ConnectionFailed).may_have_run is False
        assert server.received["ping"] == 1


def test_a_large_call_and_a_large_answer() -> None:
    with FaultyServer(tls=True) as server, client_of(server) as client:
        server.script(answer("x" * 3_000_000))
        assert len(client.methods.ping("y" * 3_000_000)) == 3_000_000
        assert len(server.requests[0].body) > 3_000_000
