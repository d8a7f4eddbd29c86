"""Events over any other transport of kombu's, for those who know what it cannot promise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ....broker_urls import SCHEMES_OF_OTHERS, TRANSPORTS, shown
from ....errors import ServiceConfigurationError
from ...link import Link, LinkRefused
from ..broker import BrokerEventTransport
from ..urls import check_seconds, take_options

__all__ = ["KombuEventTransport"]

logger = logging.getLogger("gemstone_sync.event")

#: Seconds.
_TIMEOUT = 5.0
_OF_KOMBU = (
    ", and kombu's: login_method, ssl, ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs"
)


class KombuEventTransport(BrokerEventTransport):
    """Events over a kombu transport, such as ``"filesystem://"`` or ``"memory://"``.

    Kombu's own transports promise less than the others here. What this one cannot is said at the
    start, which is refused unless that is accepted.

    :param url: of kombu's form.
    :param accept_loss: True to use it all the same.
    :param transport_options: kombu's; in the URL as JSON. `polling_interval` is the longest time
        between two looks for events, which come closer together while events do.
    :param connect_timeout: seconds.
    """

    delays = False
    system = "kombu"

    def __init__(
        self,
        url: str,
        *,
        accept_loss: bool = False,
        transport_options: dict[str, Any] | None = None,
        connect_timeout: float = _TIMEOUT,
        **options: Any,
    ) -> None:
        if not isinstance(url, str) or "://" not in url:
            raise ServiceConfigurationError("the URL is one of kombu's, like 'filesystem://'")
        scheme = url.partition("://")[0].partition("+")[0]
        own = TRANSPORTS.get(SCHEMES_OF_OTHERS.get(scheme, scheme))
        if own is not None:
            raise ServiceConfigurationError(f"{scheme}:// has a transport of its own: use {own}")
        self._url, given = take_options(url, type(self), self._passes(url), _OF_KOMBU)
        self._accept_loss = given.pop("accept_loss", False) or accept_loss
        in_url = given.pop("transport_options", None)
        self._transport_options = {**(in_url or {}), **(transport_options or {})}
        in_url = given.pop("connect_timeout", connect_timeout)
        self._connect_timeout = in_url if connect_timeout == _TIMEOUT else connect_timeout
        check_seconds(0.001, connect_timeout=self._connect_timeout)
        self._checked = False
        super().__init__(**{**given, **options})

    @staticmethod
    def _passes(url: str) -> Callable[[str], bool]:
        """Return what tells whether kombu, or the transport of the URL, takes an option."""

        def passes(name: str) -> bool:
            from .channels import understands

            try:
                return understands(url, name)
            except LinkRefused as error:
                raise ServiceConfigurationError(f"{shown(url)}: {error}") from None

        return passes

    def start(self) -> None:
        """:raises ServiceConfigurationError: when it loses events and that is not accepted."""
        self._check()
        super().start()

    def _check(self) -> None:
        if self._checked:
            return
        from .channels import lacks_of

        try:
            lacks = "; ".join(lacks_of(self._url, self._transport_options))
        except LinkRefused as error:
            raise ServiceConfigurationError(f"{self}: {error}") from error
        lacks = f"{self} cannot promise what events promise here: {lacks}"
        if not self._accept_loss:
            raise ServiceConfigurationError(
                f"{lacks}. Use SqliteEventTransport, RabbitMqEventTransport or "
                "RedisEventTransport, or say accept_loss=True"
            )
        logger.warning("%s", lacks)
        self._checked = True

    def make_link(self, role: str) -> Link:
        from .link import KombuLink

        self._check()
        return KombuLink(
            self._url,
            transport_options=self._transport_options,
            connect_timeout=self._connect_timeout,
        )

    def __str__(self) -> str:
        return f"KombuEventTransport({shown(self._url)})"
