"""Read the contract that a service tells of itself."""

from __future__ import annotations

from typing import Any

from ..broker_urls import without_passwords
from ..contract.model import Contract
from ..contract.openrpc_reader import from_openrpc
from ..contract.reading import BadDocument
from ..errors import BadResponse

__all__ = ["contract_in"]


def contract_in(document: Any, url: str) -> Contract:
    """Read the answer to ``rpc.discover``.

    :raises BadResponse: when it is no OpenRPC document.
    """
    try:
        return from_openrpc(document)
    except BadDocument as error:
        raise BadResponse(f"{without_passwords(url)}: rpc.discover: {error}") from None
