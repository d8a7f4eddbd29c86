"""RemoteService: what users hold to call another service as if it were here."""

from __future__ import annotations

import contextlib
import copy
import inspect
import operator
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..broker_urls import without_passwords
from ..errors import (
    UNSET,
    GemstoneError,
    RemoteError,
    RpcError,
    ServiceNotFound,
    Unset,
)
from ..missing import OldName, twin_of
from ..protocol import encode_json
from .adapter import ServiceAdapter
from .authentication import Authentication, authentication_of
from .background import BackgroundCalls
from .balancing import EndpointSet, EndpointSource
from .bridge import AuthBase, AuthBaseAdapter, Session, SessionAdapter
from .describing import Known, at_a_prompt, complete_in_ipython
from .endpoint import RemoteEndpoint, Sending
from .messages import Adapter, Limits, check_positive
from .namespaces import MethodNamespace, NotificationNamespace
from .options import Options
from .replies import ReplyReader
from .sending import Sender
from .structs import AsyncMethodCall, BatchResult, MethodCall, Notification, Result, made_of
from .urls import source_of

if TYPE_CHECKING:
    from ..contract.model import Contract

__all__ = ["AsyncMethodCall", "RemoteService"]

T = TypeVar("T")

_error_of: Callable[[Result], RemoteError | None] = operator.attrgetter("error")

#: Seconds for what is asked while somebody types.
_ASIDE = 1.0


