"""Events over RabbitMQ."""

from __future__ import annotations

import ssl as _ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote

from ....broker_urls import NEXT_URL, RABBITMQ_SCHEMES, shown, split, wrong_url
from ....errors import ServiceConfigurationError
from ...link import Link
from ...topology import Queue
from ..broker import BrokerEventTransport
from ..urls import check_seconds, check_whole, take_options
from .queues import STEPS, Known, held_too_long

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
    :param heartbeat: seconds, 1 or more; a broker that is silent for two of them is given up. 0 for
        none.
    :param connect_timeout: seconds.
    :param consumer_timeout: seconds for which the broker lets an event be held, if that is not the
        half hour which RabbitMQ before 3.12 allows unless configured; later ones are told it, by
        the arguments of queues, and otherwise a week.
    :param delivery_limit: an event that came back so often because its process died goes to the
        dead letters.
    :param ssl: True, or a dict of py-amqp's ssl options.
    :param login_method: one of RabbitMQ's, such as "EXTERNAL"; None for "PLAIN".
    :param alternates: URLs of further nodes of the same cluster, tried in turn.
    :param shards: over how many queues the events with keys of one service are spread.
    :param options: those of `BrokerEventTransport`.
    :raises ServiceConfigurationError: for an option that there is not.
    """

    system = "rabbitmq"

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
        _check_names(options)
        check_whole(delivery_limit=delivery_limit)
        # AMQP has whole seconds, and 0 is none: half a second would be none to the broker alone.
        check_seconds(1 if heartbeat else 0, heartbeat=heartbeat)
        check_seconds(0.001, connect_timeout=connect_timeout)
        if consumer_timeout is not None:
            check_seconds(1, consumer_timeout=consumer_timeout)
        secure = bool(ssl)
        places = [(host, port, username, password, virtual_host, secure)]
        for url in alternates:
            parts = split(url, RABBITMQ_SCHEMES, _EXAMPLE)
            if parts.query:
                raise ServiceConfigurationError("alternates are URLs without options of their own")
            places.append(_place_of(parts, secure or parts.scheme == "amqps"))
        self._url = ";".join(_url_of(*place) for place in places)
        self._link_options: dict[str, Any] = {
            "heartbeat": heartbeat,
            "connect_timeout": connect_timeout,
            "consumer_timeout": consumer_timeout,
            "known": Known(),
            "tls": ssl if isinstance(ssl, dict) else None,
            "login_method": login_method,
        }
        self._consumer_timeout = consumer_timeout
        #: Where its exchanges and queues are.
        self.virtual_host = virtual_host
        # The broker counts lost connections as well, so its own limit is a far one.
        self.crash_limit = delivery_limit
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
        if others:
            alternates = [each._replace(query="").geturl() for each in others]
            given["alternates"] = [*given.get("alternates", ()), *alternates]
        host, port, username, password, virtual_host, _ = _place_of(parts, bool(given.get("ssl")))
        return cls(host, port, username, password, **{"virtual_host": virtual_host, **given})

    def _delay_queues(self) -> list[str]:
        replaced = self._link_options["known"].replaced
        return [
            self.topology.due,
            *(
                self.topology.delay_queue(step, number)
                for step in STEPS
                for number in range(replaced.get(step, 0) + 1)
            ),
        ]

    def _why_not(self, queue: Queue) -> str | None:
        seconds = self._consumer_timeout
        return None if seconds is None else held_too_long(queue, seconds)

    def make_link(self, role: str) -> Link:
        from .link import AmqpLink

        return AmqpLink(self._url, name=f"gemstone_sync {role}", **self._link_options)

    def __str__(self) -> str:
        return f"RabbitMqEventTransport({shown(self._url)})"


def _check_names(options: dict[str, Any]) -> None:
    """:raises ServiceConfigurationError: for the first option that is one of pika's."""
    for name in options.keys() & _OF_PIKA.keys():
        better = _OF_PIKA[name]
        hint = f"it is called {better} here" if better else "connections are retried for ever"
        raise ServiceConfigurationError(f"{name} is an option of pika's: {hint}")


def _place_of(parts: SplitResult, secure: bool) -> tuple[str, int, str, str, str, bool]:
    """Return host, port, user name, password, virtual host, and whether over TLS."""
    return (
        parts.hostname or "127.0.0.1",
        parts.port or (5671 if secure else 5672),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(parts.path[1:]) or "/",  # a bare or missing path is the default one
        secure,
    )


def _url_of(
    host: str, port: int, username: str, password: str, virtual_host: str, secure: bool
) -> str:
    """Make the URL of a RabbitMQ.

    >>> _url_of("rabbit", 5672, "ada", "p/w", "/", False)
    'amqp://ada:p%2Fw@rabbit:5672/%2F'
    """
    where = f"[{host}]" if ":" in host else host
    who = f"{quote(username or 'guest', safe='')}:{quote(password or 'guest', safe='')}"
    scheme = "amqps" if secure else "amqp"
    return f"{scheme}://{who}@{where}:{port}/{quote(virtual_host, safe='')}"


def _is_of_tls(name: str) -> bool:
    return name.startswith("ssl_") and name.removeprefix("ssl_") in _TLS


def _ssl_of(scheme: str, tls: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the option `ssl`, as the scheme and the options that begin so have it.

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
