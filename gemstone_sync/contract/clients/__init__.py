"""Client programs, written from a contract: text in, text out; nothing of a document is run.

Reading order: `names` (identifiers out of anything), `types` (schemas -> types that both languages
have), `python`, `typescript`.
"""

from .python import python_client
from .typescript import typescript_client

__all__ = ["python_client", "typescript_client"]
