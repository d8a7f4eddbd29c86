"""Projects that were made from the template: what is in them."""

import runpy
import sys
from pathlib import Path
from typing import Any

from tests.support.programs import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEMPLATE = REPOSITORY / "gemstone_sync" / "template"

#: Quotes, escapes, templates, characters of every width.
ODD_TEXT = """Ada "Countess" O'Lace \\n \\u0041 {{ 7 * 7 }} {% endraw %} {# x #} <b> & é 名 😀"""


def check_name(name: str) -> None:
    """Raise a ValueError for a name that the template refuses."""
    hook = runpy.run_path(str(TEMPLATE / "hooks" / "pre_gen_project.py"))
    hook["CHECKS"]["name"](name)


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file by its path within the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def read_toml(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    return settings


def metadata_of(project: Path) -> dict[str, Any]:
    """The table ``project`` of its pyproject.toml."""
    metadata: dict[str, Any] = read_toml(project / "pyproject.toml")["project"]
    return metadata
