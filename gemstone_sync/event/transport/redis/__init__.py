"""Queues in a Redis: `store` and ``store.lua``."""
