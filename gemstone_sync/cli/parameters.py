"""What is given on the command line for a call: parameters, credentials, a time limit.

Only reading and checking words belongs here; nothing heavy is imported.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import click

from ..errors import ParseError
from ..protocol import decode_json

__all__ = [
    "TEXT",
    "Access",
    "Call",
    "Duration",
    "Params",
    "Trust",
    "access_options",
    "call_arguments",
    "json_option",
    "method_arguments",
    "params_of",
    "registry_option",
    "required_registry",
    "timeout_option",
    "trust_options",
]

#: Parameters by position or by name; None for none.
Params: TypeAlias = "list[Any] | dict[str, Any] | None"

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FORMS = "write name=text or name:=JSON"

#: Seconds, a day: what is longer does not fit into every system call.
_LONGEST = 86_400.0

#: What the client says itself: a second one would contradict it.
_OWN_HEADERS = {
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-gemstone-deadline",
}


class Trust(NamedTuple):
    """Certificates, as `RemoteService` takes them.

    :ivar verify: the path of the authorities' certificates; True for those that requests brings.
    :ivar cert: the path of the client's own certificate with its key, or both paths.
    """

    verify: bool | str
    cert: str | tuple[str, str] | None


@dataclass(frozen=True)
class Access:
    """How a service is asked.

    :param token: goes as ``X-Api-Token``; None for none.
    :param headers: further headers, by their names.
    :param timeout: seconds for the whole command.
    """

    token: str | None
    headers: dict[str, str]
    timeout: float
    trust: Trust


@dataclass(frozen=True)
class Call:
    """One call, as it stands on the command line.

    :param notify: no answer is wanted.
    """

    method: str
    params: Params
    notify: bool
    as_json: bool
    access: Access


# Types


class _Text(click.types.StringParamType):
    """Text that JSON and URLs can carry: a shell may pass any bytes."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        text = str(super().convert(value, param, ctx))
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("not UTF-8", param, ctx)
        return text


TEXT = _Text()


class Duration(click.types.FloatParamType):
    """Seconds as a number, or with a unit: ``1.5``, ``500ms``, ``30s``, ``5m``, ``2h``, ``1d``.

    :param longest: seconds.
    :param may_be_zero: whether 0 is one.
    """

    name = "duration"

    def __init__(self, longest: float = _LONGEST, *, may_be_zero: bool = False) -> None:
        self._longest = longest
        self._may_be_zero = may_be_zero

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        from ..config.kinds import read_seconds

        try:
            seconds = float(read_seconds(value))
        except ValueError:
            seconds = math.nan
        if not (0 < seconds <= self._longest or (seconds == 0 and self._may_be_zero)):
            least = "0 or more" if self._may_be_zero else "above 0"
            self.fail(
                f"{value!r} is no duration: write 10, 500ms, 30s, 5m or 2h, {least} and at most "
                f"{self._longest / 86_400:g}d",
                param,
                ctx,
            )
        return seconds


# Parameters


def params_of(words: tuple[str, ...], args: str | None = None) -> Params:
    """The parameters of a call.

    :param words: ``name=text`` and ``name:=JSON``.
    :param args: a JSON array (by position), or an object, to which the words add.
    :raises click.UsageError: for a word of another form, a name given twice, a mix of both ways.

    >>> params_of(("name=world", "times:=3"))
    {'name': 'world', 'times': 3}
    >>> params_of((), "[1, 2]")
    [1, 2]
    """
    given = {} if args is None else _json_of(args, "--args")
    if not isinstance(given, (list, dict)):
        raise click.UsageError("--args is a JSON array or object: --args '[1, 2]'")
    if isinstance(given, list):
        if words:
            name, _ = _named(words[0])
            raise click.UsageError(
                f"the parameter {name} and an array in --args: a call has parameters by name or by "
                "position, not both"
            )
        return given or None
    named: dict[str, Any] = given
    for word in words:
        name, value = _named(word)
        if name in named:
            raise click.UsageError(f"the parameter {name} is given twice")
        named[name] = value
    return named or None


