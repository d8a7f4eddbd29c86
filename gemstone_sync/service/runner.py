"""The life of one service: binding, starting, announcing, stopping."""

from __future__ import annotations

import atexit
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from ..concurrency import USER_FAULTS, current_call, host, is_patched, watch_this_hub
from ..errors import ServiceConfigurationError, ServiceStartError
from ..event.wakeups import seconds_until
from ..ops import Lifecycle, restore_loggers
from ..ops.health import State
from ..server import Balance, GeventServer, ServerSettings, bind, is_in_process, tls_context
from . import hosting
from .assembly import pick, refuse_late_changes
from .hosted_end import stop_at_the_end
from .instance_lock import InstanceLock
from .own_thread import OwnThread

if TYPE_CHECKING:
    from ..discovery import Announcer
    from .microservice import MicroService

__all__ = ["Runner"]

#: Seconds beyond `stop_timeout` in which a service that has a thread of its own must have stopped.
_CUTTING_OFF = 5.0
#: Seconds beyond `stop_timeout` for what comes after calls that needed all of it; and for each step
#: of it when that is over too: as a rule none of them waits for anything.
_MOMENT, _TURN = 0.5, 0.01
#: Seconds for the pings in flight, and again for the goodbyes, if `stop_timeout` is long enough.
_PATIENCE = 2.0


