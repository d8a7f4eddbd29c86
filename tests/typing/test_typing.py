"""Programs as users write them, read by mypy --strict and by pyright.

Those of `programs/`: every line that ends in ``# error: …`` must be an error to both checkers, and
no other line may be one. Those of README.md and of examples/ must be fine.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.machine import absent
from tests.support.programs import REPOSITORY

#: Seconds: each reads the whole package and what that imports.
LIMIT = 300

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LIMIT)]  # they take some twenty seconds

#: What is at the top of the program that is made of a part of README.md.
IMPORTS = """\
# mypy: disable-error-code=empty-body
from __future__ import annotations

import hmac
from typing import Any

import gemstone_sync
import gemstone_sync as gemstone
from gemstone_sync import RemoteService
from gemstone_sync.config import Seconds, setting
from gemstone_sync.testing import FakeRemoteService, RunningServiceFixture, ServiceClientFixture

"""
#: What the parts of README.md use of the program around them.
AROUND = """
class Order: ...


class MyService(gemstone.MicroService):
    name = "mine"


def greeting(users: FakeRemoteService, name: str) -> str:
    return str(users.methods.find(name))


"""


def errors_of_mypy(*folders: Path) -> set[tuple[str, int]]:
    """The file and line of each error in folders, each a program of its own."""
    errors = set()
    for folder in folders:
        # Silent: what is wrong within the package is told by the project's own check.
        settings = f"[mypy]\nstrict=True\nfollow_imports=silent\nmypy_path={REPOSITORY}\n"
        (folder / "mypy.ini").write_text(settings)
        # One memory for all: reading the package takes the longest.
        words = [f"--cache-dir={folder.parent / 'mypy_cache'}", "--config-file=mypy.ini"]
        text = output_of(["mypy", *words, "--no-error-summary", "."], folder)
        found = re.findall(r"^(\S+?):(\d+): error:", text, re.MULTILINE)
        assert found or not text, text
        errors |= {(name, int(line)) for name, line in found}
    return errors


def errors_of_pyright(*folders: Path) -> set[tuple[str, int]]:
    """The same of pyright."""
    around = folders[0].parent
    settings = {
        "include": [folder.name for folder in folders],
        "executionEnvironments": [
            {"root": folder.name, "extraPaths": [str(REPOSITORY)]} for folder in folders
        ],
    }
    (around / "pyrightconfig.json").write_text(json.dumps(settings))
    # The interpreter, for what is installed beside it, is the one that runs the tests.
    words = ["--outputjson", "--pythonpath", sys.executable]
    report = json.loads(output_of(["pyright", *words], around))
    programs = [program for folder in folders for program in folder.glob("*.py")]
    assert report["summary"]["filesAnalyzed"] == len(programs)
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


def output_of(command: list[str], folder: Path) -> str:
    if importlib.util.find_spec(command[0]) is None:
        absent(f"{command[0]} is not installed: pip install -e '.[types]'")
    words = [sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


Checker: TypeAlias = Callable[..., set[tuple[str, int]]]
CHECKERS = [errors_of_mypy, errors_of_pyright]
each_checker = pytest.mark.parametrize("errors_of", CHECKERS, ids=["mypy", "pyright"])


def marked_in(program: Path) -> list[tuple[str, int]]:
    lines = program.read_text().splitlines()
    return [(program.name, n) for n, line in enumerate(lines, 1) if "# error: " in line]


@each_checker
def test_each_marked_line_is_an_error_and_no_other(errors_of: Checker, tmp_path: Path) -> None:
    programs = shutil.copytree(PROGRAMS, tmp_path / "programs")
    marked = [line for program in sorted(programs.glob("*.py")) for line in marked_in(program)]
    assert len(marked) > 20
    assert sorted(errors_of(programs)) == marked


@each_checker
def test_the_parts_of_the_readme_are_fine(errors_of: Checker, tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text()
    parts = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(parts) >= 8
    (folder := tmp_path / "readme").mkdir()
    for number, part in enumerate(parts):
        (folder / f"part_{number}.py").write_text(program_of(part))
    assert errors_of(folder) == set()


def program_of(part: str) -> str:
    """A whole program around a part of one, whose tests need no hints."""
    if re.search(r"^ *(def \w+\(self|@gemstone\.)", part, re.M) and "class " not in part:
        indented = re.sub(r"(?m)^(?=.)", "    ", part)
        part = f'class Part(gemstone.MicroService):\n    name = "part"\n\n{indented}'
    about = "# mypy: allow-untyped-defs, allow-untyped-calls\n" if "def test_" in part else ""
    return about + IMPORTS + AROUND + part


@each_checker
def test_the_examples_are_fine(errors_of: Checker, tmp_path: Path) -> None:
    examples = [*(REPOSITORY / "examples").glob("[0-9]*/")]
    assert len(examples) >= 10
    for example in examples:
        (tmp_path / example.name).mkdir()
        for program in example.glob("*.py"):
            shutil.copy(program, tmp_path / example.name)
    assert errors_of(*(tmp_path / example.name for example in examples)) == set()
