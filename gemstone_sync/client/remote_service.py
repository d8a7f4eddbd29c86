"""RemoteService: another service, called as if it were here."""

from __future__ import annotations

import copy
import inspect
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from requests.adapters import BaseAdapter

from ..broker_urls import without_passwords
from ..errors import (
    UNSET,
    BadResponse,
    MethodNotFound,
    RemoteError,
    RpcError,
    ServiceNotFound,
    TransportError,
    Unset,
)
from ..missing import OldName
from ..protocol import encode_json
from .adapter import ServiceAdapter
from .authentication import Authentication, authentication_of
from .background import BackgroundCalls
from .balancing import EndpointSet, EndpointSource
from .endpoint import Endpoint, Limits, Sending
from .namespaces import MethodNamespace, NotificationNamespace
from .replies import ReplyReader
from .sending import Sender
from .structs import AsyncMethodCall, BatchResult, MethodCall, Notification, Result
from .urls import source_of

__all__ = ["AsyncMethodCall", "RemoteService"]

#: Seconds for asking the service which of its methods are idempotent, once one is in doubt.
_ASKING = 1.0


@dataclass(frozen=True)
class _Options:
    """What `with_options` may change."""

    limits: Limits
    idempotent_methods: frozenset[str]
    errors: tuple[type[RpcError], ...]


