"""gemstone_sync's own kombu transports over a `store`: SQLite, Redis, and in memory."""
