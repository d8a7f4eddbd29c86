"""Testing services: an in-process client, a running service, fakes of others, a pytest plugin.

Reading order: `client`, `running`, `remote` (for what calls other services),
`plugin` (fixtures; registered as a pytest plugin on install and
patching nothing), `monkey` (``-p gemstone_sync.testing.monkey``: patches the process early).
"""

from .client import HttpReply, ServiceClient
from .remote import FakeRemoteService, InProcessAdapter
from .running import running_service

__all__ = [
    "FakeRemoteService",
    "HttpReply",
    "InProcessAdapter",
    "ServiceClient",
    "running_service",
]
