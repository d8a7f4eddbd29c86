"""The ways in which programs give a service to a WSGI server."""

import functools

import flask
from service import Worker
from werkzeug.local import LocalProxy
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.middleware.shared_data import SharedDataMiddleware

import gemstone_sync

service = Worker()
app = service.app


class Other(gemstone_sync.MicroService):
    """Served beside the first."""

    name = "other"
    max_body_size = 2_000

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b


def create_app(name="worker"):
    return Worker().app


def create_app_of(name):
    return Worker().app


def create_service():
    return Worker()


def create_number():
    return 5


class Needy(Worker):
    def __init__(self, database):
        super().__init__()
        self.database = database


# Middleware


class Middleware:
    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        return self.application(environ, start_response)


class Slotted:
    """As sentry-sdk's: no `__dict__`, and a bound method that is served."""

    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def serve(self, environ, start_response):
        return self.inner(environ, start_response)


class Hostile(Middleware):
    """Whoever asks it anything but to serve ends the start."""

    def __getattribute__(self, name):
        if name != "application":
            raise RuntimeError(name)
        return object.__getattribute__(self, name)

    def __repr__(self):
        raise RuntimeError("repr")

    __eq__ = __hash__ = __bool__ = __len__ = __repr__


def decorated(application):
    @functools.wraps(application)
    def serve(environ, start_response):
        return application(environ, start_response)

    return serve


around_service = Middleware(service)
around_app = Middleware(app)
around_wsgi_app = Middleware(app.wsgi_app)
around_both = Slotted(Hostile(decorated(Middleware(app)))).serve
proxy_fix = ProxyFix(service)
shared_data = SharedDataMiddleware(app, {"/files": "/"})
partial = functools.partial(lambda application, *args: application(*args), app)
proxy = LocalProxy(lambda: app)


def by_name(environ, start_response):
    return service(environ, start_response)


def create_wrapped():
    made = Worker()
    made.app.wsgi_app = ProxyFix(made.app.wsgi_app)
    return made.app


# Several in one

outer = flask.Flask("outer")
outer.add_url_rule("/page", view_func=lambda: "outer")
outer.wsgi_app = DispatcherMiddleware(
    outer.wsgi_app,
    {"/rpc": service, "/deep": DispatcherMiddleware(outer.wsgi_app, {"/er": Other()})},
)

several = DispatcherMiddleware(app, {"/other": Other().app})

below = Worker()
below.app.wsgi_app = DispatcherMiddleware(below.app.wsgi_app, {"/other": Other()})
