"""Spans of OpenTelemetry, where the program uses it; nothing at all where it does not.

A program that has given OpenTelemetry a provider (``trace.set_tracer_provider``) gets a span for
each call served (`dispatch.traced`), each call of another service (`client.traced`), whatever is
published and each attempt of a handler (`event.traced`), and each run of a periodic task. Names and
attributes are those of the semantic conventions 1.45. Nothing of OpenTelemetry is imported here
before the program has done so: ``pip install 'gemstone_sync[tracing]'`` brings its API, the SDK is
the program's own affair.

The context that travels is W3C's: ``traceparent``, ``tracestate`` and ``baggage``, whatever the
program's propagators are.

Hot path: `is_on` is asked for each call.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["API", "STATUS_CODE", "Span", "flush", "in_span", "is_on", "started_span"]

_logger = logging.getLogger("gemstone_sync.tracing")

#: Renamed from ``rpc.response.status_code`` in 1.45, which the constants of PyPI's
#: opentelemetry-semantic-conventions do not have yet.
STATUS_CODE = "rpc.status_code"

#: The module that a program imports which wants spans.
API = "opentelemetry.trace"
_UNKNOWN = object()

#: The provider that was asked last, and its tracer.
_tracer: tuple[Any, Any] = (None, None)
_is_told = False


def is_on() -> bool:
    """Tell whether somebody wants spans: the program has a provider of them."""
    api: Any = sys.modules.get(API)
    if api is None:
        return False
    # The public question takes 2 µs as long as the answer is no.
    provider = getattr(api, "_TRACER_PROVIDER", _UNKNOWN)
    return provider is not None and (provider is not _UNKNOWN or _has_provider(api))


def _has_provider(api: Any) -> bool:
    try:
        return not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)
    except AttributeError:  # half imported
        return False


def _current_tracer() -> Any:
    global _tracer
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if _tracer[0] is not provider:  # a forked child may have one of its own
        version = sys.modules[__package__].__version__
        _tracer = (provider, provider.get_tracer(__package__, version))
    return _tracer[1]


class Span:
    """A span that is the current one until it ends; in the context in which it began."""

    __slots__ = ("_token", "span")

    def __init__(self, span: Any, token: Any) -> None:
        self.span = span
        self._token = token

    def end(
        self,
        error_type: str | None = None,
        told: str | None = None,
        exception: BaseException | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """End it.

        :param error_type: what went wrong, as a name of which there are few; None for nothing.
        :param told: the same in words.
        :param exception: is recorded with its traceback.
        :param attributes: what is known by now.
        """
        from opentelemetry import context
        from opentelemetry.trace import Status, StatusCode

        span = self.span
        try:
            if span.is_recording():
                span.set_attributes(attributes or {})
                if error_type is not None:
                    span.set_attribute("error.type", error_type)
                    span.set_status(Status(StatusCode.ERROR, told))
                if exception is not None:
                    span.record_exception(exception)
            span.end()
        except Exception as error:
            _tell(error)
        finally:
            context.detach(self._token)


def _tell(error: Exception) -> None:
    """Tell once that spans cannot be made: the program's own provider fails, and no call does."""
    global _is_told
    if not _is_told:
        _is_told = True
        _logger.error("spans are missing: the program's tracer provider fails", exc_info=error)


def started_span(
    name: str,
    kind: str,
    attributes: Mapping[str, Any],
    carrier: Mapping[str, str] | None = None,
    *,
    linked: bool = False,
    outer: Mapping[str, str] | None = None,
) -> Span | None:
    """Begin a span, and make it the current one; None where the program's provider fails.

    :param kind: ``SERVER``, ``CLIENT``, ``PRODUCER``, ``CONSUMER`` or ``INTERNAL``.
    :param carrier: the headers that came, of which the context is read that it goes on from; it
        counts when there is no current span, as of an instrumentation of the server.
    :param linked: link it to that context, too.
    :param outer: the headers of what carried a message whose own `carrier` counts in any case; the
        span is linked to the current one, or to that of these headers.
    """
    try:
        return _started(name, kind, attributes, carrier, linked, outer)
    except Exception as error:
        _tell(error)
        return None


def _started(
    name: str,
    kind: str,
    attributes: Mapping[str, Any],
    carrier: Mapping[str, str] | None,
    linked: bool,
    outer: Mapping[str, str] | None,
) -> Span:
    from opentelemetry import context, trace

    def span_in(found: Any) -> Any:
        return trace.get_current_span(found).get_span_context()

    ambient = parent = context.get_current()
    links = []
    if carrier and (outer is not None or not span_in(parent).is_valid):
        parent = _extracted(carrier, parent)
        if outer and not span_in(ambient).is_valid:
            ambient = _extracted(outer, ambient)
        told = span_in(ambient if outer is not None else parent)
        if told.is_valid and (linked or outer is not None):
            links.append(trace.Link(told))
    span = _current_tracer().start_span(
        name,
        context=parent,
        kind=trace.SpanKind[kind],
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    )
    return Span(span, context.attach(trace.set_span_in_context(span, parent)))


def _extracted(carrier: Mapping[str, str], parent: Any) -> Any:
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract(carrier, context=parent)
    return W3CBaggagePropagator().extract(carrier, context=found)


@contextlib.contextmanager
def in_span(name: str) -> Iterator[None]:
    """Run a block in a span of its own, if somebody wants spans."""
    if not is_on():
        yield
        return
    span = started_span(name, "INTERNAL", {})
    try:
        yield
    except BaseException as error:
        if span is not None:
            span.end(type(error).__name__, str(error)[:200], error)
        raise
    if span is not None:
        span.end()


def flush(seconds: float) -> None:
    """Have what was recorded exported, in so many seconds at most, if the provider can do that."""
    if not is_on():
        return
    from opentelemetry import trace

    function = getattr(trace.get_tracer_provider(), "force_flush", None)
    if function is not None:
        function(max(1, int(seconds * 1000)))
