"""Stores that remember which events were handled already."""

from .base import Claim, ProcessedEvents
from .choice import processed_events
from .memory import MemoryProcessedEvents
from .redis import RedisProcessedEvents
from .sqlite import SqliteProcessedEvents

__all__ = [
    # the contract
    "Claim",
    "ProcessedEvents",
    # the stores
    "MemoryProcessedEvents",
    "RedisProcessedEvents",
    "SqliteProcessedEvents",
    "processed_events",
]
