"""Operating a service: its health, its logs, and what observes its calls and events.

Reading order: `health`, `logs`; `observers` (who is told of what), `statistics`, `metrics` (what is
counted), with `metrics_files` (numbers of several processes) and `prometheus` (the library and the
page); `status` (what the status page tells), with `siblings` (asking other workers);
`shared_directory` (what workers share). Spans are made where calls and events are: `tracing`, at
the top of the package.
"""

from ..dispatch import ObservedCall
from ..event.observed import ObservedEvent
from .health import Health, HealthCheck, Lifecycle, text_of
from .logs import (
    CallFilter,
    CallRecord,
    JsonFormatter,
    add_call_fields,
    restore_loggers,
    show_logs,
)
from .metrics import Metrics, share_metrics, share_metrics_no_more
from .observers import Observer, notifier, observe_process, overrides
from .prometheus import check_installed, chosen_directory
from .shared_directory import remove_directory
from .siblings import Siblings
from .slow_calls import SlowCalls
from .statistics import Statistics
from .status import Status, together

__all__ = [
    "CallFilter",
    "CallRecord",
    "Health",
    "HealthCheck",
    "JsonFormatter",
    "Lifecycle",
    "Metrics",
    "ObservedCall",
    "ObservedEvent",
    "Observer",
    "Siblings",
    "SlowCalls",
    "Statistics",
    "Status",
    "check_installed",
    "chosen_directory",
    "add_call_fields",
    "notifier",
    "observe_process",
    "overrides",
    "remove_directory",
    "restore_loggers",
    "share_metrics",
    "share_metrics_no_more",
    "show_logs",
    "text_of",
    "together",
]
