"""The directory that workers share: whose it is, and what becomes of it."""

import os
import stat
from pathlib import Path

import pytest

from gemstone_sync.ops import shared_directory
from gemstone_sync.ops.shared_directory import (
    directory_of,
    identity_of,
    is_first,
    remove_directory,
)


def test_the_private_directory_is_this_users_own_and_empty_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_directory.tempfile, "gettempdir", lambda: str(tmp_path))
    path = Path(directory_of(os.getpid()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (path / "old").touch()
    assert directory_of(os.getpid()) == str(path)
    assert (path / "old").exists()  # the same service goes on
    shared_directory._made.clear()
    directory_of(os.getpid())
    assert not (path / "old").exists()
    remove_directory(os.getpid())
    assert not path.exists()


def test_a_directory_that_somebody_else_has_prepared_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_directory.tempfile, "gettempdir", lambda: str(tmp_path))
    path = Path(directory_of(1))
    shared_directory._made.clear()
    path.chmod(0o777)
    with pytest.raises(PermissionError):
        directory_of(1)
    path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        directory_of(1)


def test_one_of_a_parents_processes_is_the_first(tmp_path):
    asked = [is_first(str(tmp_path), pid) for pid in (os.getpid(), os.getpid(), os.getppid())]
    assert asked == [True, False, True]


def test_directories_of_parents_that_ended_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_directory.tempfile, "gettempdir", lambda: str(tmp_path))
    space = shared_directory._namespace()
    left = tmp_path / f"{shared_directory._PREFIX}{os.geteuid()}-{space:x}-{2**22 - 1}-7"
    elsewhere = tmp_path / f"{shared_directory._PREFIX}{os.geteuid()}-{space + 1:x}-1-7"
    for folder in (left, elsewhere):
        folder.mkdir()
    directory_of(os.getpid())
    assert not left.exists()
    assert elsewhere.exists()  # of another container: nobody knows


def test_a_directory_in_which_a_process_still_has_something_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_directory.tempfile, "gettempdir", lambda: str(tmp_path))
    space = shared_directory._namespace()
    left = tmp_path / f"{shared_directory._PREFIX}{os.geteuid()}-{space:x}-{2**22 - 1}-7"
    left.mkdir()
    mine = left / f"{identity_of(os.getpid())}.anything"
    mine.touch()
    directory_of(os.getpid())
    assert mine.exists()
    mine.unlink()
    (left / f"{space:x}-{2**22 - 1}-8.anything").touch()  # of one that has ended
    (left / "lock").touch()
    directory_of(os.getpid())
    assert not left.exists()
