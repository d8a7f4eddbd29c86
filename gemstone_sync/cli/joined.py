"""Find the services whose methods are tools of one agent: at a URL, or those of a registry.

They are asked again from time to time: services begin, end, and come back with other methods.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urljoin

import click

from ..concurrency import spawn
from ..contract.model import Contract
from ..errors import GemstoneError, MethodNotFound
from ..exit_codes import CommandFailed, printable
from ..mcp.remote import Found, Service
from .options import Access
from .remote import client_of, listing_of, registry_client
from .source import read_source

__all__ = ["Joined", "at_url", "of_registry"]

#: Seconds for one of several services to tell its methods: agents wait for the slowest.
_PATIENCE = 5.0

#: Of a service; the last of an address that is none.
_FAULTS = (CommandFailed, GemstoneError, click.BadParameter)


def at_url(url: str, access: Access) -> Joined:
    """Make the finder of the service at a URL: of its JSON-RPC endpoint or of its ``/mcp``."""
    return Joined(lambda: {"": [url]}, access)


def of_registry(registry: str, pattern: str, access: Access) -> Joined:
    """Make the finder of a registry's services, whose names go before those of their tools.

    :param pattern: a name, or one with ``*`` and ``?``.
    """
    patient = access._replace(timeout=min(_PATIENCE, access.timeout))

    def places() -> Mapping[str, Sequence[str]]:
        with registry_client(registry, access) as client:
            listing = listing_of(client, pattern)
        if not listing:
            raise CommandFailed(printable(f"the registry knows no service {pattern!r}"))
        return {name: [place["url"] for place in listing[name]] for name in sorted(listing)}

    return Joined(places, patient, access.timeout)


class Joined:
    """Finds services and asks for their methods; those that do not answer stay as they were.

    :param places: returns the URLs of each service by its name; the name of a single one is empty.
    :param access: how to reach them when they are asked for their methods.
    :param call_timeout: seconds for a call of a tool; those of `access` when left out.
    """

    def __init__(
        self,
        places: Callable[[], Mapping[str, Sequence[str]]],
        access: Access,
        call_timeout: float | None = None,
    ) -> None:
        self._places = places
        self._access = access
        # Kept, with their connections.
        self._client_of = functools.cache(lambda *urls: client_of(urls, access, call_timeout))
        self._known: dict[str, Service] = {}

    def __call__(self) -> Found:
        """Find them.

        :raises CommandFailed, GemstoneError, click.BadParameter: when none was ever found.
        """
        try:
            places = self._places()
        except _FAULTS as error:
            return self._as_known(error)
        asked = {name: spawn(self._ask, name, urls) for name, urls in places.items()}
        known, faults = {}, {}
        for name, greenlet in asked.items():
            outcome = greenlet.get()
            if isinstance(outcome, Service):
                known[name] = outcome
                continue
            faults[name] = outcome
            if name in self._known:
                known[name] = self._known[name]
        if not known:
            return self._as_known(*faults.values())
        for name, fault in faults.items():
            what = "is as it was" if name in known else "is left out"
            click.echo(printable(f"{name} {what}: {fault}"), err=True)
        self._known = known
        return self._found(is_whole=not faults)

    def _as_known(self, *faults: Exception) -> Found:
        for fault in faults:
            if not self._known:
                raise fault
            click.echo(printable(str(fault)), err=True)
        return self._found(is_whole=False)

    def _found(self, is_whole: bool) -> Found:
        services = list(self._known.values())
        if "" in self._known:
            contract = services[0].contract
            told = "\n\n".join(filter(None, (contract.summary, contract.description)))
            return Found(services, (contract.name, contract.version, told), is_whole)
        about = ("gemstone", "0", f"The services {', '.join(self._known)}.")
        return Found(services, about, is_whole)

    def _ask(self, name: str, urls: Sequence[str]) -> Service | Exception:
        fault: Exception = CommandFailed(f"{name} has no address")
        for url in urls:
            try:
                contract, endpoint = self._contract_at(url)
                client = self._client_of(*([endpoint] if len(urls) == 1 else urls))
                return Service(contract, client, name and f"{name}.")
            except _FAULTS as error:
                fault = error
        return fault

    def _contract_at(self, url: str) -> tuple[Contract, str]:
        """Ask a service for its contract; return the URL of its JSON-RPC endpoint, too.

        :raises CommandFailed, GemstoneError: when it cannot be asked.
        """
        try:
            return read_source(url, self._access).contract, url
        except MethodNotFound:
            endpoint = self._endpoint_beside(url)
            if endpoint is None:
                raise
        return read_source(endpoint, self._access).contract, endpoint

    def _endpoint_beside(self, url: str) -> str | None:
        """Ask an ``/mcp`` for the JSON-RPC endpoint of its service; None when it tells of none."""
        opening = {"protocolVersion": "2025-03-26", "capabilities": {}}
        with client_of(url, self._access) as client:
            try:
                told = client.call_method("initialize", opening).value()
                return urljoin(url, str(told["_meta"]["gemstone_sync/endpoint"]))
            except (GemstoneError, KeyError, TypeError):
                return None
