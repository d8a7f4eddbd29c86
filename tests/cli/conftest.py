"""Fixtures of the tests that make projects."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of a user who has no settings of cookiecutter."""
    folder = tmp_path / "home"
    folder.mkdir()
    return {"HOME": str(folder)}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The directory to make projects in."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
