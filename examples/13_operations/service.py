"""A service that tells how it is: metrics, spans, health, slow calls, what blocks."""

import shutil
import time

import gemstone_sync as gemstone


class Desk(gemstone.MicroService):
    """Counts primes, in three ways."""

    name = "desk"
    version = "1.0.0"
    host = "127.0.0.1"
    port = 8000
    metrics = True  # GET /metrics
    slow_call_seconds = 0.2  # each slower call is a line in the log
    blocked_after = 0.3  # so is what holds everybody up for so long

    #: Where spans go, as http://127.0.0.1:4318/v1/traces; nowhere without it.
    traces_url: str = gemstone.setting("")

    def on_service_start(self) -> None:
        if not self.traces_url:
            return
        # Here, in each worker: threads of before the fork would be gone.
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": self.name}))
        exporter = OTLPSpanExporter(self.traces_url)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=20_000))
        trace.set_tracer_provider(provider)

    @gemstone.health_check("disk", timeout=2, every=10)
    def check_disk(self) -> int:
        """Tell how many bytes are left."""
        free = shutil.disk_usage(".").free
        if free < 1_000_000:
            raise OSError("the disk is nearly full")
        return free

    @gemstone.exposed_method()
    def wait(self, seconds: float) -> str:
        """Wait; others are served meanwhile."""
        time.sleep(seconds)
        return "done"

    @gemstone.exposed_method()
    def primes_here(self, below: int) -> int:
        """Count in the call's greenlet: nobody else is served meanwhile."""
        return count_primes(below)

    @gemstone.exposed_method(cpu=True, timeout=20)
    def primes(self, below: int) -> int:
        """Count in another process."""
        return count_primes(below)

    @gemstone.exposed_method(threaded=True)
    def checksum(self, pieces: int) -> int:
        """Compute in C, in a native thread."""
        return sum(bytes(1_000_000 * pieces))


def count_primes(below: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


if __name__ == "__main__":
    Desk().start()
