"""ServiceRegistry: the service that other services ping, and ask for each other's addresses."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import flask

from ..concurrency import NoSlot
from ..config import Seconds, setting
from ..config.rules import ABOVE_0, PATH, SECONDS_ABOVE_0, Rule, whole
from ..discovery.directory import (
    DEFAULT_INTERVAL,
    Directory,
    DirectoryFull,
    Listed,
)
from ..errors import InvalidParams, ServiceStartError
from ..server import current_worker
from ..service import (
    BearerTokenStrategy,
    HeaderValidationStrategy,
    JsonRpcHandler,
    MicroService,
    ValidationStrategy,
    exposed_method,
    periodic,
    route,
)
from .admission import MAX_NAME, RegistrationRefused, check_instance, check_name, check_url, url_of
from .page import SECURITY_HEADERS, Page
from .state import StateFile

if TYPE_CHECKING:
    from ..discovery.directory import Registration

__all__ = ["ServiceRegistry"]

_ONE_PROCESS = (
    "a registry is one process: with several workers each would know a part of the services. "
    "Start more registries instead, and have services ping them all"
)

_VISIBLE = re.compile(r"[\x21-\x7e]{1,1000}")


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and _VISIBLE.fullmatch(value) is not None


def _is_file(value: Any) -> bool:
    """Refuse an empty text, the working directory as ``Path("")`` is, devices, and SQLite's names.

    They would become files called ``:memory:`` and ``file:…``.
    """
    if not PATH.fits(value) or os.fspath(value) in ("", ".", ":memory:"):
        return False
    if str(value).startswith("file:"):
        return False
    return not os.path.exists(value) or os.path.isfile(value) or os.path.isdir(value)


#: A header must be able to carry it.
_TOKEN = Rule("1 to 1000 visible ASCII characters, without spaces", _is_token).or_none()
_STATE = Rule("the path of a file (without one, entries are in memory only)", _is_file).or_none()


class ServiceRegistry(MicroService):
    """A registry: services ping it with their name and URL, and others ask it where they are.

    ::

        from gemstone_sync.registry import ServiceRegistry

        ServiceRegistry().start()

    or ``gemstone registry``, or ``python -m gemstone_sync.registry``. Every setting is an option, a
    variable (``GEMSTONE_REGISTRY_TOKEN``) and a key in ``registry.toml``, as of any service. A
    browser sees all services at ``/``.

    An entry goes when its service says goodbye, or was not heard of for three of its own ping
    intervals. Several registries need not know each other: a service pings them all.

    **Set a token** wherever others than you reach the registry. Without one, anyone who reaches it
    can register a URL of their own under the name of your service, and callers will send their
    calls, with what is in them, to that URL; or can say goodbye for a service, which nobody will
    find any more. Asking is open to all, with a token too.
    """

    name = "registry"
    port = 8090
    environment_prefix = "GEMSTONE_REGISTRY_"
    #: Bytes of a request body; more is refused with HTTP 413. The largest batch of pings is a
    #: fourth of it.
    max_body_size = 1_000_000
    validation_strategies: Sequence[ValidationStrategy] = [
        HeaderValidationStrategy("X-Api-Token"),
        BearerTokenStrategy(),
    ]

    #: What `ping` and `goodbye` must be sent with, in ``X-Api-Token`` or as ``Authorization:
    #: Bearer``. None: they are open to everyone.
    token: str | None = setting(None, _TOKEN, secret=True)
    #: The file that keeps the entries across restarts. None: they are kept in memory only, and come
    #: back with the services' next pings.
    state: str | os.PathLike[str] | None = setting(None, _STATE)
    #: Seconds that an entry lives without a ping. None: three of its service's own intervals.
    ttl: Seconds | None = setting(None, SECONDS_ABOVE_0.or_none())
    #: How many instances may be registered, of all names together.
    max_entries: int = setting(100_000, ABOVE_0)
    #: How many instances of one name may be registered.
    max_per_name: int = setting(1_000, ABOVE_0)
    #: Always 1: a registry is one process. Start more registries instead, and have services ping
    #: them all.
    workers: int = setting(1, Rule(f"1: {_ONE_PROCESS}", whole(1, 1).fits))

    def __init__(self, io_loop: object = None) -> None:
        super().__init__(io_loop)
        #: What is known. Made anew at every start.
        self.directory = Directory()
        self._state_file: StateFile | None = None
        self._page = Page(lambda pattern: self.directory.listing(pattern))

    # Start and stop

    def on_service_start(self) -> None:
        """Read the state file.

        :raises ServiceStartError: when it cannot be used.
        """
        worker = current_worker()
        if worker is not None and worker.cfg.workers > 1:
            raise ServiceStartError(_ONE_PROCESS)
        self.directory = Directory(
            ttl=self.ttl, max_entries=self.max_entries, max_per_name=self.max_per_name
        )
        if self.state is not None:
            self._state_file = StateFile(
                self.state, lambda: self.directory.registrations(), self.logger
            )
            self._restore(self._state_file.open())
            self.directory.on_change = self._state_file.note
        if self.token is None:
            self.logger.warning(
                "%s has no token: anyone who reaches it can register a URL under any name, and so "
                "get the calls that are meant for a service; set one with --token or %sTOKEN",
                self.name,
                self.environment_prefix,
            )

    def on_service_stop(self) -> None:
        """Close the state file."""
        if self._state_file is not None:
            self.directory.on_change = None
            self._state_file.close()
            self._state_file = None

    def _restore(self, found: list[Registration]) -> None:
        """Add entries with their whole life again: their services could not ping meanwhile."""
        left_out = 0
        for name, url, instance, interval in found:
            try:
                check_name(name)
                check_url(url)
                self.directory.add(name, url, instance, interval)
            except (RegistrationRefused, DirectoryFull, ValueError, TypeError):
                left_out += 1
        self.logger.info("%s: %d entries from %s", self.name, len(found) - left_out, self.state)
        if left_out:
            self.logger.warning("%s: %d entries in it cannot be used", self.name, left_out)

    def authenticate_request(self, handler: JsonRpcHandler) -> bool:
        """Compare the request's token, when the registry has one."""
        if self.token is None:
            return True
        given = handler.api_token
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    # Methods

    @exposed_method(private=True, idempotent=True)
    def ping(
        self,
        name: str,
        url: str | None = None,
        instance: str | int | None = None,
        interval: float | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
    ) -> bool:
        """Say that a service answers at a URL: ping(name, url) or ping(name, host, port).

        To be repeated every `interval` seconds (30 when left out; 0.1 to 3600 count): the entry
        goes after three intervals without a ping. `instance` is a text that no other running
        instance has; instances that share a URL, behind a load balancer, share an entry. The result
        is false when the instance has said goodbye before: then nothing is registered.
        """
        url, instance = _place(url, instance, host, port)
        check_name(name)
        check_url(url)
        if instance is not None:
            check_instance(instance)
        try:
            known = self.directory.add(
                name, url, instance, DEFAULT_INTERVAL if interval is None else interval
            )
        except (DirectoryFull, ValueError) as error:
            raise RegistrationRefused.because(str(error)) from error
        self._keep()
        return known

    @exposed_method(private=True, idempotent=True)
    def goodbye(
        self,
        name: str,
        url: str | None = None,
        instance: str | int | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
    ) -> bool:
        """Take an instance out for good: goodbye(name, url, instance), or (name, host, port).

        Without `instance` the URL goes whole, with all instances that share it. The result is
        whether there was one.
        """
        url, instance = _place(url, instance, host, port)
        check_name(name)
        if instance is not None:
            check_instance(instance)
        found = self.directory.remove(name, url, instance)
        self._keep()
        return found

    @exposed_method(idempotent=True)
    def locate_service(self, name: str) -> list[str]:
        """List the URLs of a name, or of the names that a pattern with *, ? and [...] matches.

        Of a pattern, names are looked at until 1,000 URLs are found.
        """
        return self.directory.locate(_question(name))

    @exposed_method(idempotent=True)
    def list_services(self, name: str = "*", after: str = "") -> dict[str, list[dict[str, Any]]]:
        """List what is registered, by name in order; with `name`, what it or a pattern matches.

        One answer has 1,000 URLs and the rest of the last one's name: what comes behind is asked
        for with that name as `after`, until nothing comes.

        Of each URL: how many instances share it, seconds since it was registered (here: a restart
        begins anew) and since its last ping, and its status, "fresh" or "late".
        """
        found = self.directory.listing(_question(name), after=after)
        return {name: [_as_json(each) for each in places] for name, places in found.items()}

    @route("/")
    def web_page(self) -> flask.Response:
        """Serve the page for browsers."""
        slots = self.dispatcher.slots  # whoever looks at it takes the place of a call
        try:
            slots.acquire()
        except NoSlot:
            return flask.Response("overloaded", 503, {"Retry-After": "1"})
        try:
            html = self._page.html(flask.request.args.get("name", "*")[:MAX_NAME])
        finally:
            slots.release()
        return flask.Response(html, headers=SECURITY_HEADERS)

    @periodic(5)
    def drop_expired(self) -> None:
        """Forget what has expired, in the state file too."""
        self.directory.sweep()
        self._keep()

    def _keep(self) -> None:
        if self._state_file is not None:
            self._state_file.flush()


