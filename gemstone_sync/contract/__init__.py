"""Contracts of services: parameters checked before the call, and all promises as one value.

Reading order: `hints` (checking one annotation) with its helpers `parts`, `customs` and
`pydantic_hints`, then `signatures` and `binding` (a whole signature), and `results`; then `model`
(the contract), `builder` (from a service's parts to it), `schemas` (hints as JSON Schema),
`openrpc`, `asyncapi` and `markdown` (documents), `openrpc_reader` (back from them). Those after
`results` are imported when somebody asks for a contract.
"""

from .binding import ParameterBinder

__all__ = ["ParameterBinder"]
