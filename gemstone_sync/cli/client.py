"""``gemstone client``: a module that calls a service, written from its contract."""

from __future__ import annotations

import click

from ..exit_codes import USAGE, CommandFailed
from .options import Access, access_options, source_argument
from .output import document_options

__all__ = ["command"]


@click.command("client")
@source_argument
@click.option(
    "--lang",
    type=click.Choice(["python", "typescript"]),
    default="python",
    show_default=True,
    help="Python needs gemstone_sync and msgspec, TypeScript nothing.",
)
@document_options
@access_options
def command(source: str, lang: str, access: Access) -> str:
    """Write a typed client of a service: one file to be imported.

    SOURCE is the URL of a running service, module:Class (or file.py:Class), or a file that holds an
    OpenRPC document. The same source gives the same bytes.

    \b
    gemstone client shop.service:Shop -o shop_client.py
    gemstone client http://localhost:8000/api --lang typescript -o shop.ts
    gemstone client openrpc.json -o shop_client.py --check
    """
    from .. import __version__
    from ..contract.clients import python_client, typescript_client
    from ..contract.reading import BadDocument
    from .source import read_source

    contract = read_source(source, access).contract
    if not contract.methods:
        raise CommandFailed(f"{source} tells of no methods that a client could call", USAGE)
    write = python_client if lang == "python" else typescript_client
    try:
        return write(contract, __version__)
    except (BadDocument, RecursionError) as error:
        told = str(error) if isinstance(error, BadDocument) else "it is nested too deeply"
        raise CommandFailed(f"{source}: {told}", USAGE) from None
