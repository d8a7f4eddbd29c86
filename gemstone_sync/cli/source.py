"""Where the running copy of the package comes from: a project that is made from it needs the same.

A package index, or a direct reference (PEP 508): the checkout that runs, or what the copy was
installed from (PEP 610).
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["NAME", "source"]

NAME = "gemstone_sync"

_ROOT = Path(__file__).resolve().parents[2]


def source() -> str | None:
    """The URL that stands behind ``gemstone_sync @``; None for a copy from a package index.

    :raises ValueError: for a copy whose source is not there any more.
    """
    if _is_checkout(_ROOT):
        return _ROOT.as_uri()
    recorded = _recorded(_ROOT)
    if recorded is None:
        return None
    url = _reference(recorded)
    if url.startswith("file:") and not Path(unquote(urlsplit(url).path)).exists():
        raise ValueError(f"it was installed from {url}, which is not there any more")
    return url


def _is_checkout(folder: Path) -> bool:
    try:
        return f"name = {NAME}" in (folder / "setup.cfg").read_text("utf-8")
    except (OSError, ValueError):
        return False


def _recorded(folder: Path) -> Mapping[str, Any] | None:
    """What the installer wrote down of the distribution that lies in a folder."""
    for found in importlib.metadata.distributions(name=NAME, path=[str(folder)]):
        text = found.read_text("direct_url.json")
        recorded: Mapping[str, Any] | None = None if text is None else json.loads(text)
        return recorded
    return None


def _reference(recorded: Mapping[str, Any]) -> str:
    """The URL that an installer takes, of what PEP 610 has.

    >>> _reference({"url": "https://a/b.git", "vcs_info": {"vcs": "git", "commit_id": "1f2e"}})
    'git+https://a/b.git@1f2e'
    """
    url = str(recorded["url"])
    if (vcs := recorded.get("vcs_info")) is not None:
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if (folder := recorded.get("subdirectory")) is not None:
        url = f"{url}#subdirectory={folder}"
    return url
