"""Give ``gemstone shell`` its ``s``: services by attribute, and their methods.

::

    s.greeter.say_hello("world")      greeter
    s.project_worker_1                project.worker.1
    s["project.worker.1"]             by its exact name; with * or ? all that match
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import keyword
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from ..client.namespaces import MethodNamespace
from ..errors import GemstoneError, MethodNotFound, ServiceNotFound
from ..exit_codes import printable
from ..suggestions import did_you_mean
from .options import Access
from .remote import client_of, listing_of, locate, registry_client

__all__ = ["Places", "Services"]

#: Names of services, and where they are.
Places: TypeAlias = "Mapping[str, tuple[str, ...]]"

#: Seconds for which what a registry said counts.
_FRESH = 3.0
#: Seconds for what is asked while somebody types.
_ASIDE = 2.0
#: Services whose names are shown at once.
_NAMED = 20


class UnknownService(ServiceNotFound, AttributeError):
    """An attribute that is no service: for those who complete names, simply no attribute."""


class Services:
    """All services: ``s``. An attribute or item of it has the methods of a service.

    Its own attributes start with an underscore: every other name is a service's.

    :param registry: a registry's endpoint; None for none.
    :param given: services that are known without one, even while it is away.
    :param access: how they are asked; ``timeout`` is for each call.
    """

    def __init__(self, registry: str | None, given: Places, access: Access) -> None:
        self._given = given
        self._registry = registry
        self._access = access
        self._listed: Places = {}
        self._cannot_list = False
        self._asked_at = -_FRESH
        self._client_of = functools.cache(lambda urls: client_of(urls, access))

    def __getattr__(self, name: str) -> MethodNamespace:
        if name.startswith("_") and not name[1:2].isdigit():
            raise AttributeError(name)  # Python, IPython and others look for such in any object
        return self._methods_of(name, lambda known: _one_written_as(name, known))

    def __getitem__(self, name: str) -> MethodNamespace:
        """Find a service by its exact name, or all that match a pattern."""
        return self._methods_of(name, lambda known: fnmatch.filter(known, name))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places()))

    def __dir__(self) -> list[str]:
        return sorted({_identifier_of(name) for name in self._known()})

    def _ipython_key_completions_(self) -> list[str]:
        return sorted(self._known())

    def __repr__(self) -> str:
        names = sorted(self._known())
        told = ", ".join(names[:_NAMED]) or "none is known"
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return printable(f"<services: {told}{more}>")

    def _places(self, *, renew: bool = False, within: float | None = None) -> Places:
        """List all services.

        :param renew: ask the registry, however lately it was asked.
        :param within: seconds for asking, when not those of a call.
        :raises RemoteError, TransportError: when the registry cannot be asked.
        """
        is_old = time.monotonic() - self._asked_at >= _FRESH
        if self._registry is not None and (renew or is_old):
            seconds = min(within or self._access.timeout, self._access.timeout)
            with registry_client(self._registry, self._access._replace(timeout=seconds)) as client:
                try:
                    listing = listing_of(client)
                except MethodNotFound:  # gemstone 0.10.1 documents no such method
                    listing, self._cannot_list = {}, True
            self._listed = {
                name: tuple(place["url"] for place in places) for name, places in listing.items()
            }
            self._asked_at = time.monotonic()
        return {**self._listed, **self._given}

    def _known(self) -> Places:
        """List the services that are known, for completing names: never raises."""
        with contextlib.suppress(GemstoneError):
            return self._places(within=_ASIDE)
        return {**self._listed, **self._given}

    def _urls_of(self, text: str, match: Callable[[Places], list[str]]) -> tuple[str, ...]:
        """Find services; the registry is asked anew before it is said that there is none.

        :param text: what is looked for.
        :param match: lists those of the names that it means.
        :raises ServiceNotFound: when there is none.
        """
        for renew in (None, False, True):
            places = self._given if renew is None else self._places(renew=renew)
            if found := match(places):
                return tuple(dict.fromkeys(url for name in found for url in places[name]))
        if self._registry is None or not self._cannot_list:
            raise UnknownService(f"no service {text!r} is known{did_you_mean(text, places)}")
        try:
            return tuple(locate(self._registry, text, self._access))
        except ServiceNotFound:
            # A pattern's ? stands for the dot or dash that an attribute cannot have.
            return tuple(locate(self._registry, text.replace("_", "?"), self._access))

    def _methods_of(self, text: str, match: Callable[[Places], list[str]]) -> MethodNamespace:
        return self._client_of(self._urls_of(text, match)).methods


def _one_written_as(attribute: str, names: Places) -> list[str]:
    """Find the service that an attribute stands for.

    :raises UnknownService: when several are written alike.
    """
    if attribute in names:
        return [attribute]
    found = sorted(name for name in names if _identifier_of(name) == attribute)
    if len(found) > 1:
        ways = " or ".join(f"s[{name!r}]" for name in found)
        raise UnknownService(f"{attribute} may be several services: write {ways}")
    return found


def _identifier_of(name: str) -> str:
    """Write a name as an attribute.

    >>> _identifier_of("project.worker-1"), _identifier_of("1st"), _identifier_of("import")
    ('project_worker_1', '_1st', 'import_')
    """
    text = re.sub(r"\W", "_", name)
    if not text or text[0].isdigit():
        return f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) else text