class Runner:
    """The life of one service."""

    def __init__(self, service: MicroService) -> None:
        self._service = service
        self._server: GeventServer | None = None
        self._tls: ssl.SSLContext | None = None
        self._lock: InstanceLock | None = None
        #: Where it runs, when that is not the thread that started it.
        self._own_thread: OwnThread | None = None
        #: Tells registries of this service.
        self._announcer: Announcer | None = None
        #: `accessible_at` as derived from the bound address: derived anew at every start.
        self._derived_url: str | None = None
        self._starter: Any = None
        #: Has the other workers of the instance stop too, where there are.
        self.stop_others: Callable[[], object] = lambda: None
        self._hooks_done = Event()
        self._started = Event()
        self.stopped = Event()

    @property
    def _lifecycle(self) -> Lifecycle:
        return self._service.lifecycle

    # Starting

    def start(self, *, in_own_thread: bool = False) -> None:
        """Bind, serve, call the start hooks.

        :raises ServiceStartError: when the address cannot be bound.
        """
        self.check_stopped()
        self.warn_if_unpatched()
        if in_own_thread:
            self._start_in_own_thread()
        else:
            self.serve(self.bind())
        if self._lifecycle.state is State.RUNNING:
            self._service.logger.info("%s listens on %s", self._service.name, self._service.url)

    def _start_in_own_thread(self) -> None:
        own = self._own_thread = OwnThread(self._service.name)
        atexit.register(self.stop)  # a thread that is cut off may crash the interpreter
        try:
            own.call(lambda: self.serve(self.bind()))
        except BaseException:  # Ctrl-C too, while the hooks run
            self.stop()
            self._leave_own_thread()
            raise

    def warn_if_unpatched(self) -> None:
        """Say that calls will not overlap where nothing is patched."""
        if is_patched():
            return
        beside = host()
        why = "" if beside is None else f" beside {beside}, whose event loop that would stop"
        self._service.logger.warning(
            "%s: the process is not patched by gevent%s, so calls will not overlap",
            self._service.name,
            why,
        )

    def bind(self) -> socket.socket:
        """Check everything that can be checked before, then bind.

        :raises ServiceStartError: when the address cannot be bound.
        """
        service = self._service
        self.check_stopped()
        self._check()
        service._check_neighbours()
        if service.certfile:
            self._tls = tls_context(service.certfile, service.keyfile)
        listener = bind(service.host, service.port)
        bound, service.port = listener.getsockname()[:2]
        if service.accessible_at in (None, self._derived_url):
            service.accessible_at = self._derived_url = hosting.reachable_url(
                service.host, service.port, service.endpoint, bool(service.certfile), bound
            )
        return listener

    def serve(self, listener: socket.socket, balance: Balance | None = None) -> None:
        """Serve on a bound socket and call the start hooks.

        :param balance: set when other workers of the same instance serve on it too.
        """
        shared = balance is not None
        service = self._service
        self._server = GeventServer(
            listener,
            service.app.wsgi_app,
            pick(ServerSettings, service),
            tls=self._tls,
            shared=shared,
            balance=balance,
        )
        self._lifecycle.state = State.STARTING
        self._server.start()
        self._start_work(f"{service.host}:{service.port}" if shared else None)

    def check_stopped(self) -> None:
        """Refuse to start it twice.

        :raises ServiceConfigurationError: when it runs, or begins or ends to.
        """
        if self._lifecycle.state not in (State.NEW, State.STOPPED, State.FAILED):
            raise ServiceConfigurationError(
                f"{self._service.name} is {self._lifecycle.state.value}"
            )

    def _check(self) -> None:
        restore_loggers()
        service = self._service
        assembly = service._assemble()
        refuse_late_changes(service, assembly)
        service._traffic.check(assembly.event_handlers)

    def _start_work(self, shared_address: str | None = None, *, announce: bool = True) -> None:
        """Everything but the server: the same under gunicorn.

        :param shared_address: where the other workers of this instance listen too, if there are.
        :param announce: tell registries of it.
        """
        watch_this_hub()
        # New ones: an event stays with the thread that has waited for it.
        self._hooks_done, self._started, self.stopped = Event(), Event(), Event()
        self._starter = gevent.getcurrent()
        self._lifecycle.state = State.STARTING
        service = self._service
        try:
            service._traffic.start()  # first: the hooks may emit
            service.plugin_set.call("on_service_start")
            service.on_service_start()
            restore_loggers()  # a hook may configure logging, too
            if self._lifecycle.state is State.STARTING:
                service._traffic.start_receiving(service._assemble().event_handlers)
        except BaseException:
            self._give_up()
            raise
        finally:
            self._starter = None
            self._hooks_done.set()
        if self._lifecycle.state is not State.STARTING:
            return  # stop() was called meanwhile
        self._lifecycle.state = State.RUNNING
        self._start_background(shared_address, announce)
        self._started.set()

    def _give_up(self) -> None:
        """After a start hook that failed."""
        self._lifecycle.state = State.FAILED
        if self._server is not None:
            self._server.drain(0, 0)
            self._server = None
        self._service._traffic.stop_receiving(0)
        self._service.plugin_set.call("on_service_stop")
        self._service._traffic.stop()
        self._service._leave_neighbours()
        self.stopped.set()

    def _start_background(self, shared_address: str | None, announce: bool) -> None:
        """Periodic tasks and pings: in one of the workers of an instance only."""
        service = self._service
        work: list[Callable[[], None]] = []
        periodic = service._assemble().periodic
        if shared_address is None or service.periodic_scope == "worker":
            periodic.start()
        elif periodic:
            work.append(periodic.start)
        if announce and service._announces():
            work.append(self._announce)
        if shared_address is None:
            _call_all(work)
        elif work:
            self._lock = InstanceLock(service.name, shared_address)
            self._lock.when_held(lambda: _call_all(work))

    def _announce(self) -> None:
        if self._lifecycle.state is not State.RUNNING:
            return  # the lock came too late
        self._announcer = self._service._announcer()
        if self._announcer is not None:
            self._announcer.start()

    def start_work_only(self, shared_address: str | None = None, *, announce: bool = False) -> None:
        """Start without a server of our own: in process, or under another server.

        :param shared_address: where the other workers of this instance listen too, if there are.
        :param announce: tell registries of it: others can reach it.
        """
        self._check()
        if announce:
            self._service._check_neighbours()
        self._start_work(shared_address, announce=announce)

    # Under another server

    def start_hosted(self) -> None:
        """Start under another server, which stops no service but ends the process."""
        if self._lifecycle.state is not State.NEW:
            return
        if self._service.access_log and not hosting.has_our_server():
            self._service.logger.warning(
                "%s: access_log is our own server's: have this one write its own access log, "
                "as gunicorn's --access-logfile does",
                self._service.name,
            )
        stop_at_the_end(self.stop)
        self.start_work_only(hosting.shared_address(), announce=True)

    def enter(self) -> bool:
        """Called for each request until it returns true: the first may have to start the service.

        A service of which a server knows the Flask app only is started here.
        """
        if self._server is None and not is_in_process():
            self.ensure_started()
        return self._lifecycle.state is State.RUNNING

    def ensure_started(self) -> None:
        """Start with the first request, unless it was done before; later ones wait for it."""
        state = self._lifecycle.state
        if state is State.RUNNING:
            return
        if state is State.NEW:
            try:
                self._service._configure_once([])
                self.start_hosted()
            except (Exception, SystemExit) as error:
                # It is neither live nor ready from now on, and refuses calls.
                self._lifecycle.state = State.FAILED
                self._service.logger.error("%s", hosting.failure(self._service.name, error))
                self._service.logger.debug("", exc_info=True)
                self._started.set()
        elif state is State.STARTING and self._starter is not gevent.getcurrent():
            self._started.wait()

    # Stopping

    def stop_everywhere(self, grace: float) -> None:
        """Stop the service, in whichever of its workers this is called."""
        if self._lifecycle.state in (State.RUNNING, State.STARTING):
            self.stop_others()
        self.stop(grace)

    def stop(self, grace: float = 0.0) -> None:
        """Finish what runs, call the stop hooks. Does nothing when the service does not run."""
        if self._lifecycle.state not in (State.RUNNING, State.STARTING):
            return
        own = self._own_thread
        if own is not None and not own.is_current():
            self._stop_from_outside(own, grace)
            return
        if current_call.get() is not None or self._starter is gevent.getcurrent():
            # The call, periodic task or start hook that asks must be able to finish.
            gevent.spawn(self._stop, grace)
            return
        self._stop(grace)

    def _stop_from_outside(self, own: OwnThread, grace: float) -> None:
        if own.process != os.getpid():
            return
        own.spawn(lambda: self.stop(grace))
        limit = grace + self._service.stop_timeout + _CUTTING_OFF
        if not own.join(limit):
            self._service.logger.error(
                "%s has not stopped within %g s: one of its calls holds the thread",
                self._service.name,
                limit,
            )

    def _leave_own_thread(self) -> None:
        own, self._own_thread = self._own_thread, None
        if own is not None:
            atexit.unregister(self.stop)
            own.end()

    def wait(self) -> None:
        """Wait until the service has stopped."""
        own = self._own_thread
        if own is None:
            self.stopped.wait()
        else:
            own.join()

    def _stop(self, grace: float) -> None:
        """Stop within `stop_timeout`; the stop hooks have a moment more if calls need all of it."""
        if self._lifecycle.state is State.DRAINING:
            return
        service, assembly = self._service, self._service._assemble()
        seconds = max(0.0, min(service.stop_timeout, hosting.seconds_to_end() - _MOMENT))
        end = time.monotonic() + seconds
        last = end + _MOMENT
        self._lifecycle.state = State.DRAINING
        if self._lock is not None:
            self._lock.give_up_waiting()
        # All at the same time: none waits for another, and methods can still emit.
        periodic = gevent.spawn(assembly.periodic.stop, seconds)
        hearing = gevent.spawn(self._stop_hearing, end)
        if (announcer := self._announcer) is not None:
            self._announcer = None
            # While calls are still answered, so that none gets lost.
            patience = min(_PATIENCE, seconds / 4)
            until = time.monotonic() + 2 * patience + _TURN
            self._end("the goodbye", lambda: announcer.stop(patience), until)
        if self._server is not None and not self._server.drain(grace, seconds_until(end)):
            service.logger.warning(
                "%s: calls were cut off after %s s", service.name, service.stop_timeout
            )
        gevent.joinall([periodic, hearing], timeout=seconds_until(end))
        self._end_start(end)  # a stop hook never runs beside a start hook
        if self._lifecycle.state is State.FAILED:
            return
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._end("on_service_stop", service.on_service_stop, last)
        self._end(
            "a plugin's on_service_stop", lambda: service.plugin_set.call("on_service_stop"), last
        )
        if (executor := vars(service).pop("_executor", None)) is not None:
            self._end("get_executor()'s work", executor.shutdown, end)
        hearing.join(seconds_until(last))
        # Last: everything above may emit.
        self._end("sending", lambda: service._traffic.stop(seconds_until(last)), last)
        self._end("discovery", service._leave_neighbours, last)
        self._server = None
        self._lifecycle.state = State.STOPPED
        self.stopped.set()
        self._leave_own_thread()
        service.logger.info("%s stopped", service.name)

    def _end_start(self, end: float) -> None:
        if not self._hooks_done.wait(seconds_until(end)) and self._starter is not None:
            text = f"{self._service.name} was stopped while on_service_start still ran"
            gevent.kill(self._starter, ServiceStartError(text))
            self._hooks_done.wait(_MOMENT)

    def _end(self, what: str, function: Callable[[], object], end: float) -> None:
        """Call what ends a part of the service; nobody waits for it when its time is over."""

        def call() -> None:
            try:
                function()
            except USER_FAULTS:
                self._service.logger.exception("%s failed", what)

        running = gevent.spawn(copy_context().run, call)
        running.join(max(_TURN, seconds_until(end)))
        if not running.ready():
            self._service.logger.warning(
                "%s: %s took too long and was left behind", self._service.name, what
            )

    def _stop_hearing(self, end: float) -> None:
        # After the start hooks: the handlers are started behind them.
        self._hooks_done.wait(seconds_until(end))
        self._service._traffic.stop_receiving(seconds_until(end))


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    if hosting.is_ending():
        return  # the lock came when the other workers left, and this one is about to
    for function in functions:
        function()