def _place(
    url: str | None, instance: str | int | None, host: str | None, port: int | None
) -> tuple[str, str | None]:
    """Return the URL and instance that the two forms of `ping` and `goodbye` mean.

    By position the second form's host and port stand where the first has its URL and instance.

    :raises InvalidParams: when they are neither.
    :raises RegistrationRefused: when host and port make no URL.
    """
    if isinstance(instance, int):
        if url is None or "://" in url:
            raise _invalid("instance", "Expected `str | null`, got `int`")
        if host is not None or port is not None:
            raise _invalid("port" if host is None else "host", "given twice")
        return url_of(url, instance), None
    if host is None and port is None:
        if url is None:
            raise _invalid("url", "missing: give the url, or host and port")
        return url, instance
    if url is not None:
        raise _invalid("url", "unexpected: give either the url, or host and port")
    if host is None or port is None:
        raise _invalid("host" if host is None else "port", "missing")
    return url_of(host, port), instance


def _invalid(name: str, reason: str) -> InvalidParams:
    return InvalidParams(data={"parameters": [{"name": name, "reason": reason}]})


def _question(name: str) -> str:
    if len(name) > MAX_NAME:
        raise RegistrationRefused(f"a name or pattern has at most {MAX_NAME} characters")
    return name


def _as_json(listed: Listed) -> dict[str, Any]:
    return {
        "url": listed.url,
        "instances": listed.instances,
        "registered_seconds_ago": round(listed.age, 3),
        "last_ping_seconds_ago": round(listed.silence, 3),
        "status": "late" if listed.late else "fresh",
    }
