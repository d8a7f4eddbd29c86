"""Events over any other transport of kombu's, for those who know what it loses."""

from __future__ import annotations

from typing import Any

from ...broker_urls import shown
from ...errors import ServiceConfigurationError
from ..link import Link, LinkRefused
from .broker import BrokerEventTransport

__all__ = ["KombuEventTransport"]

_OWN = {
    "amqp": "RabbitMqEventTransport",
    "amqps": "RabbitMqEventTransport",
    "pyamqp": "RabbitMqEventTransport",
    "redis": "RedisEventTransport",
    "rediss": "RedisEventTransport",
}


class KombuEventTransport(BrokerEventTransport):
    """Events over a kombu transport, such as ``"filesystem://"`` or ``"memory://"``.

    Kombu's own transports lose events in ways that the others here do not. What this one loses is
    said at the start, which is refused unless the loss is accepted.

    :param url: of kombu's form.
    :param accept_loss: True to use it all the same.
    :param transport_options: kombu's.
    """

    delays = False

    def __init__(
        self,
        url: str,
        *,
        accept_loss: bool = False,
        transport_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(url, str) or "://" not in url:
            raise ServiceConfigurationError("the URL is one of kombu's, like 'filesystem://'")
        scheme = url.partition("://")[0].partition("+")[0]
        if scheme in _OWN:
            raise ServiceConfigurationError(
                f"{scheme}:// has a transport of its own: use {_OWN[scheme]}"
            )
        self._url = url
        self._accept_loss = accept_loss
        self._transport_options = transport_options
        super().__init__(**options)

    def start(self) -> None:
        """:raises ServiceConfigurationError: when it loses events and that is not accepted."""
        self._check()
        super().start()

    def _check(self) -> None:
        from ..links.kombu import lacks_of

        try:
            lacks = lacks_of(self._url)
        except LinkRefused as error:
            raise ServiceConfigurationError(f"{self}: {error}") from error
        if lacks and not self._accept_loss:
            raise ServiceConfigurationError(
                f"{self} cannot promise what events promise here: {'; '.join(lacks)}. Use "
                "SqliteEventTransport, RabbitMqEventTransport or RedisEventTransport, or say "
                "accept_loss=True"
            )

    def make_link(self, role: str) -> Link:
        from ..links.kombu import KombuLink

        self._check()
        return KombuLink(self._url, transport_options=self._transport_options)

    def __str__(self) -> str:
        return f"KombuEventTransport({shown(self._url)})"
