"""The contract of discovery strategies: say where one is, find others, say goodbye."""

from __future__ import annotations

import abc
import logging
from typing import Any

__all__ = ["BaseDiscoveryStrategy", "close_strategy"]

_logger = logging.getLogger("gemstone_sync.discovery")


class BaseDiscoveryStrategy(abc.ABC):
    """A way to find services by their name.

    A strategy of your own needs `ping` and `locate`; without a `goodbye` its entries go when they
    expire. All three may block, and may be called from several greenlets or threads at once; what
    they raise is logged and tried again later, and another strategy is asked meanwhile.

    Nothing connects in a constructor.
    """

    @abc.abstractmethod
    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        """Say that a service answers at a URL. Called at the start, and then at every interval.

        :param name: the service's name.
        :param location: the URL of its endpoint.
        :param kwargs: ``instance``, a text that no other running instance has, and ``interval``,
            the seconds until the next ping. A strategy may ignore them, and one that takes no
            keywords is not given any.
        """

    @abc.abstractmethod
    def locate(self, name: str) -> list[str]:
        """Return the URLs of the services whose name matches; an empty list for none.

        :param name: a name, or a pattern with ``*``, ``?`` and ``[...]`` as in `fnmatch`, upper
            and lower case told apart.
        """

    # Not abstract: entries that are not taken out expire by themselves.
    def goodbye(self, name: str, location: str, **kwargs: Any) -> None:  # noqa: B027
        """Say that a service no longer answers at a URL. Called once, after the last ping.

        :param kwargs: ``instance``, as for `ping`.
        """

    def close(self) -> None:  # noqa: B027
        """Give up connections; the strategy may be used again."""


def close_strategy(strategy: Any) -> None:
    """Close it, if it has something to close. What it raises is logged: others come after it."""
    close = getattr(strategy, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception:
        _logger.exception("%s could not be closed", strategy)
