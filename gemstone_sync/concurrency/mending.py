"""Replacing native locks, thread-locals and queues that are older than the patch, where they stand.

CPython counts the references to an object, and its garbage collector tells who holds them. Where
both agree every holder is known, and where the content of each can be replaced nobody is left with
the native object. Whatever anything else holds stays as it is, and so does what is in use: a lock
that is taken, and what a thread waits for (it holds a reference then).

As in `older_objects`, nothing of the program's is run or asked anything: dictionaries, lists and
cells are changed as they are, classes through `type`, instances through the descriptors that the
interpreter made for them.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import queue
import ssl
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gevent.monkey import get_original

from . import older_objects
from .doing import collector_paused
from .older_objects import attributes, home, is_settable, lineage, namespace

__all__ = ["mend_contexts", "replace_natives"]

#: Puts something else where an object was held.
_Put = Callable[[Any], None]

#: What is native on purpose: gevent's; what this package knows of native threads; our owners of
#: connections to brokers, which run in native threads where the process is not patched; what passes
#: reports of tests on.
_ON_PURPOSE = (
    "gevent.",
    "greenlet.",
    "gemstone_sync.concurrency.",
    "gemstone_sync.event.",
    "gemstone_sync.testing.",
)


def mend_contexts() -> None:
    """Have TLS contexts, and classes of them, go on as gevent's, whose methods alone are others.

    The old methods look for their own class by its name, and find gevent's: whatever is set on a
    context is set for ever.
    """
    native, current = get_original("ssl", "SSLContext"), ssl.SSLContext
    for one in gc.get_objects():
        if type(one) is native:
            one.__class__ = current
    for cls in type.__subclasses__(native):
        if type(cls) is type and cls is not current:
            cls.__bases__ = tuple(current if base is native else base for base in cls.__bases__)


def replace_natives() -> bool:
    """Replace what nobody uses just now; to be called after the patch.

    :returns: whether locks or queues are left that greenlets may come to wait for.
    """
    with _undisturbed():
        natives = [one for one in gc.get_objects() if id(type(one)) in _REPLACEMENTS]
        # Thread-locals last: what they hold is copied, and may be a lock.
        natives.sort(key=lambda one: type(one) is older_objects.LOCAL)
        held = _Held(natives)
        left = [number for number in range(len(natives)) if not held.replace(number)]
        if any(type(natives[number]) is older_objects.SIMPLE_QUEUE for number in left):
            _keep_executors_to_their_threads()
        return any(held.may_block(number) for number in left)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no other thread run meanwhile, and no finalizer."""
    interval = sys.getswitchinterval()
    with collector_paused():
        sys.setswitchinterval(1000)
        if len(sys._current_frames()) > 1:
            get_original("time", "sleep")(0.001)  # whoever waits to run has the old interval
        try:
            yield
        finally:
            sys.setswitchinterval(interval)


def _keep_executors_to_their_threads() -> None:
    """Let executors that have native threads begin no more: greenlets would wait for work natively.

    Those threads go on to work, and greenlets can wait for what they do.
    """
    for one in gc.get_objects():
        if issubclass(type(one), ThreadPoolExecutor):
            has = attributes(one) or {}
            threads = has.get("_threads")
            if type(has.get("_work_queue")) is older_objects.SIMPLE_QUEUE and type(threads) is set:
                has["_max_workers"] = len(threads) or has["_max_workers"]


#: By identity, as a metaclass may compare as it likes. `functools.lru_cache` keeps a dict.
_DICTS = {id(dict), id(collections.defaultdict), id(collections.OrderedDict)}


class _Held:
    """Native objects, and who holds them.

    A condition keeps methods of its lock (``lock.acquire``), which hold the lock: whoever holds one
    of them is given the new lock's.
    """

    def __init__(self, natives: list[Any]) -> None:
        every = gc.get_objects()
        self._natives = natives
        self._methods = [one for one in every if _is_method_of_native(one)]
        self._methods_of: dict[int, list[int]] = {}
        for number, method in enumerate(self._methods):
            self._methods_of.setdefault(id(method.__self__), []).append(number)
        #: By identity: who holds it, once for each reference.
        self._holders: dict[int, list[Any]] = {id(one): [] for one in natives + self._methods}
        wanted = (*natives, *self._methods)
        ours = {id(one) for one in (every, natives, wanted, self._methods, *self._methods)}
        for holder in _holders_of(wanted, every):
            if id(holder) not in ours:
                for one in gc.get_referents(holder):
                    if id(one) in self._holders:
                        self._holders[id(one)].append(holder)
        classes = [one for one in every if issubclass(type(one), type)]
        self._classes = {id(gc.get_referents(namespace(cls))[0]): cls for cls in classes}
        self._left_alone = _native_on_purpose(every, classes)

    def replace(self, number: int) -> bool:
        """Replace a native object everywhere; False when that cannot be done wholly."""
        references = _references(self._natives, number)
        native = self._natives[number]
        make_new, hand_over = _REPLACEMENTS[id(type(native))]
        new = make_new()
        methods = self._methods_of.get(id(native), [])
        changes = [(self._puts(native, references - len(methods)), new)]
        for n in methods:
            references = _references(self._methods, n)
            name = self._methods[n].__name__
            changes.append((self._puts(self._methods[n], references), getattr(new, name, None)))
        if any(puts is None or value is None for puts, value in changes):
            return False
        if not hand_over(native, new):
            return False
        for puts, value in changes:
            for put in puts or ():
                put(value)
        return True

    def may_block(self, number: int) -> bool:
        """Tell whether what was left of old is neither native on purpose nor a thread's own.

        A native RLock belongs to the thread, and lets all of its greenlets in.
        """
        native = self._natives[number]
        own = getattr(threading, "_shutdown_locks", None)  # until Python 3.12
        return (
            (type(native) is older_objects.LOCK or type(native) is older_objects.SIMPLE_QUEUE)
            and not any(one is own for one in self._holders[id(native)])
            and not any(id(one) in self._left_alone for one in self._holders[id(native)])
        )

    def _puts(self, one: Any, references: int) -> list[_Put] | None:
        """Find every place of an object; None when it is held in some other way too."""
        holders = self._holders[id(one)]
        if len(holders) != references:
            return None
        puts: list[_Put] = []
        for holder in {id(holder): holder for holder in holders}.values():
            if id(holder) not in self._left_alone:
                puts += self._places(holder, one)
        return puts if len(puts) == references else None

    def _places(self, holder: Any, one: Any) -> list[_Put]:
        """Find the places of an object in whatever holds it; none where it cannot be replaced."""
        cls = type(holder)
        if cls is types.CellType:
            return [functools.partial(setattr, holder, "cell_contents")]
        if cls is list or cls is collections.deque:
            return [
                functools.partial(holder.__setitem__, index)
                for index, value in enumerate(holder)
                if value is one
            ]
        if id(cls) not in _DICTS:
            found = attributes(holder)
            return _slots(holder, one) + ([] if found is None else self._places(found, one))
        waiters = holder.get("_waiters")
        if type(waiters) is collections.deque and waiters:
            return []  # a condition that threads wait for
        keys = [key for key, value in dict.items(holder) if value is one and _is_plain(key)]
        owner = self._classes.get(id(holder))
        if owner is None:
            return [functools.partial(holder.__setitem__, key) for key in keys]
        if not all(is_settable(owner, key) for key in keys):
            return []
        return [functools.partial(type.__setattr__, owner, key) for key in keys]


