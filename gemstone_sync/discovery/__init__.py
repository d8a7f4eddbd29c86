"""Finding services by name, and being found.

Reading order: `base` (the contract), `static`, `directory` (names -> URLs that expire) with
`memory`, `urls` (what may be handed to a caller), `http` (a registry), `redis_strategy`; then what
a service does with them: `announcer` (pings and a goodbye), `locator` (clients that follow what
comes and goes).
"""

from typing import TYPE_CHECKING

from .announcer import Announcer
from .base import BaseDiscoveryStrategy
from .directory import Directory
from .http import HttpDiscoveryStrategy
from .locator import Locator
from .memory import MemoryDiscoveryStrategy
from .redis_strategy import RedisDiscoveryStrategy
from .static import StaticDiscoveryStrategy

__all__ = [
    # strategies
    "BaseDiscoveryStrategy",
    "HttpDiscoveryStrategy",
    "RedisDiscoveryStrategy",
    "StaticDiscoveryStrategy",
    "MemoryDiscoveryStrategy",
    # what a service uses them for
    "Announcer",
    "Locator",
    "Directory",
]

if not TYPE_CHECKING:  # or checkers would believe that there is every name

    def __getattr__(name: str) -> object:
        from ..missing import missing_name

        raise missing_name(__name__, name)
