"""Static directories: the files below one folder, and nothing else on the machine."""

import itertools
import os
import socket

import pytest

import gemstone_sync
from tests.support.http import Connection, exchange, message

SECRET = b"the secret"


class Files(gemstone_sync.MicroService):
    name = "files"


@pytest.fixture
def tree(tmp_path):
    """A folder to serve, and secrets around it and hidden in it."""
    secrets = [
        "secret.txt",
        "www-other/secret.txt",  # a name that begins like the folder's
        "www/.env",
        "www/.git/config",
        "www/sub/.hidden",
        "www/sub/..secret",
    ]
    for name in secrets:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SECRET)
    www = tmp_path / "www"
    (www / "index.html").write_bytes(b"<p>index</p>")
    (www / "sub/deep").mkdir()
    (www / "sub/deep/data.json").write_bytes(b"[1]")
    (www / "with space é.txt").write_bytes(b"odd name")
    (www / "a..b.txt").write_bytes(b"two dots")
    (www / "empty.txt").write_bytes(b"")
    return tmp_path


@pytest.fixture
def files(tree, running_service):
    return running_service(Files, static_dirs=[("/files", str(tree / "www"))])


def get(service, path, headers=None, verb="GET"):
    return exchange(service.port, message(verb, path, headers))


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/files/index.html", b"<p>index</p>", "text/html"),
        ("/files/sub/deep/data.json", b"[1]", "application/json"),
        ("/files/with%20space%20%C3%A9.txt", b"odd name", "text/plain"),
        ("/files/a..b.txt", b"two dots", "text/plain"),
        ("/files/empty.txt", b"", "text/plain"),
        ("/files/index.html?version=2", b"<p>index</p>", "text/html"),
    ],
)
def test_files_are_served(files, path, body, kind):
    reply = get(files, path)

    assert reply.status == 200
    assert reply.body == body
    assert reply.headers.get("Content-Type").startswith(kind)
    assert reply.headers.get("Content-Length") == str(len(body))


def test_a_large_file(files, tree):
    content = os.urandom(3_000_000)
    (tree / "www/large.bin").write_bytes(content)

    assert get(files, "/files/large.bin").body == content


def test_head_and_conditional_requests(files):
    with Connection(files.port) as connection:
        first = connection.exchange(message("HEAD", "/files/index.html"))
        second = connection.exchange(message("GET", "/files/index.html"))
        tag = {"If-None-Match": second.headers.get("ETag")}
        third = connection.exchange(message("GET", "/files/index.html", tag))
        part = connection.exchange(message("GET", "/files/index.html", {"Range": "bytes=3-7"}))

    assert (first.status, first.headers.get("Content-Length")) == (200, "12")
    assert (second.status, second.body) == (200, b"<p>index</p>")
    assert third.status == 304
    assert (part.status, part.body) == (206, b"index")


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
def test_files_are_only_read(files, tree, verb):
    assert get(files, "/files/index.html", verb=verb).status == 405
    assert (tree / "www/index.html").exists()


@pytest.mark.parametrize(
    "paths",
    [
        "/files /files/ /files/sub /files/sub/ /files/nothing /files/sub/nothing",
        "/files/.env /files/%2eenv /files/%2Eenv /files/.git/config /files/./.env",
        "/files/sub/.hidden /files/sub/..secret /files/sub/../.env /files/. /files/.. /files/...",
        f"/files/{'x' * 5000} /files/%ff%fe http://127.0.0.1/files/../secret.txt",
    ],
    ids=["folders and missing files", "dot files", "dots further on", "odd names"],
)
def test_what_is_not_to_be_served_is_404(files, paths):
    for path in paths.split():
        assert_404(files, path)


def assert_404(service, path):
    reply = get(service, path)
    assert reply.status == 404, path
    assert SECRET not in reply.body, path


# Ways out

UP = ["..", "%2e%2e", ".%2e", "%2E.", "%252e%252e", "..%00", "..;", "...", "....", "%c0%ae%c0%ae"]
SLASHES = ["/", "%2f", "%2F", "\\", "%5c", "%252f", "%c0%af", "%e2%81%84", "/./"]


@pytest.mark.parametrize("up", UP)
def test_every_traversal_is_404(files, up):
    for slash in SLASHES:
        for path in (
            f"/files/{up}{slash}secret.txt",
            f"/files/sub{slash}{up}{slash}{up}{slash}secret.txt",
            f"/files/{up}{slash}www-other{slash}secret.txt",
        ):
            assert_404(files, path)


