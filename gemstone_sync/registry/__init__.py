"""The service registry, ready to run: ``python -m gemstone_sync.registry``, or `ServiceRegistry`.

Importing this package patches the process, as `gemstone_sync.service` does.

Reading order: `service_registry` (the service), `admission` (which names and URLs are taken),
`state` (the file that survives a restart), `page` (what a browser sees), `command`.
"""

# ruff: noqa: E402
from ..concurrency import patch, start_over_if_due

start_over_if_due()
patch()

from .admission import RegistrationRefused
from .service_registry import ServiceRegistry

__all__ = ["RegistrationRefused", "ServiceRegistry"]
