"""Queues in a Redis: `RedisStore`.

What happens to the keys is in `scripts`, the connections are in `gemstone_sync.redis`. Here are the
routing, which is done before a script runs, and the knowledge of when there is something to take.

Kombu's own Redis transport takes a message with BRPOP and notes that it did in a second command:
what is killed in between loses the message. Here taking and leasing are one script.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ....concurrency import is_patched
from ....errors import StoreFault
from ....redis import Argument, RedisClient, Script
from ...wakeups import readable
from ..stores.store import Binding, Entry, KnownBindings, QueueStore, Stored, route
from . import scripts as scripts
from .subscription import Subscription

__all__ = ["RedisStore"]

#: Seconds after which `changed` says True without having been told: for a subscription that
#: has died without a word.
_AT_LEAST = 1.0
#: How often bindings may change in the middle of one publish before something is wrong.
_ATTEMPTS = 10
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

#: Routes kept; an application whose event names have no end must not fill the memory.
_ROUTES = 10_000


class RedisStore(QueueStore):
    """Queues in a Redis, from version 6 on; not in a Redis Cluster.

    :param url: ``redis://[user:password@]host[:port][/database]``; ``rediss://`` for TLS,
        ``unix://`` for a socket.
    :param prefix: how each key starts: stores with another one know nothing of each other.
    :param connect_timeout: seconds to connect.
    :param timeout: seconds for an answer.
    :param known: for publishers: shared by all the stores over which one process publishes.
    :raises ServiceConfigurationError: when one of them cannot be used, or redis-py is missing.

    What `publish` has returned for outlives a crash of Redis only as far as Redis is set up to:
    ``appendonly yes`` with ``appendfsync always`` for all of it, the default ``everysec`` for all
    but the last second. Times are those of Redis's clock.

    A store serves one link, which declares again after a `StoreFault`: a Redis that was emptied
    meanwhile is one.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "{gemstone-events}:",
        connect_timeout: float = 2,
        timeout: float = 10,
        known: KnownBindings | None = None,
    ) -> None:
        self._known = known
        self._client = RedisClient(
            url, connect_timeout=connect_timeout, timeout=timeout, user="RedisStore"
        )
        self._key = _bytes(f"{prefix}epoch")
        self._channel = _bytes(f"{prefix}changed")
        #: A greenlet that waits for a patched socket does not hold up the others.
        self.blocks = not is_patched()
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._epoch: bytes | None = None
        self._routes: _Routes | None = None
        self._subscription: Subscription | None = None
        self._tokens = itertools.count(1)
        self._token = uuid.uuid4().hex[:12]
        #: By queue: when something may be there to take without anybody saying so.
        self._moments: dict[str, float] = {}
        self._look_at = 0.0

    def __repr__(self) -> str:
        return f"RedisStore({self._client.shown!r})"

    def open(self) -> None:
        if os.getpid() != self._process:
            self._forget()  # what is there is the parent's
        self.blocks = not is_patched()
        epoch = self._client.run(scripts.OPEN, self._key, uuid.uuid4().hex)
        if not isinstance(epoch, bytes) or len(epoch) != 32:
            raise StoreFault(
                f"{self._client.shown}: what answers is no Redis, or {self._key!r} is "
                "used by others: set another prefix"
            )
        self._epoch, self._routes = epoch, None

    def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        self._client.close()
        self._epoch = None

    def leave_thread(self) -> None:
        self._client.leave_thread()

    # Declaring

    def declare_exchange(self, exchange: str, kind: str) -> None:
        self._run(scripts.DECLARE_EXCHANGE, _bytes(exchange), kind)

    def declare_queue(
        self,
        queue: str,
        *,
        expires: float | None = None,
        delivery_limit: int | None = None,
        dead_letter_queue: str | None = None,
    ) -> None:
        self._run(
            scripts.DECLARE_QUEUE,
            _bytes(queue),
            "" if expires is None else _milliseconds(expires),
            "" if delivery_limit is None else delivery_limit,
            "" if dead_letter_queue is None else _bytes(dead_letter_queue),
        )

    def delete_queue(self, queue: str) -> None:
        self._run(scripts.DELETE_QUEUE, _bytes(queue))
        self._moments.pop(queue, None)

    def bind(self, exchange: str, pattern: str, queue: str) -> None:
        missing = self._run(scripts.BIND, _bytes(exchange), _bytes(pattern), _bytes(queue))
        if missing is not None:
            raise StoreFault(f"{self._client.shown}: there is no queue {queue!r} to bind")

    def unbind(self, exchange: str, pattern: str, queue: str) -> None:
        self._run(scripts.UNBIND, _bytes(exchange), _bytes(pattern), _bytes(queue))

    def bindings(self, exchange: str) -> list[tuple[str, str]]:
        return self._fetch_routes().bindings.get(exchange, [])

    def touch(self, queues: Sequence[str], bindings: Sequence[Binding] = ()) -> None:
        packed = [[_raw(_bytes(text)) for text in each] for each in (queues, *bindings)]
        if missing := self._run(scripts.TOUCH, _pack([packed[0], packed[1:]])):
            names = ", ".join(map(_text, missing))
            raise StoreFault(f"{self._client.shown}: not there any more: {names}")

    # Messages

    def publish(self, entries: Sequence[Entry]) -> list[int]:
        if not entries:
            return []
        for _ in range(_ATTEMPTS):
            routes = self._routes or self._fetch_routes()
            packed = [
                (
                    _raw(entry.payload),
                    _lane(entry.key),
                    math.ceil(entry.due * 1000),
                    routes.queues_of(entry.exchange, entry.routing_key),
                    "missed" if self._is_missed(entry) else entry.exchange,
                )
                for entry in entries
            ]
            results = self._run(scripts.PUBLISH, routes.version, _pack(packed))
            if results != b"stale":
                return results  # type: ignore[no-any-return]
            self._routes = None
        raise StoreFault(f"{self._client.shown}: bindings change all the time")

    def take(self, wanted: Sequence[tuple[str, int]], lease: float) -> list[Stored]:
        if not wanted:
            return []
        self._subscribe()
        token = f"{self._token}{next(self._tokens)}"
        arguments: list[Argument] = [token, _milliseconds(lease)]
        for queue, number in wanted:
            arguments += (_bytes(queue), number)
        packed, payloads = self._run(scripts.TAKE, *arguments)
        now = time.monotonic()
        taken, end = [], 0
        for (queue, _), (left, *found) in zip(wanted, _unpack(packed), strict=True):
            self._moments[queue] = now + left / 1000 if left >= 0 else math.inf
            for member, length, deliveries in zip(*[iter(found)] * 3, strict=True):
                start, end = end, end + length
                taken.append(Stored(f"{member}:{queue}", queue, payloads[start:end], deliveries))
        self._look_at = min(now + _AT_LEAST, *self._moments.values())
        return taken

    def acknowledge(self, ids: Sequence[str]) -> int:
        return self._run(scripts.ACKNOWLEDGE, _members(ids)) if ids else 0

    def release(self, ids: Sequence[str]) -> None:
        if ids:
            self._run(scripts.RELEASE, _members(ids))

    def renew(self, ids: Sequence[str], lease: float) -> None:
        if ids:
            self._run(scripts.RENEW, _members(ids), _milliseconds(lease))

    def size(self, queue: str) -> int:
        return self._run(scripts.SIZE, _bytes(queue))  # type: ignore[no-any-return]

    def purge(self, queue: str) -> int:
        return self._run(scripts.PURGE, _bytes(queue))  # type: ignore[no-any-return]

    # Waiting

    def changed(self) -> bool:
        # The subscription is `take`'s to make, which may wait; here it is for who never takes.
        told = self._subscribe() or self._subscription is None or self._subscription.has_news()
        now = time.monotonic()
        if not told and now < self._look_at:
            return False
        # Said once: what has become due is nothing new the next time.
        self._moments = {q: at if at > now else math.inf for q, at in self._moments.items()}
        self._look_at = min(now + _AT_LEAST, *self._moments.values(), math.inf)
        return True

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        if self._subscription is None or self._subscription.is_over:
            yield  # `changed` says so
        else:
            with readable(self._subscription.descriptor, wake):
                yield

    def seconds_left(self) -> float:
        return max(0.0, self._look_at - time.monotonic())

    def _subscribe(self) -> bool:
        """See to it that there is a subscription; True when it is a new one."""
        if os.getpid() != self._process:
            self.open()
        if self._subscription is not None:
            if not self._subscription.is_over:
                return False
            self._subscription.close()
        with self._client.faults():
            self._subscription = Subscription(self._client.new_connection(), self._channel)
        return True

    # Running scripts

    def _run(self, script: Script, *arguments: Argument) -> Any:
        if self._epoch is None or os.getpid() != self._process:
            self.open()
        assert self._epoch is not None
        result = self._client.run(script, self._key, self._epoch, *arguments)
        if result == b"emptied":
            self._epoch = None
            raise StoreFault(
                f"{self._client.shown}: it was emptied, or started again without what it held: "
                "queues must be declared again"
            )
        return result

    def _fetch_routes(self) -> _Routes:
        version, *exchanges = self._run(scripts.ROUTES)
        self._routes = routes = _Routes(version, exchanges)
        if self._known is not None:
            self._known.learn(routes.lasting)
        return routes

    def _is_missed(self, entry: Entry) -> bool:
        known = self._known
        return known is not None and known.misses(entry.exchange, entry.routing_key)