class RemoteService:
    """Calls a service that answers JSON-RPC 2.0 over HTTP.

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
    :param idempotent_methods: names of methods that may be called again after a fault. The
        service is not asked which it marks as such; what it said when asked for its `name` counts.
    :param errors: `RpcError` subclasses of yours; an answer with the code of one is raised as it.
    :param session: a ``requests.Session`` that carries the calls, as it is: its adapters, hooks,
        auth, proxies, cookies, headers and TLS settings count, and closing it is yours. It bounds
        each wait rather than the whole answer.
    :param adapter: an `Adapter` of your own in place of all connections.
    :raises ValueError, TypeError: for a URL or option that cannot be used.

    Nothing connects before the first call. One may be shared by greenlets and by threads.

    ::

        with RemoteService("http://127.0.0.1:5000/api") as client:
            client.methods.say_hello("world")
            client.notifications.say_hello("world")
            client.idempotent.get_user(id=7)
            later = client.methods.slow_method.async_(3)

    Redirects are not followed, and without a session environment variables (proxies, ``.netrc``)
    are not looked at.
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
        session: Session | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        limits = Limits(max_response_size=max_response_size)
        options = Options(limits).changed(timeout, total_timeout, idempotent_methods, errors)
        check_positive(pool_size=pool_size)
        source, credentials = source_of(service_endpoint)
        authentication = authentication_of(authentication_method)
        if credentials is not None and authentication is not None:
            raise ValueError("credentials in the URL and an authentication_method: which?")
        #: What says who calls.
        self.authentication_method = who = authentication or credentials
        if session is not None:
            if adapter is not None or cert is not None or verify is not True:
                raise ValueError("a session has an adapter, verify and cert of its own")
            adapter, who = SessionAdapter(session, who), None
        elif adapter is None:
            adapter = ServiceAdapter(pool_size=pool_size, max_response_size=max_response_size)
        elif not isinstance(adapter, Adapter):
            raise TypeError(
                "adapter is a gemstone_sync.client.Adapter; one of requests is mounted "
                "on a session="
            )
        if isinstance(who, AuthBase):
            adapter, who = AuthBaseAdapter(adapter, who), None
        self._adapter = used = adapter
        # No reference to self: nothing must keep it alive.
        self._endpoints = EndpointSet(
            source, lambda url: RemoteEndpoint(url, used, who, verify, cert)
        )
        self._endpoints.current()
        self._sender = Sender(self._endpoints)
        self._background = BackgroundCalls(pool_size)
        #: The name that a source looks up, for errors; a URL has none.
        self._found_as = getattr(source, "name", None)
        self._configure(options)
        complete_in_ipython(RemoteService)
        #: What the service says of itself, by what is known so far.
        self._known = Known()

    def _configure(self, options: Options) -> None:
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
        """Return a client of the same service over the same connections, with other options.

        ::

            client.with_options(timeout=(1, 60), total_timeout=60).methods.yearly_report()
        """
        options = self._options.changed(timeout, total_timeout, idempotent_methods, errors)
        return self._copy_with(options)

    def _copy_with(self, options: Options) -> RemoteService:
        other = copy.copy(self)
        other._configure(options)
        return other

    def _with_errors(self, errors: Iterable[type[RpcError]]) -> RemoteService:
        return self._copy_with(replace(self._options, errors=(*errors, *self._options.errors)))

    # What the service is

    @property
    def url(self) -> str:
        """Return the endpoint, without user and password; of several, the first.

        :raises ConnectionFailed: when none is known at the moment.
        """
        return self.urls[0] if self.urls else self._endpoints.choose().url

    @property
    def urls(self) -> list[str]:
        """Return all endpoints, without user and password."""
        return [endpoint.url for endpoint in self._endpoints.current()]

    @property
    def name(self) -> str:
        """Return the service's name, which is asked once, by a call of ``get_service_specs``.

        :raises RemoteError: when the service has no such method.
        :raises TransportError: when it cannot be asked, or says something else.
        """
        if self._known.name is None:
            self._known.learn_specs(self.idempotent.get_service_specs(), self.url)
        return str(self._known.name)

    def describe(self) -> Contract:
        """Ask the service what it promises, by a call of ``rpc.discover``.

        From then on this client repeats calls of the methods that the service marks as idempotent,
        and completes the names of methods: ``dir(client.methods)``.

        :raises MethodNotFound: when the service does not tell.
        :raises BadResponse: when it tells something else than an OpenRPC document.
        :raises RemoteError, TransportError: as all calls do.

        ::

            print(client.describe().method("say_hello").signature)
        """
        from .contracts import contract_in  # of use to those only who want it

        contract = contract_in(self.call_method("rpc.discover", idempotent=True).value(), self.url)
        self._known.learn_contract(contract)
        return contract

    def _known_methods(self) -> list[str]:
        """List what is known of the methods; only where somebody types, the service is asked."""
        if self._known.methods is None and at_a_prompt():
            with contextlib.suppress(GemstoneError):
                self.with_options(timeout=_ASIDE, total_timeout=_ASIDE).describe()
        return self._known.methods or []

    def _may_repeat(self, method: str) -> bool:
        return method in self._options.idempotent_methods or method in self._known.idempotent

    # Calls by attribute

    @property
    def methods(self) -> MethodNamespace:
        """Call: ``client.methods.say_hello("world")`` gives the value, or raises."""
        return MethodNamespace(self)

    @property
    def idempotent(self) -> MethodNamespace:
        """Call as `methods` does, and repeat the call after a fault: it may be made twice."""
        return MethodNamespace(self, idempotent=True)

    @property
    def notifications(self) -> NotificationNamespace:
        """Notify: ``client.notifications.say_hello("world")`` tells, and gives None."""
        return NotificationNamespace(self)

    def typed(self, api: Callable[..., T], *, idempotent: bool = False) -> T:
        """Call the service as the class that says what it can do.

        :param api: a Protocol, an ABC, or the service's own class. Its methods are called by their
            exposed names, which `exposed_method` may say, as it may say errors and what is
            idempotent; of a service's class the exposed ones count.
        :param idempotent: every method may be called twice.
        :returns: something that has the methods of `api`. Results are of the return types; an
            answer that does not fit is a `BadResponse`, a declared error is of its own class, and
            a name that `api` lacks is an AttributeError. Beside them it has ``idempotent`` and
            ``notifications``, as this client, and methods have ``async_``.
        :raises TypeError: for what is no class, and for types that JSON cannot give.

        ::

            class UsersApi(Protocol):
                def find(self, id: int) -> User: ...

            users = RemoteService("http://127.0.0.1:5000/api").typed(UsersApi)
            print(users.find(7).name)
        """
        from .typed import TypedService, api_of  # of use to those only who want it

        cls: Any = api
        made: Any = TypedService(self, cls, api_of(cls), "idempotent" if idempotent else "")
        return cast(T, made)

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
        call = made_of(MethodCall, method_name_or_object, params)
        method = call.method_name
        sending = Sending(self._options.limits, method, idempotent or self._may_repeat(method))
        body, read = encode_json(call.message()), self._reader.read_result
        try:
            return self._sender.send(
                body, sending, lambda reply: read(reply, call), _error_of, call.id
            )
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
        call = made_of(MethodCall, method_name_or_object, params)
        return self._in_background(call, lambda: self.call_method(call, idempotent=idempotent))

    def _in_background(self, call: MethodCall, work: Callable[[], Result]) -> AsyncMethodCall:
        return AsyncMethodCall(call, self._background.submit(work))

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
        if isinstance(method_name_or_object, MethodCall):
            raise TypeError("a MethodCall wants an answer: use call_method, or a Notification")
        notification = made_of(Notification, method_name_or_object, params)
        method = notification.method_name
        sending = Sending(self._options.limits, method, may_repeat=False)
        read = self._reader.read_nothing
        self._sender.send(
            encode_json(notification.message()), sending, lambda reply: read(reply, method)
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
        may_repeat = idempotent and len(calls) == len(requests)
        sending = Sending(self._options.limits, None, may_repeat)
        body = encode_json([item.message() for item in requests])
        read = self._reader.read_batch
        return self._sender.send(body, sending, lambda reply: read(reply, calls))

    # Finding and leaving

    @classmethod
    def get_service_by_name(
        cls, registry: str | RemoteService, name: str, **options: Any
    ) -> RemoteService:
        """Return a client of a service that a registry knows.

        :param registry: the registry's endpoint, or a client of it when it wants a token.
        :param name: the service's name; what patterns mean is the registry's affair.
        :param options: for the `RemoteService`.
        :raises ServiceNotFound: when the registry knows none; it is a ValueError.
        :raises RemoteError, TransportError: when the registry cannot be asked.
        :raises TypeError: for an option that there is not.
        """
        for option in options.keys() - inspect.signature(cls).parameters.keys():
            twin = twin_of(f"RemoteService.{option}")
            told = f": {twin}" if twin else ""
            raise TypeError(f"RemoteService has no option {option!r}{told}")
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
