"""Keep the names of services and the URLs of their instances, each for as long as it is pinged.

Only the table belongs here: no I/O, no background work, and no time but that of a clock which
never jumps. The registry serves one over JSON-RPC; `memory` serves one within a process.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import re
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from ..concurrency import is_patched, let_others_run

__all__ = ["DEFAULT_INTERVAL", "MOST_FOUND", "Directory", "DirectoryFull", "Listed", "Registration"]

#: Seconds between two pings of an instance that does not say (MicroService's own default).
DEFAULT_INTERVAL = 30.0
#: An interval outside of these counts as the nearer of the two.
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.1, 3600.0
#: How many pings may be missed until an entry goes.
MISSED_PINGS = 3
#: An entry is late when its last ping is older than this many intervals.
LATE_AFTER = 1.5
#: Seconds for which a goodbye is remembered: many times what a ping may take that was on its way
#: meanwhile (15 s by a client's default).
TOMBSTONE_SECONDS = 300.0
#: Seconds between two walks through all entries; each takes 1.5 ms for 10,000 of them.
SWEEP_SECONDS = 5.0

#: URLs that are looked for: a pattern that has found so many is not followed any further.
MOST_FOUND = 1_000
#: Names that are compared with a pattern before others get their turn: some 0.3 ms.
_AT_ONCE = 500

T = TypeVar("T")

_WILDCARD = re.compile(r"[*?\[]")


class DirectoryFull(Exception):
    """There is no place for another entry; the text says which limit was met."""


class Registration(NamedTuple):
    """An instance of a named service at a URL.

    :param instance: a text that no other running instance has; None when it did not say.
    :param interval: seconds between two of its pings.
    """

    name: str
    url: str
    instance: str | None
    interval: float


class Listed(NamedTuple):
    """An entry of a listing: a URL of a name.

    :param instances: how many instances share it.
    :param age: seconds since it was registered.
    :param silence: seconds since the last ping.
    :param late: a ping should have come by now.
    """

    url: str
    instances: int
    age: float
    silence: float
    late: bool


class _Instance:
    __slots__ = ("expires", "interval", "pinged")

    def __init__(self, interval: float, pinged: float, expires: float) -> None:
        self.interval = interval
        self.pinged = pinged
        self.expires = expires


class _Place:
    """A URL with all the instances behind it."""

    __slots__ = ("expires", "instances", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.instances: dict[str | None, _Instance] = {}
        #: The latest of its instances' ends: the only thing that a look-up reads.
        self.expires = since

    def renew(self) -> None:
        self.expires = max(instance.expires for instance in self.instances.values())


class Directory:
    """Names, their URLs, and the instances that share a URL (behind a load balancer).

    An instance is dropped when it was not pinged for three of its own intervals, and a URL when its
    last instance has gone. It may be used by several greenlets or threads at once.

    :param ttl: seconds that an entry lives without a ping, instead of three intervals.
    :param max_entries: how many instances there may be, of all names together.
    :param max_per_name: how many of one name.
    :param max_tombstones: how many goodbyes are remembered.
    :param clock: seconds that only ever go up, at the speed of time.
    :param on_change: called with a `Registration` and True when it is new or has another interval,
        and False when it has gone; it must not call back.

    >>> directory = Directory()
    >>> directory.add("shop.orders", "http://10.0.0.1:8000/api")
    True
    >>> directory.locate("shop.*")
    ['http://10.0.0.1:8000/api']
    """

    def __init__(
        self,
        *,
        ttl: float | None = None,
        max_entries: int = 100_000,
        max_per_name: int = 1_000,
        max_tombstones: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[Registration, bool], None] | None = None,
    ) -> None:
        self.on_change = on_change
        self._ttl = ttl
        self._max_entries = max_entries
        self._max_per_name = max_per_name
        self._max_tombstones = max_tombstones
        self._clock = clock
        self._names: dict[str, dict[str, _Place]] = {}
        self._count = 0
        #: The names in order.
        self._ordered: list[str] = []
        #: (name, instance) -> when it is forgotten; in the order of that.
        self._tombstones: dict[tuple[str, str], float] = {}
        self._next_sweep = clock() + SWEEP_SECONDS
        self._guard = threading.Lock()
        #: Held while a pattern is looked for: many at once would leave no time for anything else.
        self._search = threading.Lock()

    def __len__(self) -> int:
        """Count the instances, those that expired since the last sweep included."""
        return self._count

    # Changes

    def add(
        self,
        name: str,
        url: str,
        instance: str | None = None,
        interval: float = DEFAULT_INTERVAL,
    ) -> bool:
        """Register an instance, or take its ping.

        :param interval: seconds until its next ping; below 0.1 counts as 0.1, above 3600 as 3600.
        :returns: False when the instance has said goodbye before: a late ping changes nothing.
        :raises ValueError: when the interval is not a number above 0.
        :raises DirectoryFull: when there is no place for one more.
        """
        if not interval > 0 or math.isinf(interval):
            raise ValueError(f"an interval is a number of seconds above 0, not {interval!r}")
        interval = min(max(float(interval), SHORTEST_INTERVAL), LONGEST_INTERVAL)
        with self._guard:
            now = self._clock()
            if now >= self._next_sweep:
                self._sweep(now)
            if instance is not None and self._tombstones.get((name, instance), now) > now:
                return False
            known = self._alive(name, url, instance, now)
            if known is None:
                self._make_room(name, now)
                self._insert(Registration(name, url, instance, interval), now)
            else:
                self._renew(Registration(name, url, instance, interval), known, now)
            return True

    def remove(self, name: str, url: str, instance: str | None = None) -> bool:
        """Take an instance out for good, or with no `instance` the URL with all of them.

        :returns: whether there was one.
        """
        with self._guard:
            now = self._clock()
            if instance is not None:
                self._bury((name, instance), now)
            place = self._names.get(name, {}).get(url)
            if place is None or (instance is not None and instance not in place.instances):
                return False
            was_alive = place.expires > now
            for each in list(place.instances) if instance is None else [instance]:
                self._drop(name, url, place, each)
            return was_alive

    def sweep(self) -> None:
        """Drop what has expired. `add` does so by itself, every few seconds."""
        with self._guard:
            self._sweep(self._clock())

    # Questions

    def locate(self, name: str) -> list[str]:
        """Find the URLs of a name, or of the names that a pattern matches, each once.

        Names are looked at until `MOST_FOUND` URLs are found.

        :param name: a name, or a pattern with ``*``, ``?`` and ``[...]``, upper and lower case told
            apart; a pattern that cannot match anything finds nothing.
        :returns: by name, and within it in the order of registration.
        """
        with self._guard:
            now = self._clock()
            places = self._names.get(name)
            if places is not None:
                return [url for url, place in places.items() if place.expires > now]
        listed = self._search_for(name, "", lambda url, place, now: url)
        return list(dict.fromkeys(url for urls in listed.values() for url in urls))

    def listing(self, pattern: str = "*", *, after: str = "") -> dict[str, list[Listed]]:
        """List entries by name in alphabetical order, until `MOST_FOUND` URLs are found.

        :param pattern: only the names that it matches, as for `locate`.
        :param after: only the names behind this one; the last of a listing leads to the next.
        """
        if pattern in self._names:
            return self._found_of(pattern, _describe) if pattern > after else {}
        return self._search_for(pattern, after, _describe)

    def registrations(self) -> list[Registration]:
        """Return every instance that has not been dropped."""
        with self._guard:
            return [
                Registration(name, url, instance, known.interval)
                for name, places in self._names.items()
                for url, place in places.items()
                for instance, known in place.instances.items()
            ]

    # Searching, without the guard: others may come and go meanwhile

    def _search_for(
        self, pattern: str, after: str, describe: Callable[[str, _Place, float], T]
    ) -> dict[str, list[T]]:
        found: dict[str, list[T]] = {}
        count = 0
        with self._search:
            for name in self._matching(pattern, after):
                of_name = self._found_of(name, describe)
                found.update(of_name)
                count += sum(map(len, of_name.values()))
                if count >= MOST_FOUND:
                    break
        return found

    def _found_of(
        self, name: str, describe: Callable[[str, _Place, float], T]
    ) -> dict[str, list[T]]:
        with self._guard:
            now = self._clock()
            places = self._names.get(name, {}).items()
            alive = [describe(url, place, now) for url, place in places if place.expires > now]
        return {name: alive} if alive else {}

    def _matching(self, pattern: str, after: str) -> Iterator[str]:
        """Find the names behind `after` that a pattern matches, in order."""
        wildcard = _WILDCARD.search(pattern)
        matches = _matcher(pattern) if wildcard is not None else None
        if wildcard is None or matches is None:
            return
        # Only the names that begin as the pattern does are looked at.
        beginning = pattern[: wildcard.start()]
        index = bisect_left(self._ordered, beginning)
        if after >= beginning:
            index = bisect_right(self._ordered, after)
        while names := self._ordered[index : index + _AT_ONCE]:
            for name in names:
                if not name.startswith(beginning):
                    return
                if matches(name):
                    yield name
            if is_patched():
                let_others_run()
            index = bisect_right(self._ordered, names[-1])

    # Inside, with the guard held

    def _alive(self, name: str, url: str, instance: str | None, now: float) -> _Instance | None:
        """Return the instance, unless it has expired: one that comes back is a new one."""
        place = self._names.get(name, {}).get(url)
        known = place.instances.get(instance) if place is not None else None
        if place is None or known is None or known.expires > now:
            return known
        self._drop(name, url, place, instance)
        return None

    def _insert(self, new: Registration, now: float) -> None:
        places = self._names.get(new.name)
        if places is None:
            places = self._names[new.name] = {}
            insort(self._ordered, new.name)
        place = places.get(new.url)
        if place is not None and place.expires <= now:
            for each in list(place.instances):
                self._drop(new.name, new.url, place, each)
            return self._insert(new, now)
        if place is None:
            place = places[new.url] = _Place(now)
        end = now + self._lifetime(new.interval)
        place.instances[new.instance] = _Instance(new.interval, now, end)
        place.expires = max(place.expires, end)
        self._count += 1
        self._report(new, True)
        return None

    def _renew(self, pinged: Registration, known: _Instance, now: float) -> None:
        place = self._names[pinged.name][pinged.url]
        was_last = known.expires == place.expires
        known.pinged = now
        known.expires = now + self._lifetime(pinged.interval)
        if known.expires >= place.expires:
            place.expires = known.expires
        elif was_last:  # its interval has become shorter
            place.renew()
        if known.interval != pinged.interval:
            known.interval = pinged.interval
            self._report(pinged, True)

    def _drop(self, name: str, url: str, place: _Place, instance: str | None) -> None:
        known = place.instances.pop(instance)
        self._count -= 1
        if place.instances:
            if known.expires == place.expires:
                place.renew()
        else:
            places = self._names[name]
            del places[url]
            if not places:
                del self._names[name]
                del self._ordered[bisect_left(self._ordered, name)]
        self._report(Registration(name, url, instance, known.interval), False)

    def _report(self, registration: Registration, present: bool) -> None:
        if self.on_change is not None:
            self.on_change(registration, present)

    def _lifetime(self, interval: float) -> float:
        return MISSED_PINGS * interval if self._ttl is None else self._ttl

    def _bury(self, key: tuple[str, str], now: float) -> None:
        stones = self._tombstones
        stones.pop(key, None)  # to the end of the order
        stones[key] = now + TOMBSTONE_SECONDS
        while len(stones) > self._max_tombstones:
            del stones[next(iter(stones))]

    def _make_room(self, name: str, now: float) -> None:
        places = self._names.get(name, {})
        if sum(len(place.instances) for place in places.values()) >= self._max_per_name:
            self._sweep_name(name, now)
            places = self._names.get(name, {})
            if sum(len(place.instances) for place in places.values()) >= self._max_per_name:
                raise DirectoryFull(f"{name} has {self._max_per_name} entries, which is the most")
        if self._count >= self._max_entries:
            raise DirectoryFull(f"there are {self._max_entries} entries, which is the most")

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP_SECONDS
        for name in list(self._names):
            self._sweep_name(name, now)
        for key, end in list(self._tombstones.items()):
            if end > now:
                break
            del self._tombstones[key]

    def _sweep_name(self, name: str, now: float) -> None:
        expired = [
            (url, place, instance)
            for url, place in self._names[name].items()
            for instance, known in place.instances.items()
            if known.expires <= now
        ]
        for url, place, instance in expired:
            self._drop(name, url, place, instance)


@functools.lru_cache(maxsize=512)
def _matcher(pattern: str) -> Callable[[str], object] | None:
    try:
        return re.compile(fnmatch.translate(pattern)).match
    except re.error:  # before Python 3.11 of a range that is the wrong way round, [z-a]
        return None


def _describe(url: str, place: _Place, now: float) -> Listed:
    alive = [known for known in place.instances.values() if known.expires > now]
    last = max(alive, key=lambda known: known.pinged)
    silence = now - last.pinged
    late = silence > LATE_AFTER * last.interval
    return Listed(url, len(alive), now - place.since, silence, late)
