"""Queues in a Redis: `scripts`, `subscription`, `store`."""