class _Routes:
    """Where messages go, as it was at one version."""

    def __init__(self, version: bytes, exchanges: Sequence[Any]) -> None:
        self.version = version
        self.bindings: dict[str, list[tuple[str, str]]] = {}
        self._kinds: dict[str, str] = {}
        self._known: dict[tuple[str, str], list[msgspec.Raw]] = {}
        #: Those of queues that do not expire.
        self.lasting: list[Binding] = []
        for name, kind, flat in exchanges:
            texts = [_text(value) for value in flat]
            exchange = _text(name)
            self._kinds[exchange] = _text(kind)
            self.bindings[exchange] = bindings = []
            for pattern, queue, expires in zip(*[iter(texts)] * 3, strict=True):
                bindings.append((pattern, queue))
                if not expires:
                    self.lasting.append((exchange, pattern, queue))

    def queues_of(self, exchange: str, routing_key: str) -> list[msgspec.Raw]:
        """The names of the queues; whether they exist, the script sees."""
        if not exchange:
            return [_raw(_bytes(routing_key))]
        queues = self._known.get((exchange, routing_key))
        if queues is None:
            kind, bindings = self._kinds.get(exchange, ""), self.bindings.get(exchange, [])
            queues = [_raw(_bytes(queue)) for queue in route(kind, bindings, routing_key)]
            if len(self._known) >= _ROUTES:
                self._known.clear()
            self._known[exchange, routing_key] = queues
        return queues


def _members(ids: Sequence[str]) -> bytes:
    """(queue, number:token) of each, packed."""
    members = []
    for id_ in ids:
        number, token, queue = id_.split(":", 2)
        members.append((_raw(_bytes(queue)), f"{number}:{token}"))
    return _pack(members)


def _lane(key: str | None) -> msgspec.Raw | str:
    if key is None:
        return ""
    text = _bytes(key)
    return _raw(b"%d:%b" % (len(text), text))


def _raw(data: bytes) -> msgspec.Raw:
    """Bytes as MessagePack's str, which need be no UTF-8 for Redis; its bin Redis does not know."""
    return msgspec.Raw(b"\xdb%b%b" % (len(data).to_bytes(4, "big"), data))


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
