"""The way of a body: read, look up, take a place, authenticate, bind, call, encode.

The same for every transport: bytes and a `CallContext` in, bytes or nothing out. Nothing that a
caller sends makes `Dispatcher.dispatch` raise.

Hot path: `dispatch`, `answer`, `_serve` and `_call` run for each call.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from gevent.lock import BoundedSemaphore

from .. import tracing
from ..concurrency import (
    USER_FAULTS,
    Call,
    CallSlots,
    DeadlineReached,
    Deadlines,
    Doing,
    NoSlot,
    current_call,
    let_others_run,
    tells_doing,
)
from ..errors import (
    UNSET,
    AccessDenied,
    DeadlineExceeded,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
    RemoteError,
    ResponseTooLarge,
    RpcError,
    ServerOverloaded,
    TooManyHops,
)
from ..protocol import (
    PLAIN,
    WIRE_FORMATS,
    Encoder,
    ErrorObject,
    Item,
    JsonRpcRequest,
    JsonRpcResponse,
    RequestId,
    ResponseWriter,
    Unset,
    read_body,
)
from .batch import run_in_parallel, run_in_turn
from .context import CallContext
from .log_throttle import LogThrottle
from .methods import Hooks, Method
from .middleware import Nest

__all__ = ["DispatchSettings", "Dispatcher"]

#: Told by identity from a ServerOverloaded that a method raised itself.
_OVERLOADED = ErrorObject.of(ServerOverloaded())

T = TypeVar("T")

#: Bytes of a body from which decoding takes milliseconds: others get a turn before it.
_LARGE = 100_000

#: ``[`` and ``{`` in a body at most, those in texts too: as many lists take some 60 ms, and each
#: 56 bytes of memory. Above 10 MB, one for 20 bytes.
_BRACKETS, _BYTES_PER_BRACKET = 500_000, 20

#: How loudly it is told that a call was refused; what has another code is the method's own answer.
_LEVELS = {
    ParseError.code: logging.WARNING,
    InvalidRequest.code: logging.WARNING,
    DeadlineExceeded.code: logging.WARNING,
    TooManyHops.code: logging.WARNING,
    ResponseTooLarge.code: logging.WARNING,
    MethodNotFound.code: logging.INFO,
    InvalidParams.code: logging.INFO,
    AccessDenied.code: logging.INFO,
}
#: Characters of a name that the log shows: a flood of them must not write more than it sends.
_SHOWN = 60

#: An error object is never refused for its size: there is nothing smaller to say instead.
_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class DispatchSettings:
    """The limits; see the attributes of the same names on ``MicroService``."""

    max_parallel_blocking_tasks: int
    max_waiting_calls: int
    max_wait_seconds: float
    max_batch_size: int
    max_body_size: int
    batch_mode: str
    max_response_size: int
    max_hops: int
    wire_format: str
    debug: bool


class Dispatcher:
    """Answers bodies with the methods that it was given.

    :param methods: by the name that callers use.
    :param make_handler: makes the object that methods with ``requires_handler_reference`` get and
        that authentication looks at. Its ``current_user`` is truthy for an authenticated request;
        its ``written`` is the response that a method wrote itself, or None.
    :param encoder: writes results.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        settings: DispatchSettings,
        make_handler: Callable[[CallContext], Any],
        hooks: Hooks | None = None,
        logger: logging.Logger | None = None,
        encoder: Encoder = PLAIN,
    ) -> None:
        self.methods = methods
        self.slots = CallSlots(
            settings.max_parallel_blocking_tasks,
            settings.max_waiting_calls,
            settings.max_wait_seconds,
        )
        self._no_bound = CallSlots(_NO_LIMIT, 0, 0)
        self._settings = settings
        self._max_brackets = max(_BRACKETS, settings.max_body_size // _BYTES_PER_BRACKET)
        self._reading = BoundedSemaphore()
        self._writer = WIRE_FORMATS[settings.wire_format]
        self._encoder = encoder
        self._make_handler = make_handler
        self._hooks = hooks or Hooks()
        self._is_observed = self._hooks.is_observed()
        self._logger = logger or logging.getLogger("gemstone_sync.dispatch")
        #: For transports too: what they refuse themselves.
        self.log_throttle = LogThrottle(self._logger)

    def dispatch(self, body: bytes, context: CallContext) -> bytes | None:
        """Answer one body; None when there is nothing to say (notifications)."""
        if len(body) < _LARGE:
            content = read_body(body, self._settings.max_batch_size)
        else:
            content = self._read_in_turn(body)
        if type(content) is list:
            return self._answer_batch(content, context)
        if type(content) is JsonRpcResponse:
            self._tell_failure(content.error, "a body", context)
            return self.encode(content, "a refusal", context)
        response = self.answer(content, context)  # type: ignore[arg-type]
        if response is None:
            return self._writer.notification_reply
        if response.error is not UNSET:
            self.tell_refusal(response.error, context)
        return self.encode(response, content.method, context)  # type: ignore[union-attr]

    def tell_refusal(self, error: ErrorObject, context: CallContext) -> None:
        """Tell the transport of a single call that found no place.

        For transports that use `answer` and `encode`.
        """
        if error is _OVERLOADED:
            context.status = 503
            # RFC 9110, section 10.2.3: whole seconds.
            context.response_headers.append(("Retry-After", "1"))

    def read(self, body: bytes) -> Item | list[Item]:
        """Read a body, for transports that use `answer` and `encode`; see `protocol.read_body`."""
        if len(body) < _LARGE:
            return read_body(body, self._settings.max_batch_size)
        return self._read_in_turn(body)

    def _read_in_turn(self, body: bytes) -> Item | list[Item]:
        """Read a large body, one at a time, and let others go on before it and after."""
        with self._reading:
            let_others_run()
            if body.count(b"[") + body.count(b"{") > self._max_brackets:
                text = f"The body has more than {self._max_brackets} brackets"
                return JsonRpcResponse.failure(InvalidRequest(text))
            content = read_body(body, self._settings.max_batch_size)
            let_others_run()
        return content

    def lets_in(self, context: CallContext) -> bool:
        """Tell whether the service's authentication accepts a request."""
        try:
            return bool(self._make_handler(context).current_user)
        except RpcError:  # a refusal in the service's own words
            return False
        except USER_FAULTS as error:
            self.log_throttle.log(
                logging.ERROR, "authenticating", "authenticating failed", "", error
            )
            return False

    def refusal(self, error: RpcError) -> bytes:
        """Write the body for a request that the transport itself refuses."""
        return self._writer.write_response(JsonRpcResponse.failure(error), _NO_LIMIT)

    def answer(self, request: JsonRpcRequest, context: CallContext) -> JsonRpcResponse | None:
        """Answer one request; None for a notification.

        A notification that finds no place is answered too: it must not be dropped silently.
        """
        method = self.methods.get(request.method)
        if method is None:
            return self._refuse(request, MethodNotFound(), context)
        if context.hops > self._settings.max_hops:
            return self._refuse(request, TooManyHops(), context)
        # A context of its own: variables that a method sets do not reach the connection's next call
        return contextvars.copy_context().run(self._serve, method, request, context)

    # One call

    def _serve(
        self, method: Method, request: JsonRpcRequest, context: CallContext
    ) -> JsonRpcResponse | None:
        started = time.monotonic()
        deadline = context.deadline
        if method.timeout is not None:
            own = started + method.timeout
            deadline = own if deadline is None or own < deadline else deadline
        call = Call(
            deadline,
            context.hops,
            context.request_id,
            context.traceparent,
            context,
            context.carried,
            method.work,
        )
        current_call.set(call)
        # Asked here first: calling `is_on` would cost every service 50 ns of 4 µs.
        is_observed = self._is_observed or (tracing.API in sys.modules and tracing.is_on())
        observed = self._hooks.begin(request, call, started) if is_observed else None
        try:
            response = self._call_within_deadline(call, method, request, context)
        except NoSlot:
            request_id = None if request.id is UNSET else request.id
            self._tell_failure(_OVERLOADED, request.method, context)
            if observed is not None:
                self._hooks.finish(observed, _OVERLOADED, refused=True)
            return JsonRpcResponse(error=_OVERLOADED, id=request_id)
        except (KeyboardInterrupt, DeadlineReached) as error:
            if observed is not None:
                self._hooks.finish(observed, UNSET, error)
            raise  # the process's end; the deadline of a call further out
        except BaseException as error:
            # Whatever a method raises is its own fault, sys.exit() and GreenletExit included.
            response = self._failure(error, method, request.id, call)
            self._tell_answer(response.error, request, context)
            if observed is not None:
                self._hooks.finish(observed, response.error, error)
        else:
            if response.error is not UNSET:
                self._tell_answer(response.error, request, context)
            if observed is not None:
                self._hooks.finish(observed, response.error)
        observed = None  # its exception holds this frame
        if response.error is not UNSET:
            self._after_failure(request, response)
        return None if request.id is UNSET else response

    @tells_doing(lambda local: Doing("method", local["method"].name, local["call"]))
    def _call_within_deadline(
        self, call: Call, method: Method, request: JsonRpcRequest, context: CallContext
    ) -> JsonRpcResponse:
        slots = self.slots if method.takes_place else self._no_bound
        if call.deadline is None:
            slots.acquire()
            try:
                return self._call(method, request, context)
            finally:
                slots.release()
        if call.deadline <= time.monotonic():
            raise DeadlineExceeded()  # on arrival: nobody waits for the answer any more
        deadlines = Deadlines.of_this_hub()
        deadlines.enter(call)
        try:
            slots.acquire()
            try:
                response = self._call(method, request, context)
            finally:
                slots.release()
        except DeadlineReached:
            if not call.reached:  # of a call further out, that makes this one in process
                raise
        finally:
            deadlines.leave(call)
        if call.reached:  # also when the method swallowed it: the caller was promised this
            raise DeadlineExceeded()
        return response

    def _call(
        self, method: Method, request: JsonRpcRequest, context: CallContext
    ) -> JsonRpcResponse:
        hooks = self._hooks
        handler = None
        if method.private or method.needs_handler:
            handler = self._make_handler(context)
            if method.private and not handler.current_user:
                raise AccessDenied()
        args, kwargs = method.binder.bind(request.params)
        if hooks.before is not None:
            hooks.before(request)
        if hooks.on_call is not None:
            hooks.on_call(request)
        if hooks.around is None:
            response = self._respond(method, request, handler, args, kwargs)
        else:
            response = self._respond_within(hooks.around, method, request, handler, (args, kwargs))
        if hooks.after is not None:
            response = self._changed_by(hooks.after(request, response), response)
        return response

    def _respond(
        self, method: Method, request: JsonRpcRequest, handler: Any, args: Any, kwargs: Any
    ) -> JsonRpcResponse:
        if handler is None:
            result = method.run(*args, **kwargs)
        else:
            own = (handler,) if method.needs_handler else ()
            result = method.run(*own, *args, **kwargs)
            if handler.written is not None:
                return handler.written  # type: ignore[no-any-return]
        if method.check_result is not None:
            method.check_result(result)
        return JsonRpcResponse(result=result, id=None if request.id is UNSET else request.id)

    def _respond_within(
        self,
        around: Nest,
        method: Method,
        request: JsonRpcRequest,
        handler: Any,
        bound: tuple[Any, Any],
    ) -> JsonRpcResponse:
        """Call a method inside of middleware."""

        def innermost(changed: JsonRpcRequest) -> JsonRpcResponse:
            if changed is request:
                return self._respond(method, request, handler, *bound)
            if not isinstance(changed, JsonRpcRequest):
                raise TypeError(
                    f"proceed takes nothing or a JsonRpcRequest, not a {type(changed).__name__}"
                )
            return self._respond(method, request, handler, *method.binder.bind(changed.params))

        response: JsonRpcResponse = around(request, innermost)
        request_id = None if request.id is UNSET else request.id
        if response.id != request_id and (handler is None or handler.written is None):
            response = msgspec.structs.replace(response, id=request_id)  # of a cache, another's
        return response

    @staticmethod
    def _changed_by(returned: object, response: JsonRpcResponse) -> JsonRpcResponse:
        if returned is None:
            return response
        if not isinstance(returned, JsonRpcResponse):
            raise TypeError(
                "after_method_call returns None or a JsonRpcResponse "
                f"(response.with_result(...)), not a {type(returned).__name__}"
            )
        return returned

    # What went wrong

    def _refuse(
        self, request: JsonRpcRequest, error: RpcError, context: CallContext
    ) -> JsonRpcResponse | None:
        """Refuse a request for which there is no method to run."""
        response = JsonRpcResponse.failure(error, request.id)
        observed = None
        if self._is_observed or tracing.is_on():
            call = Call(None, context.hops, context.request_id, context.traceparent, context)
            call.carried = context.carried
            if request.id is not UNSET:
                context.identify(call.request_id)
            known = error.code != MethodNotFound.code
            observed = self._hooks.begin(request, call, time.monotonic(), known)
        self._tell_answer(response.error, request, context)
        if observed is not None:
            self._hooks.finish(observed, response.error, error, refused=True)
        return None if request.id is UNSET else response

    def _failure(
        self, error: BaseException, method: Method, id: RequestId | Unset, call: Call
    ) -> JsonRpcResponse:
        """Make the response to a call whose method has raised something."""
        # Another service's "Method not found" is not what this one says of this call.
        if isinstance(error, RpcError) and (
            not isinstance(error, RemoteError) or method.passes(error)
        ):
            return JsonRpcResponse.failure(error, id)
        return self._mask(error, method.name, id, call.request_id)

    def _tell_answer(
        self, error: ErrorObject | Unset, request: JsonRpcRequest, context: CallContext
    ) -> None:
        what = "notification" if request.id is UNSET else "refused"
        self._tell_failure(error, request.method, context, what)

    def _tell_failure(
        self, error: ErrorObject | Unset, name: str, context: CallContext, what: str = "refused"
    ) -> None:
        """Log what was refused; what a method raised itself is an answer like any other."""
        assert error is not UNSET
        level = _LEVELS.get(error.code)
        told = error.message
        call = current_call.get()
        made_up = call.request_id if call is not None and call.context is context else None
        if what == "notification":  # nobody else hears of it, nor of its id
            level, told, request_id = logging.WARNING, repr(error), context.request_id or made_up
        else:
            request_id = context.identify(made_up)
            level = logging.WARNING if error is _OVERLOADED else level
        if level is not None:
            text = f"{what} {name[:_SHOWN]!r}: {told[:200]} [{error.code} request_id={request_id}]"
            self._run_told(
                *(context, name, self.log_throttle.log),
                *(level, (what, error.code), text, request_id or ""),
            )

    def _run_told(self, context: CallContext, name: str, log: Callable[..., T], *args: Any) -> T:
        """Log something within the call that it is about: its fields stand in log systems."""
        call = current_call.get()
        if call is not None and call.context is context:
            return log(*args)
        method = self.methods.get(name)
        call = Call(None, context.hops, context.request_id, context.traceparent, context)
        call.work = None if method is None else method.work
        within = contextvars.copy_context()
        within.run(current_call.set, call)
        return within.run(log, *args)

    def _mask(
        self, error: BaseException, name: str, id: RequestId | Unset, request_id: str
    ) -> JsonRpcResponse:
        """Tell the caller an error id and the log everything.

        :param id: the call's; `request_id` is the HTTP request's.
        """
        error_id = os.urandom(8).hex()
        whose = (
            f" by another service's error, {error}"[:400] if isinstance(error, RemoteError) else ""
        )
        self.log_throttle.log(
            logging.ERROR,
            name,
            f"{name[:200]} failed{whose} [error_id={error_id} request_id={request_id}]",
            error_id,
            error,
        )
        if self._hooks.on_internal_error is not None:
            with contextlib.suppress(AttributeError):  # of an exception class with slots
                error.gemstone_error_id = error_id  # type: ignore[attr-defined]
            self._hooks.on_internal_error(error)
        data = {"error_id": error_id}
        if self._settings.debug:
            data |= {"class": type(error).__name__, "info": _text_of(error)}
        return JsonRpcResponse.failure(InternalError(data=data), id)

    def _after_failure(self, request: JsonRpcRequest, response: JsonRpcResponse) -> None:
        if self._hooks.failed is not None:
            try:
                self._hooks.failed(request, response)
            except USER_FAULTS:
                self._logger.exception("on_failed_method_call failed")

    # Bytes

    @tells_doing(lambda local: Doing("result of method", local["name"]))
    def encode(
        self,
        response: JsonRpcResponse,
        name: str,
        context: CallContext,
        limit: int | None = None,
        writer: ResponseWriter | None = None,
    ) -> bytes:
        """Write a response; one that is too long or cannot be written becomes an error.

        :param name: of the method, for the log.
        :param limit: bytes; ``max_response_size`` when left out.
        :param writer: the transport's own form; the service's ``wire_format`` when left out.
        """
        if limit is None:
            limit = self._settings.max_response_size
        if writer is None:
            writer = self._writer
        try:
            return writer.write_response(response, limit, self._encoder)
        except ResponseTooLarge as error:
            failure = JsonRpcResponse.failure(error, response.id)
            self._tell_failure(failure.error, name, context)
        except Exception as error:  # beside what JSON cannot represent, of the user's classes
            what, id = f"encoding the result of {name}", context.identify()
            failure = self._run_told(context, name, self._mask, error, what, response.id, id)
        return writer.write_response(failure, _NO_LIMIT)

    def _answer_batch(
        self, items: list[JsonRpcRequest | JsonRpcResponse], context: CallContext
    ) -> bytes | None:
        if self._hooks.batch is not None:
            self._hooks.batch(len(items))
        encoded: list[bytes | None] = [None] * len(items)
        left = self._settings.max_response_size  # for all items together

        def run(index: int) -> None:
            nonlocal left
            item = items[index]
            if type(item) is JsonRpcRequest:
                name, response = item.method, self.answer(item, context)
            else:
                name, response = "an item", item  # type: ignore[assignment]
            if response is not None:
                if response is item:
                    self._tell_failure(response.error, name, context)
                encoded[index] = text = self.encode(response, name, context, max(0, left))
                left -= len(text)

        if self._settings.batch_mode == "parallel":
            run_in_parallel(len(items), run)
        else:
            run_in_turn(len(items), run)
        responses = [text for text in encoded if text is not None]
        if not responses:
            return self._writer.empty_batch_reply
        return self._writer.write_batch(responses)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be made)"
