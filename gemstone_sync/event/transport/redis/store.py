"""Queues in a Redis: `RedisStore`.

What happens to the keys is in ``store.lua``, the connections are in `gemstone_sync.redis`. Here are
the routing, which is done before the script runs, and the knowledge of when there is something to
take.

Kombu's own Redis transport takes a message with BRPOP and notes that it did in a second command:
what is killed in between loses the message. Here taking and leasing are one script.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import select
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from gevent import monkey

from ....concurrency import is_patched
from ....errors import StoreFault
from ....redis import Argument, RedisClient, Script
from ...wakeups import readable
from ..stores.store import Binding, Entry, KnownBindings, QueueStore, Routes, Stored, StoredQueue

__all__ = ["RedisStore"]

_SCRIPT = Script(Path(__file__).with_name("store.lua").read_text("utf-8"))
#: Seconds after which `changed` says True without having been told: for a subscription that
#: has died without a word.
_AT_LEAST = 1.0
#: How often bindings may change in the middle of one publish before something is wrong.
_ATTEMPTS = 10
#: The real one: a question that does not wait need not go through an event loop.
_poll = monkey.get_original("select", "poll")
_logger = logging.getLogger("gemstone_sync.event")
#: Each Redis that was asked whether it evicts keys.
_asked: set[str] = set()
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


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
    but the last second, and no ``maxmemory-policy`` that begins with ``allkeys-``. Times are those
    of Redis's clock.

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
        self._routes: Routes[msgspec.Raw, bytes] | None = None
        self._subscription: _Subscription | None = None
        self._tokens = itertools.count(1)
        self._token = uuid.uuid4().hex[:12]
        #: When something may be there to take without anybody saying so.
        self._look_at = 0.0

    def open(self) -> None:
        if os.getpid() != self._process:
            self._forget()  # what is there is the parent's
        self.blocks = not is_patched()
        epoch = self._client.run(_SCRIPT, self._key, "open", uuid.uuid4().hex)
        if not isinstance(epoch, bytes) or len(epoch) != 32:
            raise StoreFault(
                f"{self._client.shown}: what answers is no Redis, or {self._key!r} is "
                "used by others: set another prefix"
            )
        self._epoch, self._routes = epoch, None
        if self._client.shown not in _asked:
            _asked.add(self._client.shown)
            self._warn_of_eviction()

    def _warn_of_eviction(self) -> None:
        with contextlib.suppress(StoreFault):  # the user may not ask
            memory = self._client.ask(lambda client: client.info("memory"))
            policy = str(memory.get("maxmemory_policy"))
            if memory.get("maxmemory") and policy.startswith("allkeys-"):
                _logger.warning(
                    "%s: events that were confirmed vanish when memory is short, because of "
                    "maxmemory-policy %s: set noeviction, or a volatile- one",
                    self._client.shown,
                    policy,
                )

    def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        self._client.close()
        self._epoch = None

    def leave_thread(self) -> None:
        self._client.close()

    # Declaring

    def declare(
        self,
        exchanges: Mapping[str, str],
        queues: Sequence[StoredQueue] = (),
        bindings: Sequence[Binding] = (),
    ) -> None:
        packed = (
            [(_raw(exchange), kind) for exchange, kind in exchanges.items()],
            [
                (
                    _raw(queue.name),
                    "" if queue.expires is None else _milliseconds(queue.expires),
                    queue.delivery_limit or "",
                    _raw(queue.dead_letter_queue or ""),
                )
                for queue in queues
            ],
            [tuple(map(_raw, binding)) for binding in bindings],
        )
        if (missing := self._run("declare", _pack(packed))) is not None:
            raise StoreFault(f"{self._client.shown}: there is no queue {_text(missing)!r} to bind")

    def delete_queue(self, queue: str) -> None:
        self._run("delete_queue", _bytes(queue))

    def touch(self, queues: Sequence[str], bindings: Sequence[Binding] = ()) -> None:
        packed = [[_raw(text) for text in each] for each in (queues, *bindings)]
        if missing := self._run("touch", _pack([packed[0], packed[1:]])):
            names = ", ".join(map(_text, missing))
            raise StoreFault(f"{self._client.shown}: not there any more: {names}")

    # Messages

    def publish(self, entries: Sequence[Entry]) -> list[int]:
        for _ in range(_ATTEMPTS):
            routes = self._routes or self._fetch_routes()
            packed = [
                (
                    _raw_bytes(entry.payload),
                    _lane(entry.key),
                    math.ceil(entry.due * 1000),
                    routes.queues_of(entry.exchange, entry.routing_key),
                    "missed"
                    if routes.misses(entry.exchange, entry.routing_key)
                    else entry.exchange,
                )
                for entry in entries
            ]
            results = self._run("publish", routes.version, _pack(packed))
            if results != b"stale":
                return results  # type: ignore[no-any-return]
            self._routes = None
        raise StoreFault(f"{self._client.shown}: bindings change all the time")

    def take(self, wanted: Sequence[tuple[str, int]], lease: float) -> list[Stored]:
        self._subscribe()
        token = f"{self._token}{next(self._tokens)}"
        queues = _pack([(_raw(queue), number) for queue, number in wanted])
        packed, payloads = self._run("take", token, _milliseconds(lease), queues)
        now = time.monotonic()
        taken, end = [], 0
        for (queue, _), (left, *found) in zip(wanted, _unpack(packed), strict=True):
            if left >= 0:
                # Never later: what was to be looked at may be in a queue that is not wanted here.
                self._look_at = min(self._look_at, now + left / 1000)
            for member, length, deliveries in zip(*[iter(found)] * 3, strict=True):
                start, end = end, end + length
                taken.append(Stored(f"{member}:{queue}", queue, payloads[start:end], deliveries))
        return taken

    def acknowledge(self, ids: Sequence[str]) -> int:
        return self._run("acknowledge", _members(ids))  # type: ignore[no-any-return]

    def release(self, ids: Sequence[str]) -> None:
        self._run("release", _members(ids))

    def postpone(self, id_: str, payload: bytes, seconds: float) -> bool:
        number, token, queue = id_.split(":", 2)
        where = _bytes(queue), f"{number}:{token}"
        return bool(self._run("postpone", *where, payload, _milliseconds(seconds)))

    def renew(self, ids: Sequence[str], lease: float) -> None:
        self._run("renew", _members(ids), _milliseconds(lease))

    def size(self, queue: str) -> int:
        return self._run("size", _bytes(queue))  # type: ignore[no-any-return]

    def purge(self, queue: str) -> int:
        return self._run("purge", _bytes(queue))  # type: ignore[no-any-return]

    # Waiting

    def changed(self) -> bool:
        # The subscription is `take`'s to make, which may wait; here it is for who never takes.
        told = self._subscribe() or self._subscription is None or self._subscription.has_news()
        now = time.monotonic()
        if not told and now < self._look_at:
            return False
        if self._look_at <= now:
            # Said once: `take` finds out what comes next.
            self._look_at = now + _AT_LEAST
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
        self._subscription = self._client.ask(lambda client: _Subscription(client, self._channel))
        return True

    # Running the script

    def _run(self, function: str, *arguments: Argument) -> Any:
        """Run one of the script's functions."""
        if self._epoch is None or os.getpid() != self._process:
            self.open()
        assert self._epoch is not None
        result = self._client.run(_SCRIPT, self._key, function, self._epoch, *arguments)
        if result == b"emptied":
            self._epoch = None
            raise StoreFault(
                f"{self._client.shown}: it was emptied, or started again without what it held: "
                "queues must be declared again"
            )
        return result

    def _fetch_routes(self) -> Routes[msgspec.Raw, bytes]:
        version, *exchanges = self._run("routes")
        kinds = {_text(exchange): _text(kind) for exchange, kind, _ in exchanges}
        bindings = [
            ((_text(exchange), _text(pattern), _text(queue)), not expires)
            for exchange, _, flat in exchanges
            for pattern, queue, expires in zip(*[iter(flat)] * 3, strict=True)
        ]
        # Whether the queues exist, the script sees.
        self._routes = routes = Routes(version, kinds, bindings, _raw, self._known)
        return routes


