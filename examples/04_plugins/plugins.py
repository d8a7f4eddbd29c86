"""Two plugins. A plugin that raises is logged, and the call goes on."""

from __future__ import annotations

from collections import Counter

import gemstone_sync


class CallCounter(gemstone_sync.BasePlugin):
    """Counts the calls of each method."""

    name = "call_counter"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def on_method_call(self, jsonrpc_request: gemstone_sync.JsonRpcRequest) -> None:
        self.calls[jsonrpc_request.method] += 1


class ErrorReporter(gemstone_sync.BasePlugin):
    """Tells somebody of every unexpected exception; here, for lack of a mail server, the log."""

    name = "error_reporter"
    microservice: gemstone_sync.MicroService

    def __init__(self, recipient: str) -> None:
        self.recipient = recipient
        self.reports = 0

    def on_internal_error(self, exc_instance: BaseException) -> None:
        self.reports += 1
        self.microservice.logger.warning("to %s: %r", self.recipient, exc_instance)

    def on_service_stop(self) -> None:
        self.microservice.logger.info("%d reports sent", self.reports)
