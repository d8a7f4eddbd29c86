"""Operating a service: its health, its logs."""

from .health import Lifecycle
from .logs import restore_loggers, show_logs

__all__ = ["Lifecycle", "restore_loggers", "show_logs"]
