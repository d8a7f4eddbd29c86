"""Which worker of an instance does what must be done once, whatever happens to the lock's file."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from gemstone_sync.errors import ServiceStartError
from gemstone_sync.service import instance_lock
from gemstone_sync.service.instance_lock import InstanceLock
from tests.support.waiting import wait_until

TICK = 0.02


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(instance_lock, "_RETRY_SECONDS", TICK)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


@pytest.fixture
def locks() -> Iterator[list[InstanceLock]]:
    made: list[InstanceLock] = []
    yield made
    for lock in made:
        lock.release()


class Workers:
    """Workers of one instance, which note when it is their turn."""

    def __init__(self, locks: list[InstanceLock]) -> None:
        self.locks = locks
        self.at_work: list[int] = []

    def start(self, name: str = "shop", address: str = "127.0.0.1:8000") -> InstanceLock:
        number = len(self.locks)
        lock = InstanceLock(name, address)
        self.locks.append(lock)
        lock.when_held(lambda: self.at_work.append(number))
        return lock


@pytest.fixture
def workers(locks: list[InstanceLock]) -> Workers:
    return Workers(locks)


def test_one_works_and_another_when_it_has_ended(workers: Workers) -> None:
    first = workers.start()
    wait_until(lambda: workers.at_work == [0], "the first")
    workers.start()
    workers.start(name="other")
    workers.start(address="127.0.0.1:8001")
    wait_until(lambda: sorted(workers.at_work) == [0, 2, 3], "the other instances")
    first.release()
    wait_until(lambda: workers.at_work[-1] == 1, "the second")


@pytest.mark.parametrize("what", ["the file", "its folder", "a file in its place"])
def test_what_is_removed_is_not_lost(what: str, workers: Workers) -> None:
    first = workers.start()
    wait_until(lambda: workers.at_work == [0], "the first")
    workers.start()
    gevent.sleep(3 * TICK)
    path = Path(first._path)
    if what == "its folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if what == "a file in its place":
        path.touch()
    wait_until(
        lambda: path.exists() and os.fstat(first._descriptor or 0).st_ino == path.stat().st_ino,
        "the first to hold the new file",
    )
    gevent.sleep(8 * TICK)
    assert workers.at_work == [0]
    first.release()
    wait_until(lambda: workers.at_work == [0, 1], "the second")


def test_a_file_removed_with_its_holder_is_taken_after_a_while(workers: Workers) -> None:
    first = workers.start()
    wait_until(lambda: workers.at_work == [0], "the first")
    workers.start()
    gevent.sleep(3 * TICK)
    Path(first._path).unlink()
    first.release()
    wait_until(lambda: workers.at_work == [0, 1], "the second")


def test_a_held_file_never_looks_old(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_lock, "_TOUCH_SECONDS", 0.0)
    first = workers.start()
    wait_until(lambda: workers.at_work == [0], "the first")
    os.utime(first._path, (1, 1))
    wait_until(lambda: os.stat(first._path).st_mtime > 1, "the file to be new")


# Where the file lies


def squat(folder: Path, how: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if how == "a file":
        folder.touch()
    elif how == "a link":
        target = folder.with_name("target")
        target.mkdir()
        folder.symlink_to(target)
    else:
        folder.mkdir()
        if how == "for everybody":
            folder.chmod(0o777)
        else:
            os.chown(folder, 65534, 65534)


def test_the_folder_of_the_session_comes_first(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = places / "tmp" / f"gemstone_sync-{os.getuid()}"
    assert Path(InstanceLock("n", "a")._path).parent == temporary
    assert temporary.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(places / "run"))
    assert Path(InstanceLock("n", "a")._path).parent == places / "run" / "gemstone_sync"


@pytest.mark.parametrize("how", ["a file", "a link", "for everybody", "of another user"])
def test_nobody_keeps_a_service_from_starting(how: str, places: Path, workers: Workers) -> None:
    if how == "of another user" and os.getuid() != 0:
        pytest.skip("only root can give a folder to another user")
    squat(places / "tmp" / f"gemstone_sync-{os.getuid()}", how)
    lock = workers.start()
    wait_until(lambda: workers.at_work == [0], "the lock")
    assert Path(lock._path).parent == places / "home" / ".cache" / "gemstone_sync"


def test_without_any_folder_it_says_what_to_do(places: Path) -> None:
    for folder in (places / "tmp" / f"gemstone_sync-{os.getuid()}", places / "home" / ".cache"):
        squat(folder, "a file")
    with pytest.raises(ServiceStartError, match="set XDG_RUNTIME_DIR"):
        InstanceLock("n", "a")


def test_a_link_in_place_of_the_file_is_told_and_not_followed(
    places: Path, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(InstanceLock("shop", "127.0.0.1:8000")._path)
    victim = places / "victim"
    path.symlink_to(victim)
    workers.start()
    wait_until(lambda: caplog.messages, "the log")
    gevent.sleep(3 * TICK)
    assert len(caplog.messages) == 1
    assert f"{path} cannot be locked" in caplog.messages[0]
    assert not victim.exists()
    path.unlink()
    wait_until(lambda: workers.at_work == [0], "the lock")
