"""The outbox: events that are stored first and sent afterwards.

Reading order: `box` (the contract of a database with stored events), `sqlite_box`,
`sqlalchemy_box`, `databases` (from what users give to boxes), `transaction` (rows in the user's own
transaction), `tenure` (one relay at a time per database), `lane` (one transport), `relay` and
`relays` (sending), `outbox` (what users make).
"""

from .outbox import Outbox, Refused
from .transaction import Transaction

__all__ = ["Outbox", "Refused", "Transaction"]
