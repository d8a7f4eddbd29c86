"""Which services the shell knows: asked of a registry, and kept for a few seconds.

What stands for them at the prompt belongs to `shell_services`.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from ..errors import BadResponse, GemstoneError, MethodNotFound, ServiceNotFound
from .parameters import Access
from .remote import client_of, listing_of, locate, registry_client, specs_of

if TYPE_CHECKING:
    from ..client import RemoteService

__all__ = ["Directory", "Places", "UnknownService", "key_of", "matching", "unknown"]

T = TypeVar("T")

#: Names of services, and where they are.
Places: TypeAlias = "Mapping[str, tuple[str, ...]]"

#: Seconds for which what was learnt counts.
_FRESH = 3.0
#: Seconds for what is asked while somebody types.
_ASIDE = 2.0


class UnknownService(ServiceNotFound, AttributeError):
    """An attribute that is no service: for those who complete names, simply no attribute."""


class _Learnt(NamedTuple):
    """The last answer, or failure, and when it came."""

    answer: Any
    error: GemstoneError | None
    at: float


class _Memory:
    """Asks, and remembers for a few seconds."""

    def __init__(self) -> None:
        self._learnt: dict[str, _Learnt] = {}

    def answer(self, key: str, ask: Callable[[], T]) -> T:
        """What is known, unless it is old; a failure is never taken for an answer."""
        learnt = self._learnt.get(key)
        if learnt is not None and learnt.error is None and time.monotonic() - learnt.at < _FRESH:
            return learnt.answer  # type: ignore[no-any-return]
        return self.renewed(key, ask)

    def renewed(self, key: str, ask: Callable[[], T]) -> T:
        """Ask now."""
        try:
            answer = ask()
        except GemstoneError as error:
            before = self._learnt.get(key)
            known = None if before is None else before.answer
            self._learnt[key] = _Learnt(known, error, time.monotonic())
            raise
        self._learnt[key] = _Learnt(answer, None, time.monotonic())
        return answer

    def quietly(self, key: str, ask: Callable[[], T]) -> T | None:
        """What is known, asked for no more often than every few seconds; None for nothing."""
        learnt = self._learnt.get(key)
        if learnt is None or time.monotonic() - learnt.at >= _FRESH:
            try:
                return self.renewed(key, ask)
            except GemstoneError:
                learnt = self._learnt[key]
        return learnt.answer  # type: ignore[no-any-return]


class Directory:
    """Which services there are, and clients of them.

    :param registry: a registry's endpoint; None for none.
    :param given: services that are known without one.
    :param access: how they are asked; ``timeout`` is for each call.
    """

    def __init__(self, registry: str | None, given: Places, access: Access) -> None:
        self.registry = registry
        #: Those that are known without a registry, even while it is away.
        self.given = given
        self._access = access
        self._memory = _Memory()
        self._clients: dict[tuple[str, ...], RemoteService] = {}

    def places(self, *, renew: bool = False) -> Places | None:
        """All services; None when the registry cannot list them.

        :param renew: ask, whatever is known.
        :raises RemoteError, TransportError: when the registry cannot be asked.
        """
        if self.registry is None:
            return self.given
        ask = self._memory.renewed if renew else self._memory.answer
        listed = ask("", lambda: self._listed(self._access.timeout))
        return None if listed is None else {**listed, **self.given}

    def known(self) -> Places:
        """The services that are known, for completing names: never raises."""
        if self.registry is None:
            return self.given
        listed = self._memory.quietly("", lambda: self._listed(_ASIDE))
        return {**(listed or {}), **self.given}

    def _listed(self, seconds: float) -> Places | None:
        assert self.registry is not None
        access = self._access
        seconds = min(seconds, access.timeout)
        with registry_client(self.registry, seconds, access.trust) as client:
            try:
                answer = listing_of(client)
            except MethodNotFound:
                return None  # gemstone 0.10.1 documents no such method
            return _places_in(answer, client.url)

    def client_of(self, name: str) -> RemoteService:
        """A client of a service, or of all that a pattern matches.

        :raises ServiceNotFound: when there is none.
        """
        urls = self._urls_of(name)
        client = self._clients.get(urls)
        if client is None:
            where = list(urls) if len(urls) > 1 else urls[0]
            client = client_of(where, self._access, self._access.timeout)
            self._clients[urls] = client
        return client

    def _urls_of(self, name: str) -> tuple[str, ...]:
        if name in self.given:
            return self.given[name]
        for renew in (False, True):
            places = self.places(renew=renew)
            if places is None:
                break
            urls = [url for each in matching(name, places) for url in places[each]]
            if urls:
                return tuple(dict.fromkeys(urls))
        if places is not None or self.registry is None:
            raise unknown(name, places or {})
        return self._located(self.registry, name)

    def _located(self, registry: str, name: str) -> tuple[str, ...]:
        """What a registry that cannot list knows of a name, as it is or as it may be written."""
        access = self._access
        try:
            return tuple(locate(registry, name, access.timeout, access.trust))
        except ServiceNotFound:
            if "_" not in name:
                raise
            # A pattern's ? stands for the dot or dash that an attribute cannot have.
            name = name.replace("_", "?")
            return tuple(locate(registry, name, access.timeout, access.trust))

    def specs_of(self, name: str) -> Mapping[str, Any]:
        """What a service says of itself, for completing names and for help: never raises."""

        def ask() -> Any:
            client = self.client_of(name).with_options(timeout=_ASIDE, total_timeout=_ASIDE)
            return specs_of(client)

        specs = self._memory.quietly(name, ask)
        return specs if isinstance(specs, dict) else {}

    def methods_of(self, name: str) -> Mapping[str, Any]:
        """The methods of a service, with their docstrings: never raises."""
        methods = self.specs_of(name).get("methods")
        return methods if isinstance(methods, dict) else {}


def _places_in(answer: object, url: str) -> Places:
    try:
        return {
            str(name): tuple(str(place["url"]) for place in places)
            for name, places in answer.items()  # type: ignore[attr-defined]
        }
    except (AttributeError, KeyError, TypeError):
        raise BadResponse(
            f"{url}: list_services gave {answer!r:.60}, which is no list of services"
        ) from None


def matching(name: str, places: Places) -> list[str]:
    return [name] if name in places else fnmatch.filter(places, name)


def unknown(name: str, places: Iterable[str]) -> UnknownService:
    known = {key_of(each): each for each in places}
    close = difflib.get_close_matches(key_of(name), known, n=1)
    hint = f"; did you mean {known[close[0]]}?" if close else ""
    return UnknownService(f"no service {name!r} is known{hint}")


def key_of(text: str) -> str:
    """What is the same for a name and for the attributes that stand for it."""
    return re.sub(r"[\W_]+", "_", text).strip("_")
