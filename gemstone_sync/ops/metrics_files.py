"""Numbers that the processes of one service share: each writes a file of its own, any reads all.

A file is mapped into memory, so that counting costs no system call and a process that is killed
loses nothing. What processes that have ended left is folded into one file by whoever looks next: a
worker that starts, or one that is asked for its metrics. So no parent has to do anything, the files
grow no further than the metrics do, and no count is lost or counted twice:

- each file belongs to one process, told by its number and its start, which the system does not give
  to another one;
- the folded file is replaced as a whole, and says which files are in it: one that stands there and
  still exists does not count;
- who reads looks again when the folded file was replaced meanwhile.

Room on the disk is reserved before it is mapped: a full disk is an error when there is still
something else to do, and not the end of the process. Sums are exact (Shewchuk, "Adaptive Precision
Floating-Point Arithmetic", 1997), so that a total never goes back by a rounding when files are
folded.

A file has 8 bytes that say how much is used, then records: the lengths of key and values (two
unsigned 32-bit numbers), the key in UTF-8, zeros up to a multiple of 8 bytes, and doubles. A record
without a key fills the rest of a piece.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import functools
import gc
import json
import logging
import math
import mmap
import os
import struct
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..concurrency.native import native_rlock
from .shared_directory import identity_of, is_alive, pid_of

__all__ = ["GONE", "Key", "Merged", "Store", "is_gone", "store"]

_logger = logging.getLogger("gemstone_sync.metrics")

#: Bytes that a file grows by: a multiple of every page size.
_PIECE = 1 << 16
_LENGTHS = struct.Struct("=II")
_USED = struct.Struct("=Q")

_SUFFIX = ".values"
_FOLDED = "folded.json"

#: How often reading begins again because files were folded meanwhile.
_ATTEMPTS = 20


class Key(NamedTuple):
    """Names a record.

    :param owner: the service that it belongs to; empty for the whole process.
    :param kind: ``counter``, ``histogram``, ``summary``, or ``gauge_`` and how gauges of several
        processes are put together, as prometheus_client names it (``all``, ``sum``, ``max`` …).
    :param family: the metric's name, and its help.
    :param sample: the name of its one value; empty for a histogram in one record, whose values are
        those of the buckets, then that of the rest, then the sum.
    :param labels: (name, value) pairs.
    :param bounds: of the buckets.
    """

    owner: str
    kind: str
    family: str
    help: str
    sample: str
    labels: tuple[tuple[str, str], ...] = ()
    bounds: tuple[float, ...] = ()

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(self, separators=(",", ":"))

    @staticmethod
    @functools.cache  # of a smaller one each scrape would read them all, where there are more
    def read(text: str) -> Key:
        """Read what `text` wrote.

        :raises ValueError, TypeError: when it is something else.
        """
        owner, kind, family, help, sample, labels, bounds = json.loads(text)
        pairs = tuple((name, value) for name, value in labels)
        return Key(owner, kind, family, help, sample, pairs, tuple(bounds))


#: The values of one process, by the texts of their keys.
Records = dict[str, Sequence[float]]

#: Stands for a value that nobody keeps any more: a NaN that no arithmetic makes.
GONE: float = struct.unpack("=d", struct.pack("=Q", 0x7FF8_0000_0000_0901))[0]


def is_gone(value: float) -> bool:
    """Tell whether a value is `GONE`; a NaN of the user's is not."""
    return value != value and struct.pack("=d", value) == struct.pack("=d", GONE)


def _without_gone(records: Records) -> Records:
    return {key: values for key, values in records.items() if not is_gone(values[0])}


class Merged(NamedTuple):
    """Holds a value of several processes.

    :param pid: the process whose gauge it is; None where all of them are put together.
    """

    key: Key
    values: list[float]
    pid: int | None = None


# The values of this process


class _Values:
    """Values in this process's memory only."""

    def allot(self, key: str, count: int) -> tuple[Any, int]:
        """Make room for values that begin as 0; return a view of doubles, and where they start."""
        view = memoryview(array.array("d", bytes(8 * count)))
        self._views.append((key, view, 0, count))
        return view, 0

    def __init__(self) -> None:
        self._views: list[tuple[str, Any, int, int]] = []

    def records(self) -> Records:
        """Return all values by their keys."""
        return {
            key: view[start : start + count].tolist() for key, view, start, count in self._views
        }


