"""``gemstone contract``: what a service promises, as a document."""

from __future__ import annotations

import json

import click

from ..exit_codes import harmless
from .options import Access, access_options, source_argument
from .output import document_options

__all__ = ["command"]


@click.command("contract")
@source_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["openrpc", "openrpc-1.3", "asyncapi", "markdown"]),
    default="openrpc",
    show_default=True,
    help="Methods as OpenRPC 1.4.1 or 1.3.2, events as AsyncAPI 3.0.0, or both for people.",
)
@document_options
@access_options
def command(source: str, format_name: str, access: Access) -> str:
    """Write what a service promises: its methods, types, errors and events.

    SOURCE is the URL of a running service, module:Class (or file.py:Class), or a file that holds a
    document. The same source gives the same bytes.

    \b
    gemstone contract shop.service:Shop -o openrpc.json
    gemstone contract shop.service:Shop -o openrpc.json --check
    gemstone contract http://localhost:8000/api --format markdown
    """
    from ..contract.asyncapi import to_asyncapi
    from ..contract.openrpc import to_openrpc
    from .source import read_source

    found = read_source(source, access)
    if format_name == "markdown":
        from ..contract.markdown import to_markdown

        return to_markdown(found.contract)
    if format_name == "asyncapi":
        document = found.documents.get("asyncapi") or to_asyncapi(found.contract)
    else:
        version = "1.3.2" if format_name == "openrpc-1.3" else "1.4.1"
        document = found.documents.get("openrpc", {})
        if document.get("openrpc") != version:
            document = to_openrpc(found.contract, version)
    return harmless(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"
