"""Stores that remember which events were handled already."""

from .base import Claim, ProcessedEvents

__all__ = ["Claim", "ProcessedEvents"]
