"""The decorators: any order, the old ones with a warning, and what they refuse."""

import functools
import itertools
import re
import types
import warnings
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import AccessDenied, MethodNotFound, MicroService, ServiceConfigurationError
from gemstone_sync.testing import ServiceClient


def client_of(members: dict[str, Any], **headers: str) -> ServiceClient:
    base = {
        "name": "test.decorators",
        "authenticate_request": lambda self, h: h.headers.get("User"),
    }
    return ServiceClient(type("Service", (MicroService,), {**base, **members})(), headers)


# exposed_method


def test_a_method_is_exposed_under_its_own_name_or_the_one_given():
    """The method stays a plain function of its class."""

    class Service(MicroService):
        name = "names"

        @gemstone_sync.exposed_method()
        def plain(self, number: int) -> int:
            """Twice the number."""
            return 2 * number

        @gemstone_sync.exposed_method("group.renamed_2")
        def hidden(self) -> str:
            return "renamed"

        def unexposed(self) -> None: ...

    client = ServiceClient(Service())
    assert client.call("plain", 4) == Service().plain(4) == 8
    assert client.call("group.renamed_2") == "renamed"
    for name in ("hidden", "unexposed", "start", "__init__", "group", "configure"):
        with pytest.raises(MethodNotFound):
            client.call(name)
    assert set(Service().methods) == {"plain", "group.renamed_2", "get_service_specs"}
    assert Service.plain.__doc__ == "Twice the number."


@pytest.mark.parametrize("name", ["", "a b", "a-b", "é", "a/b", "a\n", "rpc.x", "rpc.", 5, "a:b"])
def test_a_name_that_callers_may_not_use_is_refused_where_it_is_written(name):
    with pytest.raises(ValueError, match="invalid method name"):
        gemstone_sync.exposed_method(name)


def test_the_methods_own_name_is_checked_too():
    def grüße() -> None: ...

    with pytest.raises(ValueError, match="invalid method name 'grüße'"):
        gemstone_sync.exposed_method()(grüße)
    assert gemstone_sync.exposed_method("gruesse")(grüße) is grüße
    with pytest.raises(TypeError, match="with parentheses"):
        gemstone_sync.exposed_method(grüße)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", "3s", True, [1]])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(ValueError, match="a timeout is a number of seconds above 0"):
        gemstone_sync.exposed_method(timeout=timeout)
    with pytest.raises(ValueError, match="a period is a number of seconds above 0"):
        gemstone_sync.periodic(timeout)


def test_the_option_of_a_coroutine_is_accepted_with_one_warning():
    def give(self: Any) -> int:
        return 5

    with pytest.warns(DeprecationWarning, match="is_coroutine has no meaning") as caught:
        exposed = gemstone_sync.exposed_method(is_coroutine=True)(give)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert client_of({"give": exposed}).call("give") == 5

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gemstone_sync.exposed_method(is_coroutine=False)
        gemstone_sync.exposed_method(public=True)


@pytest.mark.parametrize(
    ("decorate", "option", "said"),
    [
        (gemstone_sync.exposed_method, "timout", "did you mean 'timeout'?"),
        (gemstone_sync.exposed_method, "idempotnet", "did you mean 'idempotent'?"),
        (gemstone_sync.exposed_method, "pass_error", "did you mean 'pass_errors'?"),
        (gemstone_sync.exposed_method, "cache", "there are name, private, requires_handler"),
        (gemstone_sync.event_handler, "retrys", "did you mean 'retries'?"),
        (gemstone_sync.route, "method", "did you mean 'methods'?"),
        (gemstone_sync.route, "strict_slash", "did you mean 'strict_slashes'?"),
        (gemstone_sync.route, "auth", "there are defaults, subdomain, methods"),
    ],
)
def test_an_option_that_there_is_not_is_refused_where_it_is_written(decorate, option, said):
    with pytest.raises(TypeError, match=f"has no option '{option}'; {re.escape(said)}"):
        decorate("/name" if decorate is gemstone_sync.route else "name", **{option: 5})


@pytest.mark.parametrize("name", ["exposed_method", "event_handler", "periodic", "route"])
def test_a_decorator_without_parentheses_says_how_to_write_it(name):
    with pytest.raises(TypeError, match=rf"write @{name}\("):
        getattr(gemstone_sync, name)(lambda self: None)


@pytest.mark.parametrize("rule", ["status", "", 5, None])
def test_what_is_no_rule_is_refused_where_it_is_written(rule):
    with pytest.raises(ValueError, match="a Flask rule is like '/users/<int:user_id>', not"):
        gemstone_sync.route(rule)


@pytest.mark.parametrize(
    "decorator",
    [
        gemstone_sync.exposed_method(),
        gemstone_sync.event_handler("a"),
        gemstone_sync.periodic(60),
        gemstone_sync.route("/a"),
    ],
    ids=["exposed_method", "event_handler", "periodic", "route"],
)
def test_a_method_without_self_is_refused_where_the_class_is(decorator):
    def a() -> None: ...

    def keywords(*, b: int) -> None: ...

    for function in (a, keywords):
        with pytest.raises(ServiceConfigurationError, match=r"Service.m is a method: .* self"):
            client_of({"m": decorator(function)})
    for right in (lambda *a: None, staticmethod(a), classmethod(lambda cls: None)):
        client_of({"m": gemstone_sync.exposed_method("m")(right)})


