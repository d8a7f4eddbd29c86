"""Events over RabbitMQ."""

from __future__ import annotations

import ssl as _ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote

from ....broker_urls import NEXT_URL, RABBITMQ_SCHEMES, shown, split, wrong_url
from ....errors import ServiceConfigurationError
from ...deduplication import ProcessedEvents
from ...handlers import Handler, Subscriber
from ...link import Link
from ..base import Reception
from ..broker import BrokerEventTransport, check_seconds, check_whole
from ..urls import amqp_url, no_option, options_of, take_options
from .known import Known
from .queues import held_too_long

__all__ = ["RabbitMqEventTransport"]

_EXAMPLE = "amqp://user:password@127.0.0.1:5672/%2F"

#: Options of pika's ConnectionParameters, which gemstone took, with the name that they have here.
_OF_PIKA = {
    "heartbeat_interval": "heartbeat",
    "socket_timeout": "connect_timeout",
    "blocked_connection_timeout": None,
    "connection_attempts": None,
    "retry_delay": None,
}
#: Py-amqp's ssl options, as kombu's URLs have them.
_TLS = ("ca_certs", "certfile", "keyfile", "cert_reqs", "ciphers", "server_hostname")
_OF_TLS = ", and " + ", ".join(f"ssl_{name}" for name in _TLS)


