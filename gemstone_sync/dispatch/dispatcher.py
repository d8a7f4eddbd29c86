"""One body's way: read, look up, take a place, authenticate, bind, call, encode.

The same for every transport: bytes and a `CallContext` in, bytes or nothing out. Nothing that a
caller sends makes `Dispatcher.dispatch` raise.

Hot path: `dispatch`, `answer`, `_serve` and `_call` run for each call.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gevent.lock import BoundedSemaphore

from ..concurrency import (
    USER_FAULTS,
    Call,
    CallSlots,
    DeadlineReached,
    Deadlines,
    NoSlot,
    current_call,
    let_others_run,
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
    WIRE_FORMATS,
    ErrorObject,
    Item,
    JsonRpcRequest,
    JsonRpcResponse,
    RequestId,
    Unset,
    read_body,
)
from .batch import run_in_parallel, run_in_turn
from .context import CallContext
from .methods import Hooks, Method
from .refusals import Refusals

__all__ = ["DispatchSettings", "Dispatcher"]

#: Told by identity from a ServerOverloaded that a method raised itself.
_OVERLOADED = ErrorObject.of(ServerOverloaded())

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

    max_parallel_blocking_tasks: int = 1000
    max_waiting_calls: int = 200
    max_wait_seconds: float = 5.0
    max_batch_size: int = 100
    max_body_size: int = 10_000_000
    batch_mode: str = "parallel"
    max_response_size: int = 16_000_000
    max_hops: int = 8
    wire_format: str = "jsonrpc"
    debug: bool = False


class Dispatcher:
    """Answers bodies with the methods that it was given.

    :param methods: by the name that callers use.
    :param make_handler: makes the object that methods with ``requires_handler_reference`` get and
        that authentication looks at. Its ``current_user`` is truthy for an authenticated request;
        its ``written`` is the response that a method wrote itself, or None.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        settings: DispatchSettings,
        make_handler: Callable[[CallContext], Any],
        hooks: Hooks | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.methods = methods
        self.slots = CallSlots(
            settings.max_parallel_blocking_tasks,
            settings.max_waiting_calls,
            settings.max_wait_seconds,
        )
        self._settings = settings
        self._max_brackets = max(_BRACKETS, settings.max_body_size // _BYTES_PER_BRACKET)
        self._reading = BoundedSemaphore()
        self._writer = WIRE_FORMATS[settings.wire_format]
        self._make_handler = make_handler
        self._hooks = hooks or Hooks()
        self._logger = logger or logging.getLogger("gemstone_sync.dispatch")
        #: For transports too: what they refuse themselves.
        self.refusals = Refusals(self._logger)

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
            return self._encode(content, "a refusal", context)
        response = self.answer(content, context)  # type: ignore[arg-type]
        if response is None:
            return self._writer.notification_reply
        if response.error is not UNSET:
            self._tell_failure(response.error, content.method, context)  # type: ignore[union-attr]
            if response.error is _OVERLOADED:
                context.retry_after = 1.0
        return self._encode(response, content.method, context)  # type: ignore[union-attr]

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
            self.refusals.tell(logging.ERROR, "authenticating", "authenticating failed", "", error)
            return False

    def refusal(self, error: RpcError) -> bytes:
        """The body for a request that the transport itself refuses."""
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
        call = Call(deadline, context.hops, context.request_id, context.traceparent, context)
        current_call.set(call)
        try:
            response = self._call_within_deadline(call, method, request, context)
        except NoSlot:
            request_id = None if request.id is UNSET else request.id
            return JsonRpcResponse(error=_OVERLOADED, id=request_id)
        except RemoteError as error:
            # Another service's "Method not found" is not what this one says of this call.
            if method.passes(error):
                response = JsonRpcResponse.failure(error, request.id)
            else:
                response = self._mask(error, method.name, request.id, call.request_id)
        except RpcError as error:
            response = JsonRpcResponse.failure(error, request.id)
        except (KeyboardInterrupt, DeadlineReached):
            raise  # the process's end; the deadline of a call further out
        except BaseException as error:
            # Whatever a method raises is its own fault, sys.exit() and GreenletExit included.
            response = self._mask(error, method.name, request.id, call.request_id)
        ok = response.error is UNSET
        if self._hooks.observe is not None:
            self._hooks.observe(method.name, time.monotonic() - started, ok)
        if not ok:
            if request.id is not UNSET:
                context.identify(call.request_id)
            self._after_failure(request, response, context)
        return None if request.id is UNSET else response

    def _call_within_deadline(
        self, call: Call, method: Method, request: JsonRpcRequest, context: CallContext
    ) -> JsonRpcResponse:
        slots = self.slots
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
        if method.needs_handler:
            result = method.function(handler, *args, **kwargs)
        else:
            result = method.function(*args, **kwargs)
        request_id = None if request.id is UNSET else request.id
        response: JsonRpcResponse
        if handler is not None and handler.written is not None:
            response = handler.written
        else:
            response = JsonRpcResponse(result=result, id=request_id)
        if hooks.after is not None:
            response = self._changed_by(hooks.after(request, response), response)
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
        if request.id is UNSET:
            self._tell_failure(response.error, request.method, context, "notification")
            return None
        return response

    def _tell_failure(
        self, error: ErrorObject | Unset, name: str, context: CallContext, what: str = "refused"
    ) -> None:
        """Log what was refused; what a method raised itself is an answer like any other."""
        assert error is not UNSET
        level = _LEVELS.get(error.code)
        told = error.message
        if what == "notification":  # nobody else hears of it, nor of its id
            level, told, request_id = logging.WARNING, repr(error), context.request_id
        else:
            request_id = context.identify()
            level = logging.WARNING if error is _OVERLOADED else level
        if level is not None:
            text = f"{what} {name[:_SHOWN]!r}: {told[:200]} [{error.code} request_id={request_id}]"
            self.refusals.tell(level, (what, error.code), text, request_id or "")

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
        self.refusals.tell(
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

    def _after_failure(
        self, request: JsonRpcRequest, response: JsonRpcResponse, context: CallContext
    ) -> None:
        if request.id is UNSET:
            self._tell_failure(response.error, request.method, context, "notification")
        if self._hooks.failed is not None:
            try:
                self._hooks.failed(request, response)
            except USER_FAULTS:
                self._logger.exception("on_failed_method_call failed")

    # Bytes

    def _encode(
        self,
        response: JsonRpcResponse,
        name: str,
        context: CallContext,
        limit: int | None = None,
    ) -> bytes:
        if limit is None:
            limit = self._settings.max_response_size
        try:
            return self._writer.write_response(response, limit)
        except ResponseTooLarge as error:
            failure = JsonRpcResponse.failure(error, response.id)
            self._tell_failure(failure.error, name, context)
        except (TypeError, ValueError, RecursionError) as error:
            name = f"encoding the result of {name}"
            failure = self._mask(error, name, response.id, context.identify())
        return self._writer.write_response(failure, _NO_LIMIT)

    def _answer_batch(
        self, items: list[JsonRpcRequest | JsonRpcResponse], context: CallContext
    ) -> bytes | None:
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
                if response.error is not UNSET:
                    self._tell_failure(response.error, name, context)
                encoded[index] = text = self._encode(response, name, context, max(0, left))
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
