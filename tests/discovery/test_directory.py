"""The directory: what is pinged is found, what is not goes, and a goodbye counts."""

import time

import gevent
import pytest

from gemstone_sync.discovery.directory import (
    DEFAULT_INTERVAL,
    MOST_FOUND,
    SWEEP_SECONDS,
    TOMBSTONE_SECONDS,
    Directory,
    DirectoryFull,
    Registration,
)

A, B, C = "http://a:1/api", "http://b:2/api", "http://c:3/api"


class Clock:
    """Time that the test moves."""

    now = 1000.0

    def __call__(self):
        return self.now

    def move(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def directory(clock):
    return Directory(clock=clock)


def test_what_was_pinged_is_found_once(directory):
    for _ in range(3):
        assert directory.add("users", A, "one")
    directory.add("users", B)
    directory.add("orders", C)

    assert directory.locate("users") == [A, B]
    assert directory.locate("orders") == [C]
    assert directory.locate("Users") == directory.locate("") == []
    assert len(directory) == 3


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["shop.Users", "shop.workers.01", "shop.workers.02"]),
        ("*.workers.0[2-9]", ["shop.workers.02"]),
        ("shop.[a-z]*", ["shop.workers.01", "shop.workers.02"]),
        *((pattern, []) for pattern in ("?", "[", "shop.[", "shop.workers.0[", "[!]*")),
        *((f"shop.workers.0{end}", []) for end in ("[]", "[z-a]", "\n*")),
    ],
)
def test_patterns(directory, pattern, found):
    for name in ("shop.workers.02", "shop.workers.01", "shop.Users"):
        directory.add(name, f"http://{name}/api")

    assert directory.locate(pattern) == [f"http://{name}/api" for name in found]
    assert list(directory.listing(pattern)) == found


def test_a_pattern_made_to_be_slow_is_not(directory):
    """A plain regular expression would take longer than anybody can wait."""
    directory.add("a" * 120, A)

    assert directory.locate("*a" * 60 + "*b") == []


def test_a_pattern_sees_names_that_came_and_went_since_and_each_url_once(directory):
    directory.add("b", B)
    assert directory.locate("?") == [B]
    directory.add("a", A)
    directory.add("a", B)
    assert directory.locate("?") == [A, B]
    directory.remove("a", A)
    directory.remove("a", B)
    assert directory.locate("?") == [B]


@pytest.mark.parametrize(
    ("ttl", "interval", "life"),
    [
        pytest.param(None, 10, 30, id="three missed pings"),
        pytest.param(None, 30, 90, id="of the default interval"),
        pytest.param(None, 0.001, 0.3, id="the least"),
        pytest.param(None, 1e9, 3 * 3600, id="the most"),
        pytest.param(5, 100, 5, id="the directory's own"),
    ],
)
def test_how_long_an_entry_lives(clock, ttl, interval, life):
    directory = Directory(ttl=ttl, clock=clock)
    options = {} if interval == DEFAULT_INTERVAL else {"interval": interval}
    for _ in range(3):  # a ping begins a new life
        directory.add("users", A, "one", **options)
        clock.move(life * 0.99)
        assert directory.locate("users") == directory.locate("u*") == [A]

    clock.move(life * 0.02)

    assert directory.locate("users") == directory.locate("u*") == []
    assert directory.listing() == {}


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(directory, interval):
    with pytest.raises(ValueError, match="seconds above 0"):
        directory.add("users", A, interval=interval)
    assert directory.locate("users") == []


def test_the_clock_of_the_wall_has_no_part_in_it(monkeypatch):
    directory = Directory()
    directory.add("users", A)
    monkeypatch.setattr(time, "time", lambda: 4e9)  # a day in 2096

    assert directory.locate("users") == [A]
    assert directory.listing()["users"][0].age < 60


def test_expired_entries_take_no_memory(directory, clock):
    for number in range(100):
        directory.add(f"service.{number}", A, interval=1)
    clock.move(SWEEP_SECONDS)
    directory.add("users", B)
    assert len(directory) == 1

    clock.move(1000)
    directory.sweep()
    assert len(directory) == 0
    assert directory.registrations() == []


def test_each_instance_of_a_shared_entry_has_its_own_time(directory, clock):
    directory.add("users", A, "brief", interval=100)
    directory.add("users", A, "brief", interval=1)  # a shorter interval counts from its first ping
    directory.add("users", A, "long", interval=10)
    directory.add("users", A, "longest", interval=100)
    directory.remove("users", A, "longest")
    assert directory.listing()["users"][0].instances == 2
    clock.move(3.1)
    assert directory.locate("users") == [A]
    assert directory.listing()["users"][0].instances == 1
    clock.move(27)

    assert directory.locate("users") == []


def test_goodbye_without_an_instance_takes_the_url_whole(directory):
    for instance in ("one", "two", None):
        directory.add("users", A, instance)
    directory.add("users", B, "three")
    for not_there in (("users", C), ("users", A, "three"), ("orders", A, "one")):
        assert not directory.remove(*not_there)
    assert len(directory) == 4

    assert directory.remove("users", A)

    assert directory.locate("users") == [B]
    assert len(directory) == 1


def test_a_late_ping_does_not_undo_a_goodbye(directory, clock):
    directory.add("users", A, "one")
    directory.remove("users", A, "one")
    directory.remove("users", B, "one")  # it is not known: the registry was started again since

    assert not directory.add("users", A, "one")
    clock.move(TOMBSTONE_SECONDS - 1)
    assert not directory.add("users", A, "one")
    assert not directory.add("users", B, "one")
    assert directory.locate("users") == []
    assert directory.add("users", A, "two"), "another instance at the same URL"
    assert directory.add("orders", A, "one"), "another name"
    clock.move(1)
    assert directory.add("users", A, "one"), "a goodbye is forgotten in the end"