@pytest.mark.parametrize("options", [{"public": True, "private": True}, {"public": False}])
def test_public_and_private_contradict_each_other(options):
    with pytest.raises(ValueError, match="either public or private"):
        gemstone_sync.exposed_method(**options)


# The deprecated decorators, in every order

EXPOSE = {
    "public_method": gemstone_sync.public_method,
    "private_api_method": gemstone_sync.private_api_method,
    "exposed_method": gemstone_sync.exposed_method(),
    "exposed_method(private)": gemstone_sync.exposed_method(private=True),
}
ADD = (gemstone_sync.requires_handler_reference, gemstone_sync.async_method)


@pytest.mark.parametrize("expose", EXPOSE)
def test_stacked_in_any_order_they_mean_the_same(expose):
    def greet(self, handler, name):
        return f"{handler.headers['User']} greets {name}"

    for order in itertools.permutations([EXPOSE[expose], *ADD]):
        decorated: Any = types.FunctionType(greet.__code__, globals(), "greet")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for decorate in order:
                decorated = decorate(decorated)

        assert client_of({"greet": decorated}, User="me").call("greet", "you") == "me greets you"
        stranger = client_of({"greet": decorated}, User="")
        if "private" in expose:
            with pytest.raises(AccessDenied):
                stranger.call("greet", "you")
        else:
            assert stranger.call("greet", name="you") == " greets you"


@pytest.mark.parametrize(
    "name", ["public_method", "private_api_method", "requires_handler_reference", "async_method"]
)
def test_each_old_decorator_warns_once_and_says_what_to_write(name):
    with pytest.warns(DeprecationWarning, match=f"{name} is deprecated") as caught:
        getattr(gemstone_sync, name)(lambda self: None)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_method_that_wants_the_handler_needs_a_parameter_for_it():
    def greet(self: Any) -> None: ...

    exposed = gemstone_sync.exposed_method(requires_handler_reference=True)(greet)
    with pytest.raises(ServiceConfigurationError, match=r"greet takes the handler"):
        client_of({"greet": exposed}).call("greet")


def test_a_method_marked_private_anywhere_is_private():
    def secret(self: Any) -> str:
        return "secret"

    with pytest.warns(DeprecationWarning, match="private_api_method"):
        one = gemstone_sync.private_api_method(gemstone_sync.exposed_method()(secret))
    with pytest.raises(AccessDenied):
        client_of({"secret": one}).call("secret")


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
@pytest.mark.parametrize("outermost", [True, False])
def test_static_and_class_methods_may_be_exposed_in_either_order(kind, outermost):
    expose = gemstone_sync.exposed_method(private=True)

    def of_class(cls: Any, number: int) -> int:
        return 2 * number

    def of_none(number: int) -> int:
        return 2 * number

    double = of_none if kind is staticmethod else of_class
    member = kind(expose(double)) if outermost else expose(kind(double))

    assert client_of({"double": member}, User="me").call("double", 4) == 8
    with pytest.raises(gemstone_sync.InvalidParams):
        client_of({"double": member}, User="me").call("double", "x")
    with pytest.raises(AccessDenied):
        client_of({"double": member}).call("double", 4)


def test_decorators_of_the_user_around_and_below():
    def shout(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> str:
            return str(function(*args, **kwargs)).upper()

        return wrapper

    def say(self, word: str) -> str:
        return word

    expose = gemstone_sync.exposed_method
    client = client_of(
        {"below": expose("below")(shout(say)), "around": shout(expose("around")(say))}
    )
    assert (client.call("below", "a"), client.call("around", "b")) == ("A", "B")
    with pytest.raises(gemstone_sync.InvalidParams):
        client.call("below", 5)


# async def and generators


async def coroutine(self: Any) -> int:
    return 1


async def async_generator(self: Any) -> Any:
    yield 1


def generator(self: Any) -> Any:
    yield 1


DECORATE = [
    gemstone_sync.exposed_method(),
    gemstone_sync.periodic(1),
    gemstone_sync.event_handler("e"),
    lambda function: gemstone_sync.exposed_method()(staticmethod(function)),
]


@pytest.mark.parametrize("function", [coroutine, async_generator, generator])
@pytest.mark.parametrize("where", [gemstone_sync.MicroService, gemstone_sync.Module, "mixin"])
def test_what_is_no_plain_function_is_refused_at_class_creation(function, where):
    for decorate in DECORATE:
        # A copy: the marks of one case must not reach the next.
        copy = types.FunctionType(function.__code__, globals(), function.__name__)
        members = {"work": decorate(copy)}
        bases: Any = (where,)
        if where == "mixin":
            bases, members = (type("Mixin", (), members), MicroService), {}

        with pytest.raises(
            ServiceConfigurationError,
            match=r"\.work is .* write plain blocking code",
        ):
            type("Service", bases, {"name": "x", **members})


def test_an_override_that_is_async_is_refused_too():
    class Plain(MicroService):
        name = "plain"

        @gemstone_sync.exposed_method()
        def work(self) -> None: ...

    with pytest.raises(ServiceConfigurationError, match=r"Async\.work is an async def method"):

        class Async(Plain):
            async def work(self) -> None: ...


def test_async_methods_that_are_not_exposed_are_nobodys_business():
    class Service(MicroService):
        name = "own.business"

        async def helper(self) -> None: ...

        def numbers(self) -> Any:
            yield 1

    assert list(Service().numbers()) == [1]
