"""Modules and plugins stand in class-level lists, and yet no two services share one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ServiceConfigurationError

if TYPE_CHECKING:
    from .microservice import MicroService

__all__ = ["take"]

T = TypeVar("T", bound=Any)

_PRISTINE = "_gemstone_pristine"


def take(part: T, service: MicroService) -> T:
    """Give `service` a module or plugin of its own.

    The first service takes the object itself, so that who made it sees what it does; a copy of it
    as it was then is kept for the services after.

    :raises ServiceConfigurationError: when a second service needs a copy that cannot be made.
    """
    if part.microservice is None:
        try:
            pristine = copy.deepcopy(part)
        except Exception:  # it holds a lock, a socket, …: found out only if a copy is needed
            pristine = None
        setattr(part, _PRISTINE, pristine)
    elif part.microservice is not service:
        pristine = getattr(part, _PRISTINE, None)
        if pristine is None:
            raise ServiceConfigurationError(
                f"{type(part).__qualname__} serves {part.microservice.name!r} already and cannot "
                "be copied: set the list on each service in its __init__"
            )
        part = copy.deepcopy(pristine)
        setattr(part, _PRISTINE, pristine)
    part.set_microservice(service)
    return part
