"""Numbers of several processes: none is lost or counted twice, whoever ends whenever."""

import contextlib
import json
import logging
import math
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.ops import metrics_files
from gemstone_sync.ops.metrics_files import Key, Store
from gemstone_sync.ops.shared_directory import identity_of
from tests.support.programs import fork
from tests.support.waiting import wait_until

CALLS = Key("shop", "counter", "calls", "Calls.", "calls_total", (("rpc_method", "buy"),)).text()


def count(store: Store, amount: float = 1.0, key: str = CALLS) -> None:
    view, index = store.place(key, 1)
    view[index] += amount


def total(store: Store, key: str = CALLS) -> float:
    merged, _ = store.merged()
    (found,) = [each.values for each in merged if each.key.text() == key]
    return found[0]


@contextlib.contextmanager
def child(store: Store, *amounts: float, key: str = CALLS) -> Iterator[int]:
    """A process that has counted, and waits to be killed."""
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            store.in_child()
            for amount in amounts:
                count(store, amount, key)
            os.write(writing, b"x")
            signal.pause()
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def shared(tmp_path: Path) -> Store:
    store = Store()
    count(store, 3)  # what was counted before it was shared counts on
    store.share(str(tmp_path))
    return store


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".values")


def test_counts_of_processes_add_up_while_they_live_and_when_they_were_killed(shared, tmp_path):
    with child(shared, 1, 1) as first, child(shared, 5):
        assert total(shared) == 10
        assert len(files(tmp_path)) == 3
        kill(first)
        assert total(shared) == 10
        assert shared.merged()[1] == 1
        assert len(files(tmp_path)) == 2
    assert total(shared) == 10
    assert len(files(tmp_path)) == 1


def test_a_process_that_was_killed_and_is_not_reaped_is_folded_all_the_same(shared, tmp_path):
    with child(shared, 1) as pid:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: shared.merged()[1] == 1, "folded")
        assert total(shared) == 4


@pytest.mark.parametrize(
    "restarts",
    [
        10,
        pytest.param(200, marks=pytest.mark.slow),  # as many forks
    ],
)
def test_files_do_not_become_more_when_nobody_looks(shared, tmp_path, restarts):
    """A worker that starts folds what the last one left."""
    sizes = []
    for number in range(restarts):
        with child(shared, 1):
            found = [path.stat().st_size for path in tmp_path.iterdir()]
            assert len(found) <= 5  # two processes, the one that has ended, folded, lock
            if number >= 2:
                sizes.append(sum(found))
    assert max(sizes) - min(sizes) < 1000  # which is how often it was
    assert total(shared) == 3 + restarts


def test_whoever_folds_and_is_killed_leaves_nothing_that_counts_twice(shared, tmp_path):
    with child(shared, 7) as pid:
        (other,) = [name for name in files(tmp_path) if f"-{pid}-" in name]
    content = (tmp_path / other).read_bytes()
    assert total(shared) == 10
    (tmp_path / other).write_bytes(content)  # as if it had not come to remove it
    assert total(shared) == 10
    with child(shared, 1):
        pass
    assert total(shared) == 11
    assert len(files(tmp_path)) == 1


def test_who_reads_while_another_folds_looks_again(shared, tmp_path, monkeypatch):
    directory = shared._directory
    listed = directory._identities
    with child(shared, 5) as pid:
        kill(pid)
        monkeypatch.setattr(directory, "fold", lambda: None)
        calls = iter([directory._fold])

        def identities():
            found = listed()
            next(calls, lambda: None)()  # another process folds just now
            return found

        monkeypatch.setattr(directory, "_identities", identities)
        assert total(shared) == 8


def test_gauges_of_a_process_go_with_it(shared):
    key = Key("", "gauge_all", "load", "Load.", "load").text()
    with child(shared, 2, key=key) as pid:
        count(shared, 1, key)
        merged, _ = shared.merged()
        assert {e.pid: e.values[0] for e in merged if e.key.family == "load"} == {
            pid: 2,
            os.getpid(): 1,
        }
        kill(pid)
        merged, _ = shared.merged()
        assert [each.pid for each in merged if each.key.family == "load"] == [os.getpid()]


def test_a_value_that_is_gone_is_in_no_sum(shared, tmp_path):
    """Of a process that lives, and of one that was killed and has been folded."""
    key = Key("", "gauge_sum", "load", "Load.", "load").text()
    with child(shared, metrics_files.GONE, key=key) as pid:
        count(shared, 2, key)
        assert total(shared, key) == 2
        kill(pid)
        assert total(shared, key) == 2
    view, index = shared.place(key, 1)
    view[index] = metrics_files.GONE
    assert all(each.key.family != "load" for each in shared.merged()[0])
    view[index] = math.nan  # the user's own is none of ours
    assert math.isnan(total(shared, key))


def test_ten_thousand_keys_are_read_once_as_one_is():
    """A scrape holds the hub for as long as it takes to read them."""
    texts = [Key("", "counter", "read", "", "read", (("n", str(n)),)).text() for n in range(12_000)]
    first = [Key.read(text) for text in texts]
    assert all(Key.read(text) is key for text, key in zip(texts, first, strict=True))


def test_what_is_kept_in_step_is_not_kept_alive_nor_remembered(shared):
    """A metric whose labels come and go leaves nothing behind."""
    for _ in range(3):
        shared.keep_in_step(metrics_files._Directory("", pytest.fail))
    assert not list(shared._caches)


