"""The life of one service: binding, starting, announcing, stopping."""

from __future__ import annotations

import atexit
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import gevent
from gevent.event import Event

from .. import tracing
from ..broker_urls import without_passwords
from ..client.hosts import is_every_address
from ..concurrency import (
    USER_FAULTS,
    current_call,
    host,
    is_patched,
    show_stacks_on_request,
    watch_no_more,
    watch_this_hub,
)
from ..dispatch import log_suppressed
from ..errors import ServiceConfigurationError, ServiceStartError
from ..event.wakeups import seconds_until
from ..ops import observe_process, restore_loggers
from ..ops.health import State
from ..server import Balance, GeventServer, ServerSettings, bind, is_in_process, tls_context
from . import foreign_server
from .assembly import Parts, pick, refuse_late_changes
from .base import ServiceBase, url_at
from .explorer import tell_of_pages
from .instance_lock import InstanceLock
from .threads import OwnThread

__all__ = ["Runner", "describe_failure", "reachable_url"]

#: Seconds beyond `stop_timeout` in which a service that has a thread of its own must have stopped.
_CUTTING_OFF = 5.0
#: Seconds beyond `stop_timeout` for what comes after calls that needed all of it; and for each step
#: of it when that is over too: as a rule none of them waits for anything.
_MOMENT, _TURN = 0.5, 0.01
#: Seconds for the pings in flight, and again for the goodbyes, if `stop_timeout` is long enough.
_PATIENCE = 2.0
#: Seconds for the program's spans to be exported: a collector that is away holds up no end.
_EXPORTING = 5.0


