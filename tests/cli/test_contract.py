"""``gemstone contract``: a service's promises as a document."""

import json

import pytest

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import run
from tests.contract.everything import Everything, Flat
from tests.support.faulty_server import FaultyServer, answer

TARGET = "tests.contract.everything:Everything"
FORMATS = ["openrpc", "openrpc-1.3", "asyncapi", "markdown"]


@pytest.fixture(scope="module")
def shop():
    class Quiet(Everything):
        __doc__ = Everything.__doc__
        event_transports = []

    with running_service(Quiet) as service:
        yield service


@pytest.mark.parametrize("name", FORMATS)
def test_a_class_is_written_and_a_file_of_it_is_up_to_date(tmp_path, name):
    file = tmp_path / "document"
    shown = run("contract", TARGET, "--format", name)
    written = run("contract", TARGET, "--format", name, "-o", file)
    checked = run("contract", TARGET, "--format", name, "-o", file, "--check")

    assert (shown.code, shown.stderr) == (0, "")
    assert written == checked == (0, "", "")
    assert file.read_text() == shown.stdout
    if name != "markdown":
        assert json.loads(shown.stdout)["info"]["title"] == "everything"


def test_a_file_that_is_not_up_to_date_is_told_with_the_difference(tmp_path):
    file = tmp_path / "openrpc.json"
    run("contract", TARGET, "-o", file)
    file.write_text(file.read_text().replace('"pieces"', '"parts"'))
    done = run("contract", TARGET, "-o", file, "--check")

    assert done.code == 1
    assert '-          "name": "parts",' in done.stdout
    assert '+          "name": "pieces",' in done.stdout
    assert done.stderr == f"gemstone contract: {file} is not what would be written\n"
    assert '"parts"' in file.read_text()


def test_a_file_that_is_not_there_is_not_up_to_date(tmp_path):
    done = run("contract", TARGET, "-o", tmp_path / "none.json", "--check")

    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.endswith("none.json: No such file or directory\n")


@pytest.mark.parametrize("name", ["openrpc", "openrpc-1.3", "markdown"])
def test_a_running_service_is_written_as_its_class_is(shop, name):
    of_class = run("contract", TARGET, "--format", name)
    of_url = run("contract", shop.url, "--format", name)

    assert of_url.code == 0, of_url.stderr
    if name == "markdown":
        # OpenRPC has no events, and AsyncAPI no docstrings of their handlers.
        assert of_url.stdout.replace(f"- `{shop.url}`\n\n", "") == of_class.stdout
    else:
        document = json.loads(of_url.stdout)
        assert document.pop("servers") == [{"name": "everything", "url": shop.url}]
        assert document == json.loads(of_class.stdout)
        assert of_url.stdout != of_class.stdout


def test_the_events_of_a_running_service_are_written():
    with running_service(Flat) as service:
        of_url = run("contract", f"{service.url}/asyncapi.json", "--format", "asyncapi")
    of_class = run("contract", "tests.contract.everything:Flat", "--format", "asyncapi")

    assert of_url == of_class


def test_a_document_is_read_and_written_in_another_form(tmp_path):
    file = tmp_path / "openrpc.json"
    run("contract", TARGET, "-o", file)

    assert run("contract", file) == run("contract", TARGET)
    assert run("contract", file, "--format", "openrpc-1.3") == run(
        "contract", TARGET, "--format", "openrpc-1.3"
    )


def test_yaml_is_read(tmp_path):
    file = tmp_path / "document.yaml"
    file.write_text(
        "openrpc: 1.3.2\ninfo: {title: t, version: 2020-01-01}\n"
        "methods: [{name: a, params: [], result: {name: r, schema: {enum: [yes, 1]}}}]\n"
    )
    document = json.loads(run("contract", file).stdout)

    assert document["info"]["version"] == "2020-01-01"
    assert document["methods"][0]["result"]["schema"] == {"enum": [True, 1]}


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\n"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "[]", "no OpenRPC document"),
        ("a.json", '{"asyncapi": "2.6.0"}', "AsyncAPI '2.6.0' is not read"),
        ("a.json", '{"openrpc": "1.3.2", "methods": [{"$ref": "http://e/x"}]}', "nothing is fetch"),
        ("a.json", '{"openrpc": "1.3.2", "methods": [{"name": "a", "params": 1}]}', "no list"),
        ("a.yaml", LAUGHS, "references by * are not followed"),
        ("a.yaml", "a: [", "is no YAML"),
        ("a.yaml", "{a: .nan}", "is no JSON"),
    ],
)
def test_what_is_no_document_is_one_line(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    done = run("contract", tmp_path / name)

    assert (done.code, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tests.nowhere:Shop"], "no module"),
        (["no/such/file.json"], "No such file"),
        ([TARGET, "--check"], "give -o FILE too"),
        ([TARGET, "--format", "openapi"], "openrpc-1.3"),
        ([TARGET, "-o", "/no/such/folder/a.json"], "cannot write"),
    ],
)
def test_wrong_use_is_one_line(words, told):
    done = run("contract", *words)

    assert (done.code, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_service_without_a_document_is_one_line():
    with FaultyServer(answer("pong")) as server:
        done = run("contract", server.url)

    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.endswith("this is no OpenRPC document: it has no text `openrpc`\n")


class Odd(MicroService):
    name = "odd"

    @exposed_method()
    def odd(self, a: int) -> None:
        """Erase \x1b[2J the screen \u202e."""


def test_nothing_in_a_document_steers_the_terminal():
    done = run("contract", "tests.cli.test_contract:Odd")

    assert done.code == 0
    assert all(c.isprintable() or c == "\n" for c in done.stdout)