@pytest.mark.parametrize(
    ("mode", "together"), [("max", 7), ("min", 2), ("sum", 9), ("livemax", 7), ("livesum", 9)]
)
def test_gauges_are_put_together_as_they_say(shared, mode, together):
    key = Key("", f"gauge_{mode}", "load", "Load.", "load").text()
    with child(shared, 7, key=key) as pid:
        count(shared, 2, key)
        assert total(shared, key) == together
        kill(pid)
        assert total(shared, key) == (2 if mode.startswith("live") else together)


def test_more_than_a_piece_of_the_file_and_keys_longer_than_one(shared, tmp_path):
    keys = [
        Key("", "counter", f"metric_{n}", "h" * (n % 7 * 30), f"m_{n}").text() for n in range(2000)
    ]
    keys.append(Key("", "counter", "long", "h" * 200_000, "long").text())
    for number, key in enumerate(keys):
        count(shared, number, key)
    (name,) = files(tmp_path)
    values = metrics_files._read(str(tmp_path / name), pytest.fail)  # as another process does
    assert [values[key][0] for key in keys] == [*map(float, range(len(keys)))]


def test_what_is_shared_no_more_counts_on(shared, tmp_path):
    count(shared)
    shared.leave()
    count(shared)
    assert total(shared) == 5
    assert not shared.is_shared


numbers = st.floats(0, 1e12, allow_nan=False)


@given(st.lists(numbers, min_size=1, max_size=30))
def test_sums_are_exact_however_files_are_folded(values):
    partials: list[float] = []
    for value in values:
        partials = metrics_files._partials([*partials, value])
    assert sum(map(Fraction, partials)) == sum(map(Fraction, values))
    assert math.fsum(partials) == math.fsum(values)


FULL = """
import logging, resource, signal, sys
from gemstone_sync.ops.metrics_files import Key, Store

logging.basicConfig(stream=sys.stdout, format="%(message)s")
store = Store()
store.share(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))  # a full disk
for number in range(5000):
    view, index = store.place(Key("", "counter", f"metric_{number}", "", "m").text(), 1)
    view[index] += number
print(sum(each.values[0] for each in store.merged()[0]))
"""


@pytest.mark.slow  # imports the package in a process of its own
def test_where_the_disk_is_full_the_process_goes_on_and_says_so_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *said, summed = done.stdout.splitlines()
    assert len(said) == 1
    assert "cannot be written" in said[0]
    assert float(summed) == sum(range(5000))


def test_a_directory_that_is_gone_is_told_once(shared, tmp_path, caplog):
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    with caplog.at_level(logging.ERROR):
        assert total(shared) == 3
        count(shared)
        assert total(shared) == 4
    assert caplog.text.count("cannot be read") == 1


@pytest.mark.parametrize("garbage", [b"", b"x", b"\xff" * 100, b"\0" * 8])
def test_a_file_that_has_just_been_made_or_is_broken_keeps_no_page_away(shared, tmp_path, garbage):
    own = identity_of(os.getpid())
    (tmp_path / f"1{own}.values").write_bytes(garbage)
    assert total(shared) >= 3


def record(name: bytes) -> bytes:
    """A file of one record."""
    head = name + b"\0" * (-len(name) % 8)
    return struct.pack(f"=QII{len(head)}sd", 24 + len(head), len(name), 1, head, 1.0)


@pytest.mark.parametrize(
    "garbage",
    [record(b"\xff"), record(b"{}"), record(b"no key"), b"\0" * 7],
    ids=["no text", "an object", "no JSON", "cut off"],
)
def test_a_broken_file_hides_no_other_and_goes_with_its_process(shared, tmp_path, caplog, garbage):
    namespace, pid, _ = identity_of(os.getpid()).split("-")
    with child(shared, 1), child(shared, 2) as killed:
        (broken,) = [each for each in files(tmp_path) if f"-{killed}-" in each]
        (tmp_path / broken).write_bytes(garbage)
        for _ in range(3):
            assert total(shared) == 4
        kill(killed)
        ended = tmp_path / f"{namespace}-{pid}-1.values"
        ended.write_bytes(garbage)
        assert total(shared) == 4
        assert broken not in files(tmp_path)
        assert not ended.exists()
    assert caplog.text.count("cannot be read") <= 1


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"{}"])
def test_a_broken_folded_file_is_told_once_and_written_anew(shared, tmp_path, caplog, garbage):
    (tmp_path / "folded.json").write_bytes(garbage)
    with child(shared, 2):
        for _ in range(3):
            assert total(shared) == 5
    assert total(shared) == 5
    assert len(files(tmp_path)) == 1
    assert caplog.text.count("cannot be read") == 1


COUNTS_IN_COLLECTIONS = """
import gc
from gemstone_sync.ops.metrics import Counter

made = Counter("", "made", "Made.", ("number",))
collections = Counter("", "collections", "Collections.", ("phase", "number"))
count = 0

def note(phase, info):
    global count
    count += 1
    if count < 500:
        collections.add((phase, str(count)))

gc.callbacks.append(note)
gc.set_threshold(1)
for number in range(300):
    made.add((str(number),))
assert count > 100
"""


def test_what_is_collected_while_something_is_counted_may_count_too(run_python):
    done = run_python(COUNTS_IN_COLLECTIONS)
    assert done.returncode == 0, done.stderr


def test_the_folded_file_is_json_that_holds_exact_parts(shared, tmp_path):
    with child(shared, 1e16, 1.0):
        pass
    with child(shared, 1.0):
        pass
    assert total(shared) == 1e16 + 5
    folded = json.loads((tmp_path / "folded.json").read_text())
    assert sum(map(Fraction, folded["records"][CALLS][0])) == 10**16 + 2 or folded["ended"] == 2
