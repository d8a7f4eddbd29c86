"""The outbox: events that are stored first and sent afterwards."""
