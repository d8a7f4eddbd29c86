"""Where the running copy of the package comes from, by what installers write down (PEP 610).

What they really write is in test_template_installed.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync.cli import new as module
from tests.support.programs import REPOSITORY


def installed(folder: Path, recorded: dict[str, Any] | None) -> None:
    """A folder of packages with this one, from there; None for an index."""
    information = folder / "gemstone_sync-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gemstone_sync\n")
    if recorded is not None:
        (information / "direct_url.json").write_text(json.dumps(recorded))


def test_a_checkout_is_its_own_source():
    assert module.source() == REPOSITORY.as_uri()


GIT = {"vcs": "git", "commit_id": "1f2e", "requested_revision": "main"}


@pytest.mark.parametrize(
    ("recorded", "url"),
    [
        (None, None),
        ({"url": "https://a/b.git", "vcs_info": GIT}, "git+https://a/b.git@1f2e"),
        (
            {"url": "ssh://git@a/b.git", "vcs_info": GIT, "subdirectory": "c"},
            "git+ssh://git@a/b.git@1f2e#subdirectory=c",
        ),
        ({"url": "https://a/b.whl", "archive_info": {"hash": "sha256=00"}}, "https://a/b.whl"),
    ],
    ids=["index", "git", "a folder of git", "archive"],
)
def test_what_was_installed_is_named_as_it_was_installed(tmp_path, monkeypatch, recorded, url):
    installed(tmp_path, recorded)
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    assert module.source() == url


def test_a_file_that_is_gone_is_told(tmp_path, monkeypatch):
    wheel = tmp_path / "a b.whl"
    wheel.touch()
    installed(tmp_path, {"url": wheel.as_uri(), "archive_info": {}})
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    assert module.source() == wheel.as_uri()
    wheel.unlink()
    with pytest.raises(ValueError, match=r"a%20b\.whl, which is not there any more"):
        module.source()
