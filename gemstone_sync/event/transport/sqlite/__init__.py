"""Queues in a SQLite file, or in memory: `schema`, `database`, `routing`, `store`, `inotify`."""