class Runner:
    """Starts and stops one service.

    :param parts: makes the parts of the service when it is first called, and returns them.
    :param configure: sets what the service's configurators find in the words of a command line,
        unless that was done before.
    """

    def __init__(
        self,
        service: ServiceBase,
        parts: Callable[[], Parts],
        configure: Callable[[Sequence[str]], None],
    ) -> None:
        self.service = service
        self.parts = parts
        self.configure = configure
        self._lifecycle = service.lifecycle
        self._server: GeventServer | None = None
        self._tls: ssl.SSLContext | None = None
        self._lock: InstanceLock | None = None
        #: Where it runs, when that is not the thread that started it.
        self._own_thread: OwnThread | None = None
        #: `accessible_at` as derived from the bound address: derived anew at every start.
        self._derived_url: str | None = None
        self._start_greenlet: Any = None
        self._blocked_after: float | None = None
        #: Has the other workers of the instance stop too, where there are.
        self.stop_others: Callable[[], object] = lambda: None
        self._hooks_done = Event()
        self._started = Event()
        self.stopped = Event()
        #: Ends the telling of observers what the process sends.
        self._end_observing: Callable[[], None] = lambda: None

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
            self.service.logger.info("%s listens on %s", self.service.name, self.service.url)
            tell_of_pages(self.service, self.service.url)

    def _start_in_own_thread(self) -> None:
        own = self._own_thread = OwnThread(self.service.name)
        atexit.register(self.stop)  # a thread that is cut off may crash the interpreter
        try:
            own.call(lambda: self.serve(self.bind()))
        except BaseException:  # Ctrl-C too, while the hooks run
            self.stop()
            self._end_own_thread()
            raise

    def warn_if_unpatched(self) -> None:
        """Say that calls will not overlap where nothing is patched."""
        if is_patched():
            return
        beside = host()
        why = "" if beside is None else f" beside {beside}, whose event loop that would stop"
        self.service.logger.warning(
            "%s: the process is not patched by gevent%s, so calls will not overlap",
            self.service.name,
            why,
        )

    def bind(self) -> socket.socket:
        """Check everything that can be checked before, then bind.

        :raises ServiceStartError: when the address cannot be bound.
        """
        service = self.service
        self.check_stopped()
        self._check_settings()
        self.parts().discovery.check()
        if service.certfile:
            self._tls = tls_context(service.certfile, service.keyfile)
        listener = bind(service.host, service.port)
        bound, service.port = listener.getsockname()[:2]
        if service.accessible_at in (None, self._derived_url):
            service.accessible_at = self._derived_url = reachable_url(
                service.host, service.port, service.endpoint, bool(service.certfile), bound
            )
        return listener

    def serve(self, listener: socket.socket, balance: Balance | None = None) -> None:
        """Serve on a bound socket and call the start hooks.

        :param balance: set when other workers of the same instance serve on it too.
        """
        shared = balance is not None
        service = self.service
        self._server = GeventServer(
            listener,
            self.parts().app.wsgi_app,
            pick(ServerSettings, service),
            tls=self._tls,
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
            raise ServiceConfigurationError(f"{self.service.name} is {self._lifecycle.state.value}")

    def _check_settings(self) -> None:
        restore_loggers()
        parts = self.parts()
        refuse_late_changes(self.service, parts)
        parts.events.check(parts.event_handlers)

    def _start_work(self, workers_address: str | None = None, *, announce: bool = True) -> None:
        """Start everything but the server: the same under gunicorn.

        :param workers_address: where the other workers of this instance listen too, if there are.
        :param announce: tell registries of it.
        """
        self._blocked_after = self.service.blocked_after
        watch_this_hub(self._blocked_after)
        show_stacks_on_request()
        # New ones: an event stays with the thread that has waited for it.
        self._hooks_done, self._started, self.stopped = Event(), Event(), Event()
        self._start_greenlet = gevent.getcurrent()
        self._lifecycle.state = State.STARTING
        service, parts = self.service, self.parts()
        self._begin_observing(parts, has_siblings=workers_address is not None)
        try:
            parts.events.start()  # first: the hooks may emit
            service.plugin_set.call("on_service_start")
            service.on_service_start()
            restore_loggers()  # a hook may configure logging, too
            if self._lifecycle.state is State.STARTING:
                parts.events.start_receiving(
                    parts.event_handlers, parts.event_hooks, parts.around_event
                )
        except BaseException:
            self._clean_up_failed_start()
            raise
        finally:
            self._start_greenlet = None
            self._hooks_done.set()
        if self._lifecycle.state is not State.STARTING:
            return  # stop() was called meanwhile
        self._lifecycle.state = State.RUNNING
        self._start_background(workers_address, announce)
        self._started.set()

    def _begin_observing(self, parts: Parts, *, has_siblings: bool) -> None:
        """Have the service's observers see what this process sends, until it stops."""
        end, metrics, status = observe_process(parts.observers), parts.metrics, parts.status
        if metrics is not None:
            metrics.start()
        if status is not None:
            status.start(has_siblings=has_siblings)

        def end_observing() -> None:
            end()
            if metrics is not None:
                metrics.stop()
            if status is not None:
                status.stop()

        self._end_observing = end_observing

    def _clean_up_failed_start(self) -> None:
        """Clean up after a start hook that failed."""
        self._lifecycle.state = State.FAILED
        if self._server is not None:
            self._server.drain(0, 0)
            self._server = None
        parts = self.parts()
        parts.events.stop_receiving(0)
        self.service.plugin_set.call("on_service_stop")
        parts.events.stop()
        parts.discovery.close()
        self._end_observing()
        watch_no_more(self._blocked_after)
        log_suppressed()
        self.stopped.set()

    def _start_background(self, workers_address: str | None, announce: bool) -> None:
        """Start periodic tasks and pings, in one of the workers of an instance only."""
        service, parts = self.service, self.parts()
        work: list[Callable[[], None]] = []
        periodic = parts.periodic
        if workers_address is None or service.periodic_scope == "worker":
            periodic.start()
        elif periodic:
            work.append(periodic.start)
        if announce and parts.discovery.announces():
            work.append(self._announce)
        if workers_address is None:
            _run_all(work)
        elif work:
            self._lock = InstanceLock(service.name, workers_address)
            self._lock.when_held(lambda: _run_all(work))

    def _announce(self) -> None:
        if self._lifecycle.state is State.RUNNING:  # or the lock came too late
            self.parts().discovery.announce()

    def start_work_only(
        self, workers_address: str | None = None, *, announce: bool = False
    ) -> None:
        """Start without a server of our own: in process, or under another server.

        :param workers_address: where the other workers of this instance listen too, if there are.
        :param announce: tell registries of it: others can reach it.
        """
        self._check_settings()
        if announce:
            self.parts().discovery.check()
        self._start_work(workers_address, announce=announce)

    # Under another server

    def start_hosted(self) -> None:
        """Start under another server, which stops no service but ends the process."""
        if self._lifecycle.state is not State.NEW:
            return
        if self.service.access_log and not foreign_server.has_our_server():
            self.service.logger.warning(
                "%s: access_log is our own server's: have this one write its own access log, "
                "as gunicorn's --access-logfile does",
                self.service.name,
            )
        foreign_server.stop_at_exit(self.stop)
        self.start_work_only(foreign_server.workers_address(), announce=True)

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
                self.configure([])
                self.start_hosted()
            except (Exception, SystemExit) as error:
                # It is neither live nor ready from now on, and refuses calls.
                self._lifecycle.state = State.FAILED
                self.service.logger.error("%s", describe_failure(self.service.name, error))
                self.service.logger.debug("", exc_info=True)
                self._started.set()
        elif state is State.STARTING and self._start_greenlet is not gevent.getcurrent():
            self._started.wait()

    # Stopping

    def stop_everywhere(self, grace: float) -> None:
        """Stop the service, in whichever of its workers this is called."""
        if self._lifecycle.state in (State.RUNNING, State.STARTING):
            self.stop_others()
        self.stop(grace)

    def stop_gently(self) -> None:
        """Stop as at SIGTERM: load balancers and callers have time to go elsewhere."""
        self.stop(self.service.drain_grace, self.service.drain_delay)

    def say_leaving(self) -> None:
        """Be ready no more and tell registries so, while calls go on: the server is to stop."""
        self._lifecycle.leaving = True
        self.parts().discovery.say_goodbye(_PATIENCE)

    def stop(self, grace: float = 0.0, delay: float = 0.0) -> None:
        """Finish what runs, call the stop hooks; do nothing when the service does not run."""
        if self._lifecycle.state not in (State.RUNNING, State.STARTING):
            return
        own = self._own_thread
        if own is not None and not own.is_current():
            self._stop_from_outside(own, grace, delay)
            return
        if current_call.get() is not None or self._start_greenlet is gevent.getcurrent():
            # The call, periodic task or start hook that asks must be able to finish.
            gevent.spawn(self._stop, grace, delay)
            return
        self._stop(grace, delay)

    def _stop_from_outside(self, own: OwnThread, grace: float, delay: float) -> None:
        if own.process != os.getpid():
            return
        own.spawn(lambda: self.stop(grace, delay))
        limit = delay + grace + self.service.stop_timeout + _CUTTING_OFF
        if not own.join(limit):
            self.service.logger.error(
                "%s has not stopped within %g s: one of its calls holds the thread",
                self.service.name,
                limit,
            )

    def _end_own_thread(self) -> None:
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

    def _stop(self, grace: float, delay: float) -> None:
        """Stop within `stop_timeout`, which begins after `delay`.

        The stop hooks have a moment more if calls need all of it.
        """
        if self._lifecycle.state is State.DRAINING:
            return
        service, parts = self.service, self.parts()
        seconds = max(0.0, min(service.stop_timeout, foreign_server.seconds_to_end() - _MOMENT))
        end = time.monotonic() + delay + seconds
        last = end + _MOMENT
        self._lifecycle.state = State.DRAINING
        if self._lock is not None:
            self._lock.give_up_waiting()
        # All at the same time: none waits for another, and methods can still emit.
        periodic = gevent.spawn(parts.periodic.stop, seconds)
        receiving = gevent.spawn(self._stop_receiving, end)
        # While calls are still answered, so that none gets lost.
        patience = min(_PATIENCE, seconds / 4)
        until = time.monotonic() + 2 * patience + _TURN
        self._call_until("the goodbye", lambda: parts.discovery.say_goodbye(patience), until)
        server = self._server
        if server is not None and not server.drain(grace, seconds_until(end), delay):
            service.logger.warning(
                "%s: calls were cut off after %s s", service.name, service.stop_timeout
            )
        gevent.joinall([periodic, receiving], timeout=seconds_until(end))
        self._abort_start_hooks(end)  # a stop hook never runs beside a start hook
        if self._lifecycle.state is State.FAILED:
            return
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._call_until("on_service_stop", service.on_service_stop, last)
        self._call_until(
            "a plugin's on_service_stop", lambda: service.plugin_set.call("on_service_stop"), last
        )
        self._call_until("get_executor()'s work", parts.executor.shutdown, end)
        self._call_until("work of threaded=True and cpu=True", parts.elsewhere.stop, end)
        receiving.join(seconds_until(last))
        # Last: everything above may emit.
        self._call_until("sending", lambda: parts.events.stop(seconds_until(last)), last)
        self._call_until("discovery", parts.discovery.close, last)
        self._end_observing()
        # A worker ends without OpenTelemetry's own last words.
        until = min(last, time.monotonic() + _EXPORTING)
        self._call_until("exporting spans", lambda: tracing.flush(seconds_until(until)), until)
        self._server = None
        watch_no_more(self._blocked_after)
        self._lifecycle.state = State.STOPPED
        self.stopped.set()
        self._end_own_thread()
        log_suppressed()
        service.logger.info("%s stopped", service.name)

    def _abort_start_hooks(self, end: float) -> None:
        if not self._hooks_done.wait(seconds_until(end)) and self._start_greenlet is not None:
            text = f"{self.service.name} was stopped while on_service_start still ran"
            gevent.kill(self._start_greenlet, ServiceStartError(text))
            self._hooks_done.wait(_MOMENT)

    def _call_until(self, what: str, function: Callable[[], object], end: float) -> None:
        """Call what ends a part of the service; nobody waits for it when its time is over."""

        def call() -> None:
            try:
                function()
            except USER_FAULTS:
                self.service.logger.exception("%s failed", what)

        running = gevent.spawn(copy_context().run, call)
        running.join(max(_TURN, seconds_until(end)))
        if not running.ready():
            self.service.logger.warning(
                "%s: %s took too long and was left behind", self.service.name, what
            )

    def _stop_receiving(self, end: float) -> None:
        # After the start hooks: the handlers are started behind them.
        self._hooks_done.wait(seconds_until(end))
        self.parts().events.stop_receiving(seconds_until(end))


def _run_all(functions: Sequence[Callable[[], None]]) -> None:
    if foreign_server.is_ending():
        return  # the lock came when the other workers left, and this one is about to
    for function in functions:
        function()


def describe_failure(name: str, error: BaseException) -> str:
    """Say in one line what kept a service from starting, and where."""
    text = without_passwords(" ".join(str(error).split()))
    if isinstance(error, ServiceConfigurationError):
        return text
    where, trace = "", error.__traceback__
    package = __package__.partition(".")[0]
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] != package:
            where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
            break
        trace = trace.tb_next
    return f"{name} could not start: {type(error).__name__}: {text}{where}"


def reachable_url(host: str, port: int, path: str, tls: bool, bound: str | None = None) -> str:
    """Make the URL by which others reach a host that is listened on.

    :param bound: the address that the host led to: of ``0``, ``*`` and ``::0`` every one.
    """
    if is_every_address(bound or host):
        host = socket.gethostname()
    return url_at(host, port, path, tls)
