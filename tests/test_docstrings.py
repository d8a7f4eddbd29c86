"""Docstrings say what something does or is: none begins with What, One, Whether, Who or It."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gemstone_sync"

RIDDLE = re.compile(r"(What|One|Whether|Who|It)\b")

#: "" stands for the modules at the top.
FOLDERS = ["", *sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))]


def docstrings_in(folder: Path) -> Iterator[tuple[str, str]]:
    """The place and text of each docstring; of the package itself, of its own modules only."""
    for path in sorted(folder.glob("*.py" if folder == PACKAGE else "**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                name = getattr(node, "name", "")
                yield f"{path.relative_to(PACKAGE)}:{name}", ast.get_docstring(node) or ""


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_is_a_riddle(folder):
    found = list(docstrings_in(PACKAGE / folder))
    assert found
    assert [place for place, text in found if RIDDLE.match(text)] == []
