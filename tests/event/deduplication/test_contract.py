"""What all stores of handled events promise; those of several processes with real ones."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from gemstone_sync.event.deduplication import Claim
from tests.support.programs import program
from tests.support.waiting import LIMIT, gather, wait_until

LONG = 60.0
SHORT = 0.2


@pytest.fixture
def store(place):
    return place.store()


def is_over(began: float, seconds: float) -> bool:
    """Tell whether the machine stood still so long that what was to end later has ended already."""
    return time.monotonic() - began >= seconds


def claimable(store: Any, key: str, owner: str) -> Callable[[], bool]:
    return lambda: store.claim(key, owner, LONG) is Claim.OURS


def test_one_owner_gets_an_event_and_no_other_until_it_is_released(store):
    assert store.claim("e", "a", LONG) is Claim.OURS
    store.release("e", "b")
    store.renew("e", "b", 0.001)
    assert store.claim("e", "b", LONG) is Claim.BUSY
    assert store.claim("e", "a", LONG) is Claim.OURS
    assert store.claim("other", "b", LONG) is Claim.OURS
    # What failed can be claimed again.
    store.release("e", "a")
    assert store.claim("e", "b", LONG) is Claim.OURS


def test_what_was_handled_is_dropped(store):
    store.claim("e", "a", LONG)
    for key in ("e", "without a claim"):
        store.done(key, "a")
        store.release(key, "a")
        store.renew(key, "a", 0.001)
        assert store.claim(key, "a", LONG) is Claim.DONE
        assert store.claim(key, "b", LONG) is Claim.DONE


def test_a_claim_ends_with_its_lease_unless_it_is_renewed(store):
    store.claim("renewed", "a", SHORT)
    store.renew("renewed", "a", LONG)
    began = time.monotonic()
    store.claim("left", "a", SHORT)
    early = store.claim("left", "b", LONG)
    assert early is Claim.BUSY or is_over(began, SHORT)
    wait_until(claimable(store, "left", "b"), "the end of the lease")
    assert store.claim("renewed", "b", LONG) is Claim.BUSY
    # What is handled after its lease counts as handled.
    store.done("left", "a")
    assert store.claim("left", "b", LONG) is Claim.DONE


def test_after_the_window_an_event_is_new(place):
    store = place.store(window=SHORT)
    store.claim("e", "a", LONG)
    began = time.monotonic()
    store.done("e", "a")
    early = store.claim("e", "b", LONG)
    assert early is Claim.DONE or is_over(began, SHORT)
    wait_until(claimable(store, "e", "b"), "the end of the window")


def test_keys_of_any_text(store):
    for key in ("", "a:b", "a\0b", "é 🚀", "\ud800", "*", "x" * 1000):
        assert store.claim(key, "a", LONG) is Claim.OURS
        store.done(key, "a")
        assert store.claim(key, "a", LONG) is Claim.DONE
        assert store.claim(f"{key}!", "a", LONG) is Claim.OURS


def test_of_many_greenlets_and_real_threads_at_once_one_gets_it(store):
    pool = gevent.get_hub().threadpool

    def claim(owner):
        return store.claim("e", owner, LONG)

    in_threads = [pool.spawn(claim, f"thread {n}") for n in range(5)]
    in_greenlets = gather([lambda n=n: claim(f"greenlet {n}") for n in range(50)])
    claims = [*in_greenlets, *(result.get(timeout=LIMIT) for result in in_threads)]

    assert Counter(claims) == {Claim.OURS: 1, Claim.BUSY: 54}


def test_a_closed_store_opens_again(store):
    store.close()
    store.close()
    store.done("e", "a")
    store.close()
    assert store.claim("e", "a", LONG) is Claim.DONE


def test_two_stores_of_one_place_have_one_memory(shared_place):
    one, other = shared_place.store(), shared_place.store()
    one.claim("claimed", "a", LONG)
    one.done("handled", "a")
    assert other.claim("claimed", "b", LONG) is Claim.BUSY
    assert other.claim("handled", "b", LONG) is Claim.DONE


IMPORTS = """
import os, sys
from gemstone_sync.event.deduplication import *
store = {expression}
"""
PATCHED = "from gemstone_sync.concurrency import patch; patch()\n"

RACER = """
won = [key for key in map(str, range(200)) if store.claim(key, str(os.getpid()), 60) is Claim.OURS]
for key in won:
    store.done(key, str(os.getpid()))
print(*won)
"""


def test_of_several_processes_each_event_goes_to_one(shared_place, tmp_path):
    source = IMPORTS.format(expression=shared_place.expression) + RACER

    def won(start):
        folder = tmp_path / f"patched is {bool(start)}"
        folder.mkdir()
        with program(start + source, folder) as racer:
            assert racer.wait() == 0, racer.stderr
            return racer.stdout.split()

    winners = [key for keys in gather([lambda: won(PATCHED), lambda: won("")]) for key in keys]

    assert sorted(winners) == sorted(map(str, range(200)))
    assert shared_place.store().claim("7", "late", LONG) is Claim.DONE


HOLDER = """
store.claim("long", "holder", 60)
store.claim("short", "holder", 1)
store.claim("handled", "holder", 60)
store.done("handled", "holder")
print("holds", flush=True)
sys.stdin.close()
import time; time.sleep(60)
"""


@pytest.mark.slow  # a process that is killed
def test_what_a_killed_process_had_claimed_comes_back(shared_place, tmp_path):
    source = IMPORTS.format(expression=shared_place.expression) + HOLDER
    store = shared_place.store()
    with program(source, tmp_path) as holder:
        holder.wait_until(lambda: "holds" in holder.stdout, "its claims")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_until(claimable(store, "short", "heir"), "the end of the lease")
        assert store.claim("long", "heir", LONG) is Claim.BUSY
        assert store.claim("handled", "heir", LONG) is Claim.DONE


PLAIN = """
import threading
claims = []
def claim(number):
    for key in range(50):
        claims.append(store.claim(str(key), str(number), 60))
threads = [threading.Thread(target=claim, args=[n]) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert claims.count(Claim.OURS) == 50 and len(claims) == 200, claims
"""

FORKER = """
assert store.claim("parent", "parent", 60) is Claim.OURS
import warnings
# Python 3.12 counts threads that have been joined, until the system has let go of them.
warnings.filterwarnings("ignore", "This process .* is multi-threaded")
child = os.fork()
if child == 0:
    assert store.claim("parent", "child", 60) is Claim.BUSY
    assert store.claim("child", "child", 60) is Claim.OURS
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert store.claim("child", "parent", 60) is Claim.BUSY
assert store.claim("parent", "parent", 60) is Claim.OURS
store.close()
"""

UNTOUCHED = 'assert not getattr(sys.modules.get("gevent.monkey"), "saved", None)'


@pytest.mark.parametrize("start", [PATCHED, ""], ids=["patched", "plain"])
def test_threads_and_forks_share_a_store(shared_place, run_python, start):
    source = start + IMPORTS.format(expression=shared_place.expression) + PLAIN + FORKER
    ended = run_python(source + (UNTOUCHED if not start else ""))
    assert (ended.returncode, ended.stderr) == (0, "")
