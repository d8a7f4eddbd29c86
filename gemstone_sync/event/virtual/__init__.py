"""Queues of our own, behind one contract: in SQLite, in Redis, and in memory."""