def _named(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    is_json = name.endswith(":")
    name = name[:-1] if is_json else name
    if not equals or not name:
        raise click.UsageError(f"{_shown(word)} is no parameter: {_FORMS}")
    if not is_json:
        return name, text
    return name, _json_of(text, f"{name}:=", hint=f"; a text is written {name}=text")


def _json_of(text: str, where: str, hint: str = "") -> Any:
    try:
        return decode_json(text.encode())
    except ParseError as error:
        # The text itself is not shown: it may be a password.
        fault = str(error.__cause__).removeprefix("JSON is malformed: ")
        raise click.UsageError(f"what follows {where} is no JSON: {fault}{hint}") from None


def _shown(word: str) -> str:
    return repr(word if len(word) <= 40 else f"{word[:40]}...")


# Options


def registry_option(function: _Function) -> _Function:
    """``--registry``, or ``GEMSTONE_REGISTRY``. `required_registry` misses it."""
    return click.option(
        "--registry",
        metavar="URL",
        type=TEXT,
        envvar="GEMSTONE_REGISTRY",
        help="The service registry URL used for queries.  [env: GEMSTONE_REGISTRY]",
    )(function)


def required_registry(registry: str | None) -> str:
    """:raises click.UsageError: when no registry is given."""
    if registry is None:
        raise click.UsageError(
            "which registry? Give --registry http://HOST:PORT/api, or set GEMSTONE_REGISTRY"
        )
    return registry


def timeout_option(function: _Function) -> _Function:
    """``--timeout``, in seconds."""
    return click.option(
        "--timeout",
        type=Duration(),
        default=15.0,  # a number: nothing to import for
        show_default="15s",
        metavar="DURATION",
        help="For all of it: 10, 500ms, 30s, 5m.",
    )(function)


def trust_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--cacert``, ``--cert`` and ``--key``, as of curl; the command gets `trust`."""
    path = click.Path(exists=True)

    @click.option(
        "--cacert",
        type=path,
        envvar=["GEMSTONE_CACERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"],
        help="The authorities' certificates, a PEM file or a folder.  [env: GEMSTONE_CACERT, "
        "SSL_CERT_FILE, REQUESTS_CA_BUNDLE]",
    )
    @click.option("--cert", type=path, help="The client's certificate, a PEM file.")
    @click.option("--key", type=path, help="Its private key, when it is not in --cert.")
    @functools.wraps(function)
    def command(cacert: str | None, cert: str | None, key: str | None, **rest: Any) -> Any:
        if key is not None and cert is None:
            raise click.UsageError("--key is of a certificate: give --cert too")
        own = cert if cert is None or key is None else (cert, key)
        return function(trust=Trust(cacert or True, own), **rest)

    return command


def json_option(function: _Function) -> _Function:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One line of JSON, and no times: for programs."
    )(function)


def access_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Everything of `Access`; the command gets it as `access`."""

    @click.option(
        "--token",
        envvar="GEMSTONE_TOKEN",
        metavar="TEXT",
        help="Sent to the service as X-Api-Token. Other users see the command line: rather set "
        "the variable.  [env: GEMSTONE_TOKEN]",
    )
    @click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="'NAME: VALUE'",
        callback=_headers,
        help="A header for the service, such as 'Authorization: Bearer ...'. May be repeated.",
    )
    @timeout_option
    @trust_options
    @functools.wraps(function)
    def command(
        token: str | None, headers: dict[str, str], timeout: float, trust: Trust, **rest: Any
    ) -> Any:
        return function(access=Access(token, headers, timeout, trust), **rest)

    return command


def method_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """METHOD, PARAMS and ``--args``; the command gets `method`, and `params` as `params_of`."""

    @click.argument("method", type=TEXT)
    @click.argument("params", nargs=-1, type=TEXT)
    @click.option(
        "--args",
        metavar="JSON",
        type=TEXT,
        help="Parameters by position as a JSON array, or by name as an object.",
    )
    @functools.wraps(function)
    def command(params: tuple[str, ...], args: str | None, **rest: Any) -> Any:
        return function(params=params_of(params, args), **rest)

    return command


def call_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """METHOD, PARAMS and the options of a call; the command gets them as `call`."""

    @method_arguments
    @click.option(
        "--notify", is_flag=True, help="Send a notification: the service gives no answer."
    )
    @access_options
    @json_option
    @functools.wraps(function)
    def command(
        method: str, params: Params, notify: bool, as_json: bool, access: Access, **rest: Any
    ) -> Any:
        return function(call=Call(method, params, notify, as_json, access), **rest)

    return command


def _headers(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Names and values; whether HTTP can carry them is for the client to say.

    No value is shown when it is at fault: it may be a secret.
    """
    headers: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise click.BadParameter("write it like 'Name: value'", ctx, param)
        if name.lower() in _OWN_HEADERS:
            raise click.BadParameter(f"{name} is for the client to say", ctx, param)
        if name.lower() in map(str.lower, headers):
            raise click.BadParameter(f"{name} is given twice", ctx, param)
        headers[name] = value.strip(" \t")
    return headers
