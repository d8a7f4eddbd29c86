"""Fixtures of the tests that make projects."""

from pathlib import Path

import pytest

from .projects import without_settings


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of a user without settings."""
    return without_settings(tmp_path / "home")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The directory to make projects in."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