class _FileValues(_Values):
    """Values in a file, which is there as long as the directory is.

    :raises OSError: when it cannot be made.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        try:
            self._grow(_PIECE)
        except OSError:
            os.unlink(path)
            os.close(self._descriptor)
            raise
        self._used = self._map.cast("Q")
        self._end = 8
        self._used[0] = self._end

    def _grow(self, size: int) -> None:
        os.posix_fallocate(self._descriptor, self._size, size)
        self._map = memoryview(mmap.mmap(self._descriptor, size, offset=self._size))
        self._doubles = self._map.cast("d")
        self._start, self._size = self._size, self._size + size

    def allot(self, key: str, count: int) -> tuple[Any, int]:
        name = key.encode()
        head = _LENGTHS.size + len(name) + -len(name) % 8
        length = head + 8 * count
        left = self._size - self._end
        if length > left:
            before, start = self._map, self._end - self._start
            self._grow(-(-length // _PIECE) * _PIECE)
            if left:  # to be passed over
                before[start : start + 8] = _LENGTHS.pack(0, left // 8 - 1)
                self._end += left
        at = self._end - self._start
        self._map[at : at + 8] = _LENGTHS.pack(len(name), count)
        self._map[at + 8 : at + 8 + len(name)] = name
        self._end += length
        self._used[0] = self._end  # only now is it there for others
        place = (self._doubles, (at + head) // 8)
        self._views.append((key, *place, count))
        return place

    def close(self) -> None:
        """Keep no descriptor; what is mapped stays as long as somebody has it."""
        os.close(self._descriptor)


def _read(path: str, tell: Callable[[str, Exception], None]) -> Records:
    """Read a process's file; of one that has just been made there is nothing yet.

    :param tell: is told that the file is broken; what stands before that counts.
    """
    with open(path, "rb") as file:
        data = file.read()
    found: Records = {}
    position, used = 8, _USED.unpack_from(data)[0] if len(data) >= 8 else 0
    while position < min(used, len(data)):
        length, count = _LENGTHS.unpack_from(data, position)
        start = position + 8 + length + -length % 8
        end = start + 8 * count
        if end > len(data):  # it has grown since it was read
            break
        if length:
            try:
                name = data[position + 8 : position + 8 + length].decode()
                Key.read(name)
            except (ValueError, TypeError) as error:
                tell("read", error)
                break
            found[name] = struct.unpack_from(f"={count}d", data, start)
        position = end
    return _without_gone(found)


# The directory


class _Directory:
    """The files of all processes.

    :param path: exists.
    :param tell: is told what cannot be done with them, and why.
    """

    def __init__(self, path: str, tell: Callable[[str, Exception], None]) -> None:
        self.path = path
        self._tell = tell

    def make_own(self) -> _FileValues:
        """Make the file of this process.

        :raises OSError: when that cannot be done.
        """
        return _FileValues(self._at(identity_of(os.getpid()) + _SUFFIX))

    def read(self, own: str | None = None) -> tuple[list[tuple[str | None, Any]], int]:
        """Read what all other processes have, and what ended ones had.

        :param own: the process that is left out.
        :returns: pairs of a process (None for those that have ended) and its records, and how many
            have ended.
        :raises OSError: when they cannot be read.
        """
        self.fold()
        for last in reversed(range(_ATTEMPTS)):
            mark = self._mark()
            folded = self._read_folded()
            found: list[tuple[str | None, Any]] = [(None, folded["records"])]
            whole = True
            for identity in self._identities():
                if identity == own or identity + _SUFFIX in folded["from"]:
                    continue
                try:
                    found.append((identity, _read(self._at(identity + _SUFFIX), self._tell)))
                except FileNotFoundError:
                    whole = False  # folded just now
            if (whole and self._mark() == mark) or not last:
                break
        return found, folded["ended"]

    def fold(self) -> None:
        """Put the files of processes that have ended into one; leave that to who is at it.

        :raises OSError: when it cannot be written; nothing is lost.
        """
        if all(is_alive(identity) for identity in self._identities()):
            return
        lock = os.open(self._at("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fold()
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def _fold(self) -> None:
        folded = self._read_folded()
        for name in folded["from"]:  # whoever folded them was killed before they were removed
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._at(name))
        ended = [each for each in self._identities() if not is_alive(each)]
        if not ended:
            return
        records: dict[str, list[list[float]]] = folded["records"]
        for identity in ended:
            for key, values in _read(self._at(identity + _SUFFIX), self._tell).items():
                kind = Key.read(key).kind
                if not _goes_with_process(kind):
                    records[key] = _together(kind, records.get(key), [[value] for value in values])
        names = [identity + _SUFFIX for identity in ended]
        new = {"from": names, "ended": folded["ended"] + len(names), "records": records}
        self._replace(json.dumps(new).encode())
        for name in names:
            os.unlink(self._at(name))

    def _replace(self, text: bytes) -> None:
        path = self._at(f"{_FOLDED}.new")
        try:
            with open(path, "wb") as file:
                file.write(text)
            os.replace(path, self._at(_FOLDED))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def _identities(self) -> list[str]:
        names = os.listdir(self.path)
        return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))

    def _read_folded(self) -> dict[str, Any]:
        try:
            with open(self._at(_FOLDED), "rb") as file:
                found: dict[str, Any] = json.load(file)
                return {name: found[name] for name in ("from", "ended", "records")}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            self._tell("read", error)
        return {"from": [], "ended": 0, "records": {}}

    def _mark(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._at(_FOLDED))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)


# Putting values together


def _goes_with_process(kind: str) -> bool:
    """Tell whether values of a kind mean nothing once their process has ended."""
    return kind.startswith("gauge_live") or kind == "gauge_all"


def _together(
    kind: str, one: Sequence[Sequence[float]] | None, other: Sequence[Sequence[float]]
) -> list[list[float]]:
    """Put values together; each is given as numbers whose exact sum it is."""
    if one is None:
        return [_partials(each) for each in other]
    if kind.endswith("mostrecent"):  # with the moment behind it
        return [list(each) for each in max(one, other, key=lambda pair: math.fsum(pair[1]))]
    if kind.endswith(("min", "max")):
        choose = min if kind.endswith("min") else max
        return [[choose(math.fsum(a), math.fsum(b))] for a, b in zip(one, other, strict=True)]
    return [_partials([*a, *b]) for a, b in zip(one, other, strict=True)]


def _partials(numbers: Iterable[float]) -> list[float]:
    """Return as few numbers as have exactly the same sum.

    >>> _partials([1e16, 1.0, 1.0]), _partials([0.5, 0.25])
    ([1.0000000000000002e+16], [0.75])
    """
    partials: list[float] = []
    for number in numbers:
        if not math.isfinite(number):
            return [math.fsum([number])]
        kept = []
        for partial in partials:
            if abs(number) < abs(partial):
                number, partial = partial, number
            high = number + partial
            low = partial - (high - number)
            if low:
                kept.append(low)
            number = high
        partials = [*kept, number]
    return partials


# What the process has


class Store:
    """The values of this process, and those of the others that it shares a directory with.

    `place`, and counting under `lock`, are for any thread; all else for one that has greenlets.
    """

    def __init__(self) -> None:
        #: Native: greenlets do not switch while they count. Reentrant: what is collected, or a
        #: signal that is handled, meanwhile may count too.
        self.lock = native_rlock()
        self._values = _Values()
        self._directory: _Directory | None = None
        self._file: _FileValues | None = None
        self._pid = os.getpid()
        self._caches: weakref.WeakSet[Any] = weakref.WeakSet()
        self._told: set[str] = set()
        self._places: dict[str, tuple[Any, int]] = {}
        self._allotting = False

    @property
    def is_shared(self) -> bool:
        """Tell whether other processes see the values of this one."""
        return self._directory is not None

    def keep_in_step(self, cache: Any) -> None:
        """Have an object's ``clear`` called when places that were allotted are none any more."""
        with self.lock:
            self._caches.add(cache)

    def share(self, path: str) -> None:
        """Share values with all processes that have the same directory, from now on.

        :param path: exists.
        :raises OSError: when it cannot be used; nothing has changed then.
        """
        if self._directory is not None and self._directory.path == path:
            return
        directory = _Directory(path, self._tell)
        file = directory.make_own()
        self._tried("folded", directory.fold)
        self._move(directory, file)

    def leave(self) -> None:
        """Keep values to this process again, as they are here."""
        if self._directory is not None:
            self._move(None, None)

    def _move(self, directory: _Directory | None, file: _FileValues | None) -> None:
        records = self._own()
        with self.lock:
            self._values, self._directory, self._file = _Values(), directory, file
            self._pid = os.getpid()
            self._forget_places()
        for key, values in records.items():
            view, start = self.place(key, len(values))
            for index, value in enumerate(values, start):
                view[index] = value

    def _own(self) -> Records:
        of_file = {} if self._file is None else self._file.records()
        return _without_gone({**of_file, **self._values.records()})

    def place(self, key: str, count: int) -> tuple[Any, int]:
        """Return the place of the values of a key, which begin as 0: a view of doubles, and where.

        Where the directory is full, they are known to this process only.
        """
        if self._directory is not None and self._pid != os.getpid():
            self._after_fork(self._directory)
        fault: OSError | None = None
        with self.lock, _no_collection():
            place = self._places.get(key)
            if place is not None:
                return place
            if self._allotting:  # a signal's handler counts, of all times now
                return self._values.allot(key, count)
            self._allotting = True
            if self._file is not None:
                try:
                    place = self._file.allot(key, count)
                except OSError as error:
                    fault = error
            if place is None:
                place = self._values.allot(key, count)
            self._places[key] = place
            self._allotting = False
        if fault is not None:
            self._tell("written", fault)
        return place

    def merged(self) -> tuple[list[Merged], int]:
        """Return all values, put together, and how many processes have ended."""
        if self._directory is None:
            return _merge([(str(os.getpid()), self._own())]), 0
        if self._pid != os.getpid():
            self._after_fork(self._directory)
        mine, own = identity_of(os.getpid()), self._own()
        others: list[tuple[str | None, Any]] = []
        ended = 0
        try:
            others, ended = self._directory.read(own=mine)
        except (OSError, ValueError, struct.error) as error:
            self._tell("read", error)
        return _merge([*others, (mine, own)]), ended

    def _after_fork(self, directory: _Directory) -> None:
        """Give this process a file of its own."""
        self._pid = os.getpid()
        self._values, self._file = _Values(), None
        self._forget_places()
        try:
            self._file = directory.make_own()
        except OSError as error:
            self._tell("written", error)
        self._tried("folded", directory.fold)

    def _tried(self, what: str, function: Any) -> None:
        try:
            function()
        except (OSError, ValueError, struct.error) as error:
            self._tell(what, error)

    def _tell(self, what: str, error: Exception) -> None:
        if what not in self._told:
            self._told.add(what)
            path = self._directory.path if self._directory else ""
            _logger.error(
                "metrics in %s cannot be %s, so what is shown may lack some of other workers': %s",
                *(path, what, error),
            )

    def _forget_places(self) -> None:
        self._places.clear()
        for cache in self._caches:
            cache.clear()

    def in_child(self) -> None:
        """Forget, in a forked child, what counts for its parent."""
        self.lock = native_rlock()  # a thread of the parent's may have held it
        if self._file is not None:
            self._file.close()
            self._file = None
        self._values = _Values()
        self._allotting = False
        self._forget_places()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Have no garbage collected, whose ``__del__`` and callbacks may want room as well."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _merge(processes: Iterable[tuple[str | None, Any]]) -> list[Merged]:
    combined: dict[str, list[list[float]]] = {}
    single: list[Merged] = []
    for identity, records in processes:
        for text, values in records.items():
            key = Key.read(text)
            if _goes_with_process(key.kind) and identity is not None:
                pid = pid_of(identity) if "-" in identity else int(identity)
                if not is_alive(identity):
                    continue
                if key.kind in ("gauge_all", "gauge_liveall"):
                    single.append(Merged(key, list(values), pid))
                    continue
            parts = values if identity is None else [[value] for value in values]
            combined[text] = _together(key.kind, combined.get(text), parts)
    together = [Merged(Key.read(t), [math.fsum(each) for each in v]) for t, v in combined.items()]
    return [*together, *single]


#: The values of this process.
store = Store()

os.register_at_fork(after_in_child=store.in_child)
