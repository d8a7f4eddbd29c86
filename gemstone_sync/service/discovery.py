"""How a service is found by others and finds them: registries and discovery strategies."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

from ..broker_urls import without_passwords
from ..client import RemoteService
from ..client.hosts import host_of, is_every_address
from ..client.urls import checked_url
from ..discovery import Announcer, HttpDiscoveryStrategy, Locator, StaticDiscoveryStrategy
from ..errors import ServiceConfigurationError
from ..ops.health import PASS, WARN, Component
from .attributes import ServiceAttributes
from .base import ServiceBase
from .settings import refuse_changes, snapshot

__all__ = ["Discovery", "DiscoveryRuntime"]

#: The settings of which a locator is made.
_OF_LOCATOR = (
    "discovery_strategies",
    "discovery_cache_seconds",
    "service_registry_urls",
    "service_registry_token",
    "service_registry_verify",
    "service_registry_cert",
)


class DiscoveryRuntime:
    """Announces one service to registries, and finds others there.

    :param service: its attributes are read when they are needed.
    """

    def __init__(self, service: ServiceAttributes) -> None:
        self._service = service
        self._locator: Locator | None = None
        self._announcer: Announcer | None = None
        #: The settings of which the locator was made.
        self._made_of: dict[str, Any] = {}
        #: Called with a registry and whether it has taken a ping.
        self.on_ping: Callable[[str, bool], object] | None = None

    def client_of(self, name: str, **options: Any) -> RemoteService:
        """Return the client of another service; see `Discovery.get_service`."""
        if self._locator is None:
            self._made_of = snapshot(self._service, _OF_LOCATOR)
            self._locator = Locator(
                self._strategies(), time_to_live=self._service.discovery_cache_seconds
            )
        return self._locator.client_of(name, **options)

    def refuse_late_changes(self) -> None:
        """Refuse settings that were changed since the first service was asked for.

        :raises ServiceConfigurationError: naming the first.
        """
        refuse_changes(self._service, self._made_of, "get_service() was called")

    def check(self) -> None:
        """Refuse an address where others could not reach this service.

        :raises ServiceConfigurationError: naming it.
        """
        address = self._service.accessible_at
        if address is None or not self._strategies():
            return
        try:
            host = host_of(checked_url(address))
        except ValueError as error:
            raise ServiceConfigurationError(f"accessible_at: {error}") from None
        if is_every_address(host):
            raise ServiceConfigurationError(
                f"accessible_at: {host} is no address where others reach this machine: write "
                f"its name, or another of its addresses, in {without_passwords(address)!r}"
            )

    def announces(self) -> bool:
        """Tell whether there is anything to announce this service to."""
        deaf = StaticDiscoveryStrategy.ping
        strategies = self._service.discovery_strategies
        told = (getattr(type(each), "ping", None) is not deaf for each in strategies)
        return bool(self._service.service_registry_urls) or any(told)

    def is_used(self) -> bool:
        """Tell whether other services can be found."""
        return bool(self._strategies())

    def endpoints(self) -> dict[str, int]:
        """Count the endpoints that are known, by the names that were asked for."""
        return {} if self._locator is None else self._locator.endpoints()

    def announce(self) -> None:
        """Begin to announce this service, if it knows where others reach it."""
        service = self._service
        if service.accessible_at is None:
            service.logger.warning(
                "%s is not registered: set accessible_at to the URL where others reach it",
                service.name,
            )
            return
        self._announcer = Announcer(
            service.name,
            service.accessible_at,
            # A new one each time: a registry takes no more pings of one that has said goodbye.
            instance=uuid.uuid4().hex,
            strategies=self._strategies(),
            interval=service.service_registry_ping_interval,
            logger=service.logger,
            on_ping=self.on_ping,
        )
        self._announcer.start()

    def components(self) -> list[Component]:
        """Tell whether registries are told of this service; it is of use without them too."""
        states = [] if self._announcer is None else self._announcer.states()
        return [
            Component(
                "registry:registration",
                PASS if why is None else WARN,
                id=without_passwords(name),
                kind="system",
                output=None if why is None else without_passwords(why),
                time=at,
            )
            for name, at, why in states
        ]

    def say_goodbye(self, timeout: float) -> None:
        """End announcing: give the pings in flight so many seconds, and again the goodbyes."""
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            announcer.stop(timeout)

    def close(self) -> None:
        """Close what was opened to find others; it is opened anew when it is needed again."""
        locator, self._locator, self._made_of = self._locator, None, {}
        if locator is not None:
            locator.close()

    def _strategies(self) -> list[Any]:
        service = self._service
        registries = [
            HttpDiscoveryStrategy(
                url,
                token=service.service_registry_token,
                verify=service.service_registry_verify,
                cert=service.service_registry_cert,
            )
            for url in service.service_registry_urls
        ]
        return [*service.discovery_strategies, *registries]


class Discovery(ServiceBase):
    """The part of `MicroService` that finds other services. Not for use by itself."""

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
        return self._discovery_runtime.client_of(name, **options)

    @functools.cached_property
    def _discovery_runtime(self) -> DiscoveryRuntime:
        return DiscoveryRuntime(self)
