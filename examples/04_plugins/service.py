"""A calculator that is watched: by a plugin that counts calls and one that reports errors."""

from __future__ import annotations

import gemstone_sync

from plugins import CallCounter, ErrorReporter


class CalculatorService(gemstone_sync.MicroService):
    name = "calculator"
    plugins = [CallCounter()]
    use_statistics = True

    @gemstone_sync.exposed_method()
    def divide(self, dividend: float, divisor: float) -> float:
        """Divide; the mistake in it is what ErrorReporter is for."""
        return dividend / divisor

    @gemstone_sync.exposed_method()
    def call_counts(self) -> dict[str, int]:
        """How often each method was called."""
        return self.get_plugin(CallCounter).calls


if __name__ == "__main__":
    service = CalculatorService()
    # Plugins that need a setting can be registered before the start.
    service.register_plugin(ErrorReporter("operators@example.org"))
    service.start()
