"""Every other broker that kombu knows: `transport`, `link`, `channels` (kombu's own, mended)."""

from .transport import KombuEventTransport

__all__ = ["KombuEventTransport"]
