"""The outbox: events that are stored first and sent afterwards.

Reading order: `outbox` (what users make), `databases` (the user's own, and events in their
transactions), `storage` (what every database with stored events can do, and all its statements),
`sqlite` and `sqlalchemy` (how each kind is reached), `lease` (one relay at a time per database),
`delivery` (what becomes of events at each transport), `relay` (sending).
"""

from .databases import Transaction
from .outbox import Outbox, RefusedEvent

__all__ = ["Outbox", "RefusedEvent", "Transaction"]
