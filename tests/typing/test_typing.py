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
from gemstone_sync.config import Configurable, Seconds
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


def errors_of_mypy(folder: Path) -> set[tuple[str, int]]:
    """The file and line of each error in a folder."""
    settings = folder / "mypy.ini"
    # Silent: what is wrong within the package is told by the project's own check.
    settings.write_text(f"[mypy]\nstrict=True\nfollow_imports=silent\nmypy_path={REPOSITORY}\n")
    # One memory for all: reading the package takes the longest.
    memory = f"--cache-dir={folder.parent / 'mypy_cache'}"
    words = [memory, "--config-file", "mypy.ini", "--no-error-summary", "--hide-error-context", "."]
    text = output_of(["mypy", *words], folder)
    found = re.findall(r"^(\S+?):(\d+): error:", text, re.MULTILINE)
    assert found or not text, text
    return {(name, int(line)) for name, line in found}


def errors_of_pyright(folder: Path) -> set[tuple[str, int]]:
    """The file and line of each error in a folder."""
    settings = folder / "pyrightconfig.json"
    # The interpreter, for what is installed beside it, is the one that runs the tests.
    settings.write_text(json.dumps({"extraPaths": [str(REPOSITORY)]}))
    words = ["--outputjson", "--pythonpath", sys.executable]
    report = json.loads(output_of(["pyright", *words], folder))
    assert report["summary"]["filesAnalyzed"] == len([*folder.glob("*.py")])
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


CHECKERS = [errors_of_mypy, errors_of_pyright]
each_checker = pytest.mark.parametrize("errors_of", CHECKERS, ids=["mypy", "pyright"])


def marked_in(program: Path) -> set[tuple[str, int]]:
    lines = program.read_text().splitlines()
    return {(program.name, n) for n, line in enumerate(lines, 1) if "# error" in line}


@each_checker
def test_each_marked_line_is_an_error_and_no_other(
    errors_of: Callable[[Path], set[tuple[str, int]]], tmp_path: Path
) -> None:
    marked = set()
    for program in PROGRAMS.glob("*.py"):
        shutil.copy(program, tmp_path)
        marked |= marked_in(program)
    assert len(marked) > 20
    assert sorted(errors_of(tmp_path)) == sorted(marked)


@each_checker
def test_the_parts_of_the_readme_are_fine(
    errors_of: Callable[[Path], set[tuple[str, int]]], tmp_path: Path
) -> None:
    text = (REPOSITORY / "README.md").read_text()
    parts = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(parts) >= 8
    for number, part in enumerate(parts):
        (tmp_path / f"part_{number}.py").write_text(program_of(part))
    assert errors_of(tmp_path) == set()


def program_of(part: str) -> str:
    """A whole program around a part of one, whose tests need no hints."""
    if re.search(r"^ *(def \w+\(self|@gemstone\.)", part, re.M) and "class " not in part:
        indented = re.sub(r"(?m)^(?=.)", "    ", part)
        part = f'class Part(gemstone.MicroService):\n    name = "part"\n\n{indented}'
    about = "# mypy: allow-untyped-defs, allow-untyped-calls\n" if "def test_" in part else ""
    return about + IMPORTS + AROUND + part


@each_checker
@pytest.mark.parametrize(
    "example", sorted((REPOSITORY / "examples").glob("*/")), ids=lambda folder: folder.name
)
def test_the_examples_are_fine(
    errors_of: Callable[[Path], set[tuple[str, int]]], example: Path, tmp_path: Path
) -> None:
    for program in example.glob("*.py"):
        shutil.copy(program, tmp_path)
    assert errors_of(tmp_path) == set()