class RemoteService:
    """A service that answers JSON-RPC 2.0 over HTTP.

    :param service_endpoint: the URL, e.g. ``"http://127.0.0.1:5000/api"``. A user and password in
        it are sent as `BasicAuth`. With a list of URLs, calls are spread over them by their calls
        in flight, and one that cannot be reached is left alone for a while.
    :param authentication_method: `HeaderToken`, `CookieToken`, `BearerToken`, `BasicAuth`, a
        (user, password) tuple, or any requests ``AuthBase``.
    :param timeout: seconds to connect and to wait for the answer; one number sets both.
    :param total_timeout: seconds for the whole call, repeated attempts included. Inside a method
        of a service the deadline of the running call counts when it is earlier.
    :param verify: whether TLS certificates are checked, or the path of the authorities' own.
    :param cert: the path of a client certificate with its key, or the paths of both.
    :param pool_size: idle connections kept, and background calls that run at once.
    :param max_response_size: bytes of an answer at most, decompressed.
    :param idempotent_methods: names of methods that may be called again after a fault; beside
        those that the service itself marks with ``exposed_method(idempotent=True)``.
    :param errors: `RpcError` subclasses of yours; an answer with the code of one is raised as it.
    :param adapter: a requests transport adapter in place of the own one.
    :raises ValueError, TypeError: for a URL or option that cannot be used.

    Nothing connects before the first call. One may be shared by greenlets and by threads.

    ::

        with RemoteService("http://127.0.0.1:5000/api") as client:
            client.methods.say_hello("world")
            client.notifications.say_hello("world")
            client.idempotent.get_user(id=7)
            later = client.methods.slow_method.async_(3)

    Environment variables (proxies, ``.netrc``) are not looked at, and redirects are not followed.
    """

    def __init__(
        self,
        service_endpoint: str | Sequence[str] | EndpointSource,
        *,
        authentication_method: Authentication = None,
        timeout: float | tuple[float, float] = (1, 10),
        total_timeout: float = 15,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        pool_size: int = 100,
        max_response_size: int = 20_000_000,
        idempotent_methods: Iterable[str] = (),
        errors: Iterable[type[RpcError]] = (),
        adapter: BaseAdapter | None = None,
    ) -> None:
        connect, read = _pair(timeout)
        _check_positive(timeout=connect, total_timeout=total_timeout, pool_size=pool_size)
        _check_positive(timeout=read, max_response_size=max_response_size)
        source, credentials = source_of(service_endpoint)
        authentication = authentication_of(authentication_method)
        if credentials is not None and authentication is not None:
            raise ValueError("credentials in the URL and an authentication_method: which?")
        #: What says who calls.
        self.authentication_method = authentication or credentials
        if adapter is None:
            adapter = ServiceAdapter(pool_size=pool_size, max_response_size=max_response_size)
        self._adapter = adapter
        who = self.authentication_method  # no reference to self: nothing must keep it alive
        self._endpoints = EndpointSet(source, lambda url: Endpoint(url, adapter, who, verify, cert))
        self._endpoints.current()
        self._sender = Sender(self._endpoints)
        self._background = BackgroundCalls(pool_size)
        #: The name that a source looks up, for errors; a URL has none.
        self._found_as = getattr(source, "name", None)
        self._configure(
            _Options(
                Limits(connect, read, total_timeout, max_response_size),
                frozenset(idempotent_methods),
                tuple(errors),
            )
        )
        #: What the service says of itself, by what is known so far.
        self._learned: dict[str, Any] = {}

    def _configure(self, options: _Options) -> None:
        for cls in options.errors:
            if not (isinstance(cls, type) and issubclass(cls, RpcError)):
                raise TypeError(f"errors holds subclasses of RpcError, not {cls!r}")
        self._options = options
        self._reader = ReplyReader(options.errors, self._found_as)

    def with_options(
        self,
        *,
        timeout: float | tuple[float, float] | Unset = UNSET,
        total_timeout: float | Unset = UNSET,
        idempotent_methods: Iterable[str] | Unset = UNSET,
        errors: Iterable[type[RpcError]] | Unset = UNSET,
    ) -> RemoteService:
        """The same service over the same connections, with other options.

        ::

            client.with_options(timeout=(1, 60), total_timeout=60).methods.yearly_report()
        """
        options = self._options
        if timeout is not UNSET:
            connect, read = _pair(timeout)
            _check_positive(timeout=connect)
            _check_positive(timeout=read)
            options = replace(options, limits=replace(options.limits, connect=connect, read=read))
        if total_timeout is not UNSET:
            _check_positive(total_timeout=total_timeout)
            options = replace(options, limits=replace(options.limits, total=total_timeout))
        if idempotent_methods is not UNSET:
            options = replace(options, idempotent_methods=frozenset(idempotent_methods))
        if errors is not UNSET:
            options = replace(options, errors=tuple(errors))
        other = copy.copy(self)
        other._configure(options)
        return other

    # What the service is

    @property
    def url(self) -> str:
        """The endpoint, without user and password; of several, the first.

        :raises ConnectionFailed: when none is known at the moment.
        """
        return self.urls[0] if self.urls else self._endpoints.choose().url

    @property
    def urls(self) -> list[str]:
        """All endpoints, without user and password."""
        return [endpoint.url for endpoint in self._endpoints.current()]

    @property
    def name(self) -> str:
        """The service's name: asked once, by a call of ``get_service_specs``.

        :raises RemoteError: when the service has no such method.
        :raises TransportError: when it cannot be asked, or says something else.
        """
        if "name" not in self._learned:
            specs = self.idempotent.get_service_specs()
            try:
                self._learn(specs)
            except (KeyError, TypeError, AttributeError):
                raise BadResponse(
                    f"{without_passwords(self.url)}: get_service_specs gave {specs!r:.60}, "
                    "which has no name"
                ) from None
        return str(self._learned["name"])

    def _learn(self, specs: Mapping[str, Any]) -> None:
        self._learned["name"] = specs["name"]
        self._learned["idempotent"] = frozenset(specs.get("idempotent_methods", ()))

    # Calls by attribute

    @property
    def methods(self) -> MethodNamespace:
        """``client.methods.say_hello("world")`` calls and gives the value, or raises."""
        return MethodNamespace(self)

    @property
    def idempotent(self) -> MethodNamespace:
        """As `methods`, for calls that may be made twice: they are repeated after a fault."""
        return MethodNamespace(self, True)

    @property
    def notifications(self) -> NotificationNamespace:
        """``client.notifications.say_hello("world")`` tells, and gives None."""
        return NotificationNamespace(self)

    # Calls by name

    def call_method(
        self,
        method_name_or_object: str | MethodCall,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        idempotent: bool = False,
    ) -> Result:
        """Call a method.

        :param params: a list or tuple (by position) or a dict (by name).
        :param idempotent: the call may be made twice, so that it is repeated after a fault.
        :returns: the `Result`; an error that the service answered with is its ``error``.
        :raises TransportError: when there was no answer that counts.
        :raises TypeError, ValueError: when the parameters cannot be written as JSON.
        """
        call = _call_of(method_name_or_object, params)
        sending = self._sending(call.method_name, idempotent)
        body = encode_json(call.message())
        read = self._reader.read_result
        try:
            return self._sender.send(body, sending, lambda reply: read(reply, call))
        except RemoteError as error:  # one that came with an HTTP status of its own
            return Result(None, error, call.id, call)

    def call_method_async(
        self,
        method_name_or_object: str | MethodCall,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        idempotent: bool = False,
    ) -> AsyncMethodCall:
        """Call a method in the background.

        As many as ``pool_size`` run at once; ``total_timeout`` starts when the call does.
        """
        call = _call_of(method_name_or_object, params)
        future = self._background.submit(lambda: self.call_method(call, idempotent=idempotent))
        return AsyncMethodCall(call, future)

    def notify(
        self,
        method_name_or_object: str | Notification,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> None:
        """Tell the service something, and wait until it has taken it.

        It is never sent twice.

        :raises TransportError: when it did not arrive, or that is not known.
        :raises RemoteError: when the service had no place for it, or told of an error all the same.
        """
        if isinstance(method_name_or_object, Notification):
            if isinstance(method_name_or_object, MethodCall):
                raise TypeError("a MethodCall wants an answer: use call_method, or a Notification")
            _check_no_params(params)
            notification = method_name_or_object
        else:
            notification = Notification(method_name_or_object, params)
        method = notification.method_name
        self._sender.send(
            encode_json(notification.message()),
            Sending(self._options.limits, method, _never),
            lambda reply: self._reader.read_nothing(reply, method),
        )

    def call_batch(
        self, *requests: MethodCall | Notification, idempotent: bool = False
    ) -> BatchResult:
        """Send several calls and notifications at once.

        The service may run them in any order, and refuses a batch that is too large (over
        100, by default).

        :param idempotent: every one of them may be made twice.
        :returns: the answers, in the order of the calls.
        :raises RemoteError: when the service refused the batch as a whole.
        :raises TransportError: when there was no answer that counts.
        :raises TypeError, ValueError: for an item that is none, or an id that is there twice.
        """
        for item in requests:
            if not isinstance(item, Notification):
                raise TypeError(f"a batch holds MethodCalls and Notifications, not {item!r}")
        calls = [item for item in requests if isinstance(item, MethodCall)]
        if len({(type(call.id), call.id) for call in calls}) != len(calls):
            raise ValueError("two calls of the batch have the same id")
        if not requests:
            return BatchResult()
        may_repeat = _always if idempotent and len(calls) == len(requests) else _never
        return self._sender.send(
            encode_json([item.message() for item in requests]),
            Sending(self._options.limits, None, may_repeat),
            lambda reply: self._reader.read_batch(reply, calls),
        )

    # Whether a call may be repeated

    def _sending(self, method: str, idempotent: bool) -> Sending:
        if idempotent or method in self._options.idempotent_methods:
            may_repeat: Callable[[Exception, float], bool] = _always
        else:

            def may_repeat(error: Exception, seconds_left: float) -> bool:
                return method in self._idempotent_by_contract(error, seconds_left)

        return Sending(self._options.limits, method, may_repeat)

    def _idempotent_by_contract(self, error: Exception, seconds_left: float) -> frozenset[str]:
        """What the service marks as idempotent; asked for when a call is in doubt for it."""
        if "idempotent" not in self._learned and isinstance(error, TransportError):
            limit = min(_ASKING, seconds_left)
            limits = replace(self._options.limits, connect=limit, read=limit, total=limit)
            call = MethodCall("get_service_specs")
            try:
                # Never again after a fault: whether it may be is what is being asked.
                answer = self._sender.send(
                    encode_json(call.message()),
                    Sending(limits, call.method_name, _never),
                    lambda reply: self._reader.read_result(reply, call),
                )
                self._learn(answer.value())
            except (MethodNotFound, KeyError, TypeError, AttributeError):
                self._learned["idempotent"] = frozenset()  # it is not of this framework
            except (TransportError, RpcError):
                return frozenset()
        found: frozenset[str] = self._learned.get("idempotent", frozenset())
        return found

    # Finding and leaving

    @classmethod
    def get_service_by_name(
        cls, registry: str | RemoteService, name: str, **options: Any
    ) -> RemoteService:
        """A service that a registry knows.

        :param registry: the registry's endpoint, or a client of it when it wants a token.
        :param name: the service's name; what patterns mean is the registry's affair.
        :param options: for the `RemoteService`.
        :raises ServiceNotFound: when the registry knows none; it is a ValueError.
        :raises RemoteError, TransportError: when the registry cannot be asked.
        :raises TypeError: for an option that there is not.
        """
        for option in options.keys() - inspect.signature(cls).parameters.keys():
            raise _unknown_option(option)
        asked = RemoteService(registry) if isinstance(registry, str) else registry
        try:
            found = asked.idempotent.locate_service(name)
        finally:
            if asked is not registry:
                asked.close()
        urls = [found] if isinstance(found, str) else list(found or ())
        if not urls:
            where = without_passwords(asked.url)
            raise ServiceNotFound(f"the registry {where} knows no service {name!r}")
        return cls(random.choice(urls), **options)

    def close(self) -> None:
        """Close the idle connections. The client can be used again."""
        self._background.close()
        self._adapter.close()

    if not TYPE_CHECKING:  # or checkers would believe that they are there
        get_available_methods = OldName()
        refresh_service_info = OldName()
        handle_single_request = OldName()
        handle_batch_request = OldName()
        build_request_body = OldName()
        build_http_request_obj = OldName()
        make_request_sync = OldName()
        get_new_id = OldName()
        options = OldName()
        RESPONSE_CODES = OldName()

    def __enter__(self) -> RemoteService:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        urls = without_passwords(", ".join(self.urls))
        return f"<RemoteService {urls or 'without an endpoint'}>"


def _unknown_option(name: str) -> TypeError:
    from ..missing import twin_of

    twin = twin_of(f"RemoteService.{name}")
    return TypeError(f"RemoteService has no option {name!r}" + (f": {twin}" if twin else ""))


def _always(error: Exception, seconds_left: float) -> bool:
    return True


def _never(error: Exception, seconds_left: float) -> bool:
    return False


def _call_of(given: str | MethodCall, params: Any) -> MethodCall:
    if isinstance(given, MethodCall):
        _check_no_params(params)
        return given
    return MethodCall(given, params)


def _check_no_params(params: Any) -> None:
    if params is not None:
        raise TypeError("the parameters are in the object already")


def _pair(timeout: float | tuple[float, float]) -> tuple[float, float]:
    if not isinstance(timeout, tuple):
        return timeout, timeout
    if len(timeout) != 2:
        raise ValueError(f"timeout is one number or a (connect, read) pair, not {timeout!r}")
    return timeout


def _check_positive(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{name} is a number above 0, not {value!r}: no wait is endless")
