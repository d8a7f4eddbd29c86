"""Read SOURCE: the contract of a running service, of a class, or in a document.

What a running service of this framework tells is taken as it tells it, so that a document is the
same whether it is written from the class or from its URL.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from ..contract.asyncapi import from_asyncapi, to_asyncapi
from ..contract.model import Contract
from ..contract.openrpc_reader import from_openrpc
from ..contract.reading import BadDocument
from ..errors import MethodNotFound
from ..exit_codes import REFUSED, USAGE, CommandFailed
from .options import Access, json_of, require_extra

__all__ = ["Source", "read_source"]

_YAML = (".yaml", ".yml")
_DOCUMENTS = ("/openrpc.json", "/asyncapi.json")


@dataclass(frozen=True)
class Source:
    """The contract that SOURCE holds.

    :ivar contract: all that it says: methods and events where it has both.
    :ivar documents: those that it has itself, by ``"openrpc"`` and ``"asyncapi"``. Others are made
        of the contract.
    """

    contract: Contract
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_source(text: str, access: Access) -> Source:
    """Read a source.

    :param text: the URL of an endpoint, ``module:Class`` as for `target.make`, or a file that holds
        an OpenRPC or AsyncAPI document, in JSON or YAML.
    :param access: credentials and the time for a service at a URL.
    :raises CommandFailed: in one line, for a document that is none.
    :raises click.UsageError: for what is none of these.
    :raises RemoteError, TransportError: when a service cannot be asked.
    """
    if "://" in text:
        return _of_url(text, access)
    path = Path(text)
    if path.suffix in (".json", *_YAML) or (path.is_file() and path.suffix != ".py"):
        return _of_file(path)
    return _of_class(text)


def _of_class(text: str) -> Source:
    from ..service.microservice import documents_of
    from .target import make, users_faults

    try:
        service = make(text)
        with users_faults():
            contract = documents_of(service).contract()
            channels = documents_of(service).channels()
    except SystemExit:  # the traceback is shown; 1 says that something breaks, or is out of date
        raise SystemExit(USAGE) from None
    return Source(contract, {"asyncapi": to_asyncapi(contract, channels=channels)})


def _of_file(path: Path) -> Source:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {os.strerror(error.errno or 0)}") from None
    if path.suffix in _YAML:
        content = _json_of_yaml(path, content)
    document = json_of(content.removeprefix(b"\xef\xbb\xbf"), str(path))
    return Source(_contract_in(document, str(path), USAGE))


def _json_of_yaml(path: Path, content: bytes) -> bytes:
    """Read YAML as the JSON that it stands for: texts as keys, dates as texts."""
    require_extra("yaml", "yaml", "pyyaml")
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {
            first: [(tag, regexp) for tag, regexp in known if not tag.endswith(":timestamp")]
            for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a few lines of them unfold to any size
                raise ValueError("references by * are not followed")
            return super().compose_node(parent, index)

    try:
        return json.dumps(yaml.load(content, Loader)).encode()
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise CommandFailed(f"{path} is no YAML: {error}", USAGE) from None


def _contract_in(document: Any, where: str, code: int) -> Contract:
    kind = "asyncapi" if isinstance(document, dict) and "asyncapi" in document else "openrpc"
    try:
        return (from_asyncapi if kind == "asyncapi" else from_openrpc)(document)
    except BadDocument as error:
        raise CommandFailed(f"{where}: {error}", code) from None


def _of_url(url: str, access: Access) -> Source:
    from .remote import Clock, client_of

    for name in _DOCUMENTS:
        url = url.removesuffix(name)
    clock = Clock(access.timeout)
    with client_of(url, access) as client:
        document = client.call_method("rpc.discover").value()
        contract = _contract_in(document, url, REFUSED)
        try:
            asked = client.with_options(timeout=clock.left, total_timeout=clock.left)
            events = asked.call_method("rpc.asyncapi").value()
        except MethodNotFound:  # a service of another make
            events = None
    documents = {"openrpc": document}
    if isinstance(events, dict):
        told = _contract_in(events, url, REFUSED)
        schemas = dict(sorted({**told.schemas, **contract.schemas}.items()))
        contract = replace(contract, emits=told.emits, handles=told.handles, schemas=schemas)
        documents["asyncapi"] = events
    return Source(contract, documents)
