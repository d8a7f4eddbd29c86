"""Operating a service: its health, its logs."""

from .health import Lifecycle
from .logs import show_logs

__all__ = ["Lifecycle", "show_logs"]