def _holders_of(wanted: tuple[Any, ...], every: list[Any]) -> list[Any]:
    if len(wanted) < 100:  # it looks at each of them for each reference: fast while they are few
        return gc.get_referrers(*wanted)
    ids, referents = {id(one) for one in wanted}, gc.get_referents
    return [one for one in every if not ids.isdisjoint(map(id, referents(one)))]


def _references(objects: list[Any], number: int) -> int:
    """Count who holds an object besides this list."""
    return sys.getrefcount(objects[number]) - _COUNTED


_PROBE = [object()]
#: What is counted of an object that nothing but a list holds.
_COUNTED = sys.getrefcount(_PROBE[0])


def _is_method_of_native(one: Any) -> bool:
    return type(one) is types.BuiltinMethodType and id(type(one.__self__)) in _REPLACEMENTS


def _native_on_purpose(every: list[Any], classes: list[type]) -> set[int]:
    """Find who may hold native objects: the identities of classes, instances and namespaces."""
    reserved = {id(cls) for cls in classes if f"{home(cls)}.".startswith(_ON_PURPOSE)}
    owners = [one for one in every if id(one) in reserved or id(type(one)) in reserved]
    namespaces = [
        vars(module)
        for name, module in list(sys.modules.items())
        if type(module) is types.ModuleType and f"{name}.".startswith(_ON_PURPOSE)
    ]
    dicts = [held for one in owners for held in gc.get_referents(one) if type(held) is dict]
    return {id(one) for one in (*owners, *namespaces, *dicts)}


def _is_plain(key: Any) -> bool:
    """Tell whether a key runs nothing of the program's when it is looked up."""
    cls = type(key)
    return cls is str or cls is int or (cls is tuple and all(map(_is_plain, key)))


def _slots(holder: Any, one: Any) -> list[_Put]:
    """Find the ``__slots__`` of an instance that hold an object."""
    members = [
        member
        for names in map(namespace, lineage(type(holder)))
        if "__slots__" in names
        for member in names.values()
        if type(member) is types.MemberDescriptorType
    ]
    puts: list[_Put] = []
    for member in members:
        with contextlib.suppress(AttributeError):  # one that was never set
            if member.__get__(holder) is one:
                puts.append(functools.partial(member.__set__, holder))
    return puts


# What comes in whose place. Looked up when it is called: gevent has replaced the names by then.


def _hand_over_lock(old: Any, new: Any) -> bool:
    return not old.locked()


def _hand_over_rlock(old: Any, new: Any) -> bool:
    if old._is_owned() or not old.acquire(blocking=False):
        return False
    old.release()
    return True


def _hand_over_queue(old: Any, new: Any) -> bool:
    while not old.empty():
        new.put(old.get_nowait())
    return True


def _hand_over_local(old: Any, new: Any) -> bool:
    """Keep the values of this thread; False when other threads have some of their own."""
    by_thread = [held for held in gc.get_referents(old) if type(held) is dict or type(held) is set]
    if any(len(held) > 1 for held in by_thread):
        return False
    for name, value in vars(old).items():
        setattr(new, name, value)
    return True


#: By the identity of the native type: what makes a new one, and what takes the old one's content
#: over, or tells that it is in use.
_REPLACEMENTS: dict[int, tuple[Callable[[], Any], Callable[[Any, Any], bool]]] = {
    id(older_objects.LOCK): (lambda: threading.Lock(), _hand_over_lock),
    id(older_objects.RLOCK): (lambda: threading.RLock(), _hand_over_rlock),
    id(older_objects.SIMPLE_QUEUE): (lambda: queue.SimpleQueue(), _hand_over_queue),
    id(older_objects.LOCAL): (lambda: threading.local(), _hand_over_local),
}
