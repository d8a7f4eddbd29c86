"""Event transports: what a service's ``event_transports`` holds."""

from .base import BaseEventTransport, Reception

__all__ = ["BaseEventTransport", "Reception"]
