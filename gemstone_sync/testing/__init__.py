"""Testing services: an in-process client, a running service, a pytest plugin.

Reading order: `client`, `running`, `plugin` (fixtures; registered as a pytest plugin on install and
patching nothing), `monkey` (``-p gemstone_sync.testing.monkey``: patches the process early).
"""

from .client import HttpReply, ServiceClient
from .running import running_service

__all__ = ["HttpReply", "ServiceClient", "running_service"]