WAYS = ["%2f", "%5c", "file:%2f%2f", "c:", "~root%2f", "%00"]


def test_absolute_paths_and_doubled_slashes_lead_nowhere(files, tree):
    targets = [
        path.lstrip("/").replace("/", "%2f") for path in (f"{tree}/secret.txt", "/etc/passwd")
    ]
    absolute = itertools.product(["/files/", "/files/sub/"], WAYS, targets)
    doubled = ["//etc/passwd", "/files//etc/passwd", "/files///../secret.txt"]
    for path in [*map("".join, absolute), *doubled]:
        reply = get(files, path)
        if reply.status == 308:  # werkzeug's, to the same path without doubled slashes
            location = reply.headers.get("Location")
            assert location.startswith("http://127.0.0.1/")  # //etc/passwd would be another host
            assert b"root:" not in reply.body
            assert SECRET not in reply.body
            path = location.removeprefix("http://127.0.0.1")
        assert_404(files, path)


# Symlinks and things that are no files


def test_symlinks_are_served_when_they_stay_inside(files, tree):
    for name, target in {
        "out.txt": tree / "secret.txt",
        "relative.txt": "../secret.txt",
        "outside": tree,
        "twice.txt": tree / "www/out.txt",
        "neighbour": tree / "www-other",
        "broken": tree / "www/nothing",
        "circle": tree / "www/circle",
        "latest.json": tree / "www/sub/deep/data.json",
        "short": tree / "www/sub/deep",
    }.items():
        (tree / "www" / name).symlink_to(target)

    for name in ("out.txt", "relative.txt", "twice.txt", "outside/secret.txt"):
        assert_404(files, f"/files/{name}")
    for name in ("neighbour/secret.txt", "broken", "circle"):
        assert_404(files, f"/files/{name}")
    assert get(files, "/files/latest.json").body == b"[1]"
    assert get(files, "/files/short/data.json").body == b"[1]"


def test_a_mounted_config_map_is_served(files, tree):
    """Kubernetes mounts files as symlinks through a folder whose name begins with dots."""
    mounted = tree / "www/..2026_11_23"
    mounted.mkdir()
    (mounted / "page.html").write_text("mounted")
    (tree / "www/..data").symlink_to("..2026_11_23")
    (tree / "www/page.html").symlink_to("..data/page.html")

    assert get(files, "/files/page.html").body == b"mounted"
    assert_404(files, "/files/..data/page.html")


def test_what_is_no_file_is_404(files, tree):
    os.mkfifo(tree / "www/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "www/socket"))

        # Opening the first would block the whole service.
        assert_404(files, "/files/fifo")
        assert_404(files, "/files/socket")


def test_the_folder_itself_may_be_a_symlink(tree, running_service):
    (tree / "link").symlink_to(tree / "www")
    service = running_service(Files, static_dirs=[("/files", str(tree / "link"))])

    assert get(service, "/files/index.html").body == b"<p>index</p>"
    assert_404(service, "/files/../secret.txt")


# Several folders


def test_several_folders(tree, running_service):
    (tree / "www-other/index.html").write_text("the other")
    folders = [
        ("/", str(tree / "www")),
        ("/other", str(tree / "www-other")),
        ("/deep/er/", str(tree / "www/sub/deep")),
    ]
    service = running_service(Files, static_dirs=folders)

    assert get(service, "/index.html").body == b"<p>index</p>"
    assert get(service, "/other/index.html").body == b"the other"
    assert get(service, "/deep/er/data.json").body == b"[1]"
    assert_404(service, "/../secret.txt")
    assert_404(service, "/%2e%2e/secret.txt")
    assert_404(service, "/other/../../secret.txt")


def test_the_root_folder_does_not_hide_the_service(tree, running_service):
    (tree / "www/api").write_bytes(SECRET)
    (tree / "www/health").mkdir()
    (tree / "www/health/live").write_bytes(SECRET)
    service = running_service(Files, static_dirs=[("/", str(tree / "www"))])

    assert get(service, "/api").status == 405
    assert get(service, "/health/live").json["status"] == "pass"


def test_relative_folders_start_at_the_file_of_the_class(running_service, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    service = running_service(Files, static_dirs=[("/files", "../server")])

    assert b"Static directories" in get(service, "/files/test_static.py").body
