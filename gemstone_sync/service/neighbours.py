"""How a service is found by others, and finds them: registries and discovery strategies."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from ..broker_urls import without_passwords
from ..client import RemoteService
from ..client.hosts import host_of, is_every_address
from ..client.urls import checked_url
from ..config import Seconds
from ..discovery import (
    Announcer,
    HttpDiscoveryStrategy,
    Locator,
    StaticDiscoveryStrategy,
)
from ..errors import ServiceConfigurationError

__all__ = ["Neighbours"]


class Neighbours:
    """The part of `MicroService` that knows of other services. Not for use by itself."""

    name: str
    accessible_at: str | None
    logger: logging.Logger

    #: Endpoints of service registries, which are told of this service and asked for others. With
    #: several, each is told by itself and all are asked at once: any one of them is enough.
    service_registry_urls: Sequence[str] = []
    #: Seconds between two pings of the registries.
    service_registry_ping_interval: Seconds = 30
    #: The token that the registries want; None for none.
    service_registry_token: str | None = None
    #: Whether the registries' certificates are checked; or the path of the certificates of the
    #: authorities that they are checked with.
    service_registry_verify: bool | str = True
    #: The PEM file of the certificate, with its key, that the registries want; None for none.
    service_registry_cert: str | None = None
    #: Other strategies to be found by and to find others, asked before the registries.
    discovery_strategies: Sequence[Any] = []
    #: Seconds for which a found service is used without asking again where it is.
    discovery_cache_seconds: Seconds = 10

    _located_by: Locator | None = None

    def get_service(self, name: str, **options: Any) -> RemoteService:
        """Find another service by name.

        ::

            users = self.get_service("users")
            users.methods.login("ada")

        The answer is a client over all instances that match. Calls are spread over them, an
        instance that cannot be reached is left alone for a while and another one takes the call,
        and the client follows as instances come and go: it may be kept. The same name and options
        give the same client, so asking again costs next to nothing.

        :param name: a name, or a pattern with ``*``, ``?`` and ``[...]`` (``"project.worker.*"``).
        :param options: for the `RemoteService`, such as ``authentication_method`` or ``timeout``.
        :raises ServiceNotFound: when none is known; it is a ValueError.
        :raises ServiceConfigurationError: when no discovery strategy is configured.
        """
        if self._located_by is None:
            self._located_by = Locator(
                self._strategies(), time_to_live=self.discovery_cache_seconds
            )
        return self._located_by.client_of(name, **options)

    def _strategies(self) -> list[Any]:
        registries = [
            HttpDiscoveryStrategy(
                url,
                token=self.service_registry_token,
                verify=self.service_registry_verify,
                cert=self.service_registry_cert,
            )
            for url in self.service_registry_urls
        ]
        return [*self.discovery_strategies, *registries]

    def _announces(self) -> bool:
        deaf = StaticDiscoveryStrategy.ping
        told = (getattr(type(each), "ping", None) is not deaf for each in self.discovery_strategies)
        return bool(self.service_registry_urls) or any(told)

    def _announcer(self) -> Announcer | None:
        """What tells others of this service; None when it does not know where it is."""
        if self.accessible_at is None:
            self.logger.warning(
                "%s is not registered: set accessible_at to the URL where others reach it",
                self.name,
            )
            return None
        return Announcer(
            self.name,
            self.accessible_at,
            # A new one each time: a registry takes no more pings of one that has said goodbye.
            instance=uuid.uuid4().hex,
            strategies=self._strategies(),
            interval=self.service_registry_ping_interval,
            logger=self.logger,
        )

    def _check_neighbours(self) -> None:
        """:raises ServiceConfigurationError: when others could not reach this service."""
        if self._strategies() and self.accessible_at is not None:
            try:
                host = host_of(checked_url(self.accessible_at))
            except ValueError as error:
                raise ServiceConfigurationError(f"accessible_at: {error}") from None
            if is_every_address(host):
                shown = without_passwords(self.accessible_at)
                raise ServiceConfigurationError(
                    f"accessible_at: {host} is no address where others reach this machine: write "
                    f"its name, or another of its addresses, in {shown!r}"
                )

    def _leave_neighbours(self) -> None:
        """Give up what was opened to find others."""
        located_by, self._located_by = self._located_by, None
        if located_by is not None:
            located_by.close()
