"""``gemstone client``: a module that calls a service, written from its contract."""

import json
import sys
from pathlib import Path

import pytest

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import line_of, run, run_process, run_program

SERVICE = '''
from gemstone_sync import MicroService, exposed_method


class Shop(MicroService):
    """A shop."""

    name = "shop"

    @exposed_method()
    def buy(self, what: str, pieces: int = 1) -> bool:
        """Buy something."""
        return pieces > 0
'''


class Shop(MicroService):
    """A shop."""

    name = "shop"

    @exposed_method()
    def buy(self, what: str, pieces: int = 1) -> bool:
        """Buy something."""
        return pieces > 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "service.py").write_text(SERVICE)
    return tmp_path


def test_a_written_client_calls_the_service(folder: Path) -> None:
    done = run_process("client", "service.py:Shop", "-o", "shop_client.py", cwd=folder)
    assert done == (0, "", "")
    with running_service(Shop) as service:
        program = (
            "import shop_client\n"
            f"with shop_client.Client({service.url!r}) as shop:\n"
            "    print(shop.buy('gem'), shop.buy(what='gem', pieces=0))"
        )
        ran = run_program(sys.executable, "-c", program, cwd=folder)
    assert ran == (0, "True False\n", "")


@pytest.mark.parametrize("lang", ["python", "typescript"])
def test_class_url_and_document_give_the_same_file(lang: str, folder: Path) -> None:
    by_class = run_process("client", "service.py:Shop", "--lang", lang, cwd=folder)
    assert by_class.code == 0
    with running_service(Shop) as service:
        by_url = run("client", service.url, "--lang", lang)
        assert run("contract", service.url, "-o", folder / "openrpc.json").code == 0
    by_document = run("client", folder / "openrpc.json", "--lang", lang)
    assert by_class == by_url == by_document
    assert "Buy something." in by_class.stdout


def test_a_file_is_checked(folder: Path) -> None:
    document = folder / "openrpc.json"
    file = folder / "shop_client.py"
    run_process("contract", "service.py:Shop", "-o", document, cwd=folder)
    assert run("client", document, "-o", file) == (0, "", "")
    assert run("client", document, "-o", file, "--check") == (0, "", "")
    written = file.read_text()
    changed = json.loads(document.read_text())
    changed["methods"] = [m for m in changed["methods"] if m["name"] != "buy"]
    document.write_text(json.dumps(changed))
    done = run("client", document, "-o", file, "--check")
    assert done.code == 1
    assert "-    def buy(" in done.stdout
    assert done.stderr == f"gemstone client: {file} is not what would be written\n"
    assert file.read_text() == written


def test_two_processes_write_the_same_bytes(folder: Path) -> None:
    texts = {
        run_process("client", "service.py:Shop", cwd=folder, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ([], 2, "Missing argument 'SOURCE'"),
        (["openrpc.json"], 2, "openrpc.json"),
        (["service.py:Shop", "--lang", "cobol"], 2, "cobol"),
        (["service.py:Shop", "--check"], 2, "give -o FILE too"),
        (["bad.json"], 2, "no OpenRPC document"),
        (["empty.json"], 2, "empty.json tells of no methods"),
        (["circle.json"], 2, "circle.json: "),
        (["service.py:Shop", "-o", "no/such/folder.py"], 2, "cannot write no/such/folder.py"),
        (["http://127.0.0.1:9/api"], 3, "connection refused"),
    ],
)
def test_what_cannot_be_written(words: list[str], code: int, reason: str, folder: Path) -> None:
    (folder / "empty.json").write_text('{"openrpc": "1.3.2", "methods": []}')
    (folder / "bad.json").write_text('{"openrpc": 7}')
    loop = {"allOf": [{"$ref": "#/components/schemas/A"}, {"type": "object"}]}
    circle = {"openrpc": "1.3.2", "methods": [], "components": {"schemas": {"A": loop}}}
    circle["methods"] = [{"name": "f", "params": [], "result": {"name": "r", "schema": loop}}]
    (folder / "circle.json").write_text(json.dumps(circle))
    assert reason in line_of(run("client", *words, cwd=folder), code)