def test_the_oldest_goodbyes_are_forgotten_first(clock):
    directory = Directory(max_tombstones=2, clock=clock)
    for instance in ("one", "two", "one", "three"):
        directory.remove("users", A, instance)

    taken = [directory.add("users", A, each) for each in ("one", "two", "three")]
    assert taken == [False, True, False]


@pytest.mark.parametrize(
    ("limits", "told"), [({"max_per_name": 2}, "users has 2"), ({"max_entries": 2}, "2 entries")]
)
def test_a_name_and_the_whole_have_a_limit(clock, limits, told):
    directory = Directory(**limits, clock=clock)
    directory.add("users", A, "one", interval=1)
    directory.add("users", A, "two")
    with pytest.raises(DirectoryFull, match=told):
        directory.add("users", B)

    assert directory.locate("users") == [A]
    assert directory.add("users", A, "one", interval=1), "what is known already may ping"
    clock.move(SWEEP_SECONDS)
    assert directory.add("users", B), "what has expired makes room"
    if "max_per_name" in limits:
        assert directory.add("orders", B)


def test_the_listing(directory, clock):
    directory.add("users", A, "one", interval=10)
    clock.move(12)
    directory.add("users", A, "two", interval=10)
    directory.add("orders", B, interval=4)
    clock.move(7)

    listing = directory.listing()
    assert list(listing) == ["orders", "users"]
    assert listing["users"] == [(A, 2, 19, 7, False)]
    assert listing["orders"] == [(B, 1, 7, 7, True)]
    clock.move(100)
    directory.add("orders", B, interval=4)
    assert directory.listing() == {"orders": [(B, 1, 0, 0, False)]}, "one that is back is new"


def test_changes_are_told_and_pings_are_not(clock):
    told = []
    directory = Directory(clock=clock, on_change=lambda *change: told.append(change))
    directory.add("users", A, "one", interval=10)
    directory.add("users", A, "one", interval=10)
    directory.add("users", A, "one", interval=1)
    directory.remove("users", B, "two")
    clock.move(4)
    directory.sweep()

    assert told == [
        (Registration("users", A, "one", 10), True),
        (Registration("users", A, "one", 1), True),
        (Registration("users", A, "one", 1), False),
    ]


def test_what_is_told_adds_up_to_what_is_known(clock):
    """Whatever happens: who follows the changes knows what the directory knows."""
    known = {}

    def follow(registration, present):
        key = registration[:3]
        if present:
            known[key] = registration.interval
        else:
            del known[key]

    directory = Directory(max_per_name=3, clock=clock, on_change=follow)
    state = 1
    for _ in range(5000):
        state = state * 48271 % 2147483647  # the same numbers in every run
        name, url = f"n{state % 3}", f"http://h{state // 3 % 3}/api"
        instance = (None, "one", "two")[state // 9 % 3]
        if state // 27 % 4 == 0:
            directory.remove(name, url, instance)
        else:
            try:
                directory.add(name, url, instance, 1 + state // 108 % 5)
            except DirectoryFull:
                assert sum(key[0] == name for key in known) == 3
        clock.move(state // 540 % 40 / 10)
        assert known == {r[:3]: r.interval for r in directory.registrations()}
        assert len(directory) == len(known)


# Thousands of names


@pytest.fixture
def crowded(directory):
    for number in range(3000):
        directory.add(f"n{number:04}", f"http://a:{number}/api")
    return directory


def test_a_pattern_finds_so_many_urls_and_no_more(crowded):
    assert len(crowded.locate("*")) == MOST_FOUND
    assert crowded.locate("n29*") == [f"http://a:{number}/api" for number in range(2900, 3000)]


def test_a_listing_leads_to_the_next(crowded):
    crowded.add("n1000", "http://b:1/api")
    names, last = [], ""
    while page := crowded.listing("n*", after=last):
        assert sum(map(len, page.values())) <= MOST_FOUND + 1
        names += page
        last = names[-1]
    assert names == [f"n{number:04}" for number in range(3000)]
    assert crowded.listing("n2999") == crowded.listing("*", after="n2998")
    assert crowded.listing("n1000", after="n1000") == {}


def test_names_stay_in_order_as_they_come_and_go(directory):
    for name in ("b", "d", "a", "c", "b"):
        directory.add(name, A)
    directory.remove("b", A)
    directory.add("aa", A)
    assert list(directory.listing()) == ["a", "aa", "c", "d"]


def test_others_get_their_turn_while_a_pattern_is_looked_for(crowded):
    """The directory may change while it is looked through."""
    turns = []

    def come_and_go():
        while len(turns) < 1000:
            crowded.remove(f"n{len(turns):04}", f"http://a:{len(turns)}/api")
            crowded.add(f"x{len(turns)}", A)
            turns.append(crowded.locate("n2999"))
            gevent.sleep(0)

    other = gevent.spawn(come_and_go)
    searches = [gevent.spawn(crowded.locate, "*999*") for _ in range(3)]
    gevent.joinall(searches, raise_error=True)
    other.kill()
    assert len(turns) >= 9
    assert {tuple(turn) for turn in turns} == {("http://a:2999/api",)}
    for search in searches:
        assert "http://a:2999/api" in search.value
