"""Queues in a SQLite file, or in memory: `tables`, `database`, `store`."""