class _Subscription:
    """A connection of redis-py's that hears of changes: a microsecond for each question.

    :param client: redis-py's: the connection is one like its own.
    :raises redis.RedisError: when Redis does not want it.

    What the messages say is of no interest, so they are thrown away unread: redis-py's parser takes
    ten times as long to say the same.
    """

    def __init__(self, client: Any, channel: bytes) -> None:
        pool = client.connection_pool
        self._connection = pool.connection_class(**pool.connection_kwargs)
        #: True once it is broken: nothing will be heard any more.
        self.is_over = False
        try:
            self._connection.connect()
            self._connection.send_command("SUBSCRIBE", channel)
            self._connection.read_response()
            self._socket = self._connection._sock
            self._socket.settimeout(0)
            #: What can be read once there is news.
            self.descriptor: int = self._socket.fileno()
            self._poll = _poll()
            self._poll.register(self.descriptor, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def has_news(self) -> bool:
        """Tell whether something was said since this was asked last; True as well when it is over.

        It never waits.
        """
        if not self._poll.poll(0):
            return self.is_over
        try:
            # At most so much at a time, so that whoever shouts does not stop this process.
            for _ in range(16):
                if not self._socket.recv(1 << 16):
                    self.is_over = True
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.is_over = True
        return True

    def close(self) -> None:
        """Disconnect. Never raises."""
        self.is_over = True
        with contextlib.suppress(Exception):
            self._connection.disconnect()


def _members(ids: Sequence[str]) -> bytes:
    """Pack (queue, number:token) of each."""
    members = []
    for id_ in ids:
        number, token, queue = id_.split(":", 2)
        members.append((_raw(queue), f"{number}:{token}"))
    return _pack(members)


def _lane(key: str | None) -> msgspec.Raw | str:
    if key is None:
        return ""
    text = _bytes(key)
    return _raw_bytes(b"%d:%b" % (len(text), text))


def _raw(text: str) -> msgspec.Raw:
    return _raw_bytes(_bytes(text))


def _raw_bytes(data: bytes) -> msgspec.Raw:
    """Write bytes as MessagePack's str: Redis does not know its bin, nor ask for UTF-8."""
    return msgspec.Raw(b"\xdb%b%b" % (len(data).to_bytes(4, "big"), data))


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