class RabbitMqEventTransport(BrokerEventTransport):
    """Events over RabbitMQ 3.10 or later.

    ::

        class Shop(MicroService):
            name = "shop"
            event_transports = [RabbitMqEventTransport("127.0.0.1", 5672, "guest", "guest")]

    Queues are durable quorum queues with a delivery limit and dead letters; what is published is
    confirmed.

    :param host: a host name or an IP address.
    :param username, password: "guest" when empty.
    :param virtual_host: "/" unless given.
    :param heartbeat: seconds; a broker that is silent for two of them is given up. 0 for none.
    :param connect_timeout: seconds.
    :param consumer_timeout: seconds for which the broker lets an event be held, if that is not the
        half hour which RabbitMQ before 3.12 allows unless configured; later ones are told it, by
        the arguments of queues, and otherwise a week.
    :param delivery_limit: an event that came back so often because its process died goes to the
        dead letters.
    :param ssl: True, or a dict of py-amqp's ssl options.
    :param login_method: one of RabbitMQ's, such as "EXTERNAL"; None for what both sides know.
    :param alternates: URLs of further nodes of the same cluster, tried in turn.
    :param shards: over how many queues the events with keys of one service are spread.
    :param options: those of `BrokerEventTransport`.
    :raises ServiceConfigurationError: for an option that there is not.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5672,
        username: str = "",
        password: str = "",
        *,
        virtual_host: str = "/",
        heartbeat: float = 10.0,
        connect_timeout: float = 5.0,
        consumer_timeout: float | None = None,
        delivery_limit: int = 10,
        ssl: bool | dict[str, Any] = False,
        login_method: str | None = None,
        alternates: Sequence[str] = (),
        shards: int = 4,
        **options: Any,
    ) -> None:
        self._check_names(options)
        check_whole(delivery_limit=delivery_limit)
        check_seconds(0, heartbeat=heartbeat)
        check_seconds(0.001, connect_timeout=connect_timeout)
        if consumer_timeout is not None:
            check_seconds(1, consumer_timeout=consumer_timeout)
        who = (username or "guest", password or "guest")
        first = amqp_url(host, port, *who, virtual_host, "amqps" if ssl else "amqp")
        others = [_url_of(split(url, RABBITMQ_SCHEMES, _EXAMPLE), bool(ssl)) for url in alternates]
        self._url = ";".join([first, *others])
        self._link_options: dict[str, Any] = {
            "heartbeat": heartbeat,
            "connect_timeout": connect_timeout,
            "consumer_timeout": consumer_timeout,
            "known": Known(),
        }
        self._consumer_timeout = consumer_timeout
        if isinstance(ssl, dict):
            self._link_options["tls"] = ssl
        if login_method is not None:
            self._link_options["options"] = {"login_method": login_method}
        # The broker counts lost connections as well, so its own limit is a far one.
        self.handled_limit = delivery_limit
        super().__init__(shards=shards, **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RabbitMqEventTransport:
        """Make one from ``"amqp://user:password@host:port/virtual-host"`` (``amqps`` for TLS).

        Every option may be in it, those of `ssl` as ``ssl_ca_certs`` and so on:
        ``amqp://rabbit/shop?heartbeat=3&shards=8``. Several URLs, with semicolons between them, are
        nodes of one cluster.
        """
        if not isinstance(url, str):
            raise wrong_url(_EXAMPLE)
        url, given = take_options(url, cls, _is_of_tls, _OF_TLS)
        parts, *others = [split(one, RABBITMQ_SCHEMES, _EXAMPLE) for one in NEXT_URL.split(url)]
        tls = dict(pair for each in (parts, *others) for pair in parse_qsl(each.query))
        given = {**_ssl_of(parts.scheme, tls, given), **given, **options}
        secure = bool(given.get("ssl"))
        if others:
            given.setdefault("alternates", [each._replace(query="").geturl() for each in others])
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or (5671 if secure else 5672),
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            **{"virtual_host": _virtual_host(parts), **given},
        )

    @classmethod
    def _check_names(cls, options: dict[str, Any]) -> None:
        """:raises ServiceConfigurationError: for the first option that there is not."""
        for name in options.keys() - options_of(cls).keys():
            if name in _OF_PIKA:
                better = _OF_PIKA[name]
                hint = (
                    f"it is called {better} here" if better else "connections are retried for ever"
                )
                raise ServiceConfigurationError(f"{name} is an option of pika's: {hint}")
            raise no_option(cls, name, options_of(cls))

    def _delay_queues(self) -> list[str]:
        from .delays import LONGEST, SHORTEST

        steps = [SHORTEST]
        while steps[-1] < LONGEST:
            steps.append(steps[-1] * 2)
        return [self.topology.due, *map(self.topology.delay_queue, steps)]

    def receive(
        self,
        subscriber: Subscriber,
        run: Callable[[Handler, Any], Any],
        *,
        processed: ProcessedEvents | None = None,
        recent: ProcessedEvents | None = None,
    ) -> Reception:
        if self._consumer_timeout is not None:
            for queue in self.topology.queues_of(subscriber):
                if (why := held_too_long(queue, self._consumer_timeout)) is not None:
                    raise ServiceConfigurationError(why)
        return super().receive(subscriber, run, processed=processed, recent=recent)

    def make_link(self, role: str) -> Link:
        from .link import AmqpLink

        return AmqpLink(self._url, name=f"gemstone_sync {role}", **self._link_options)

    def __str__(self) -> str:
        return f"RabbitMqEventTransport({shown(self._url)})"


def _virtual_host(parts: SplitResult) -> str:
    return unquote(parts.path[1:]) or "/"  # a bare or missing path is the default one


def _url_of(parts: SplitResult, secure: bool) -> str:
    if parts.query:
        raise ServiceConfigurationError("alternates are URLs without options of their own")
    secure = secure or parts.scheme == "amqps"
    return amqp_url(
        parts.hostname or "127.0.0.1",
        parts.port or (5671 if secure else 5672),
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        _virtual_host(parts),
        "amqps" if secure else "amqp",
    )


def _is_of_tls(name: str) -> bool:
    return name.startswith("ssl_") and name.removeprefix("ssl_") in _TLS


def _ssl_of(scheme: str, tls: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The option `ssl`, as the scheme and the options that begin so have it.

    :param given: what else the URL has; its own `ssl` is taken out.
    """
    tls = {name.removeprefix("ssl_"): value for name, value in tls.items()}
    if "cert_reqs" in tls:
        wanted = f"CERT_{tls['cert_reqs'].upper().removeprefix('CERT_')}"
        if wanted not in _ssl.VerifyMode.__members__:
            raise ServiceConfigurationError("ssl_cert_reqs must be required, optional or none")
        tls["cert_reqs"] = _ssl.VerifyMode[wanted]
    own = given.pop("ssl", None)
    if own is False and (tls or scheme == "amqps"):
        raise ServiceConfigurationError("ssl=false is not what the rest of the URL says")
    tls = {**(own if isinstance(own, dict) else {}), **tls}
    return {"ssl": tls or scheme == "amqps" or own is True}
