"""Read what is given on the command line for a call: parameters, credentials, a time limit.

Only reading and checking words belongs here; nothing heavy is imported.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import click

from ..errors import ParseError

__all__ = [
    "utf8",
    "Access",
    "seconds",
    "Params",
    "Trust",
    "access_options",
    "asking_options",
    "json_of",
    "json_option",
    "method_arguments",
    "params_of",
    "registry_option",
    "require_extra",
    "required_registry",
    "source_argument",
]

#: Parameters by position or by name; None for none.
Params: TypeAlias = "list[Any] | dict[str, Any] | None"

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


class Access(NamedTuple):
    """How a service is asked.

    :ivar token: goes as ``X-Api-Token``; None for none.
    :ivar headers: further headers, by their names.
    :ivar timeout: seconds for the whole command.
    """

    token: str | None
    headers: dict[str, str]
    timeout: float
    trust: Trust


# Types


def utf8(given: str) -> str:
    """Take text that JSON and URLs can carry: a shell may pass any bytes."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("not UTF-8") from None
    return given


def seconds(longest: float = _LONGEST, *, may_be_zero: bool = False) -> Callable[[Any], float]:
    """Make the type of a time: ``1.5`` seconds, ``500ms``, ``30s``, ``5m``, ``2h``, ``1d``.

    :param longest: seconds.
    """

    def read(given: Any) -> float:
        from ..config.setting_types import read_seconds

        try:
            number = float(read_seconds(given))
        except ValueError:
            number = math.nan
        if 0 < number <= longest or (number == 0 and may_be_zero):
            return number
        least = "0 or more" if may_be_zero else "above 0"
        raise click.BadParameter(
            f"{given!r} is no duration: write 10, 500ms, 30s, 5m or 2h, {least} and at most "
            f"{longest / 86_400:g}d"
        )

    return read


# Parameters


def params_of(words: tuple[str, ...], args: str | None = None) -> Params:
    """Read the parameters of a call.

    :param words: ``name=text`` and ``name:=JSON``.
    :param args: a JSON array (by position), or an object, to which the words add.
    :raises click.UsageError: for a word of another form, a name given twice, a mix of both ways.

    >>> params_of(("name=world", "times:=3"))
    {'name': 'world', 'times': 3}
    >>> params_of((), "[1, 2]")
    [1, 2]
    """
    given = {} if args is None else json_of(args, "what follows --args")
    if not isinstance(given, (list, dict)):
        raise click.UsageError("--args is a JSON array or object: --args '[1, 2]'")
    if words and isinstance(given, list):
        raise click.UsageError(
            f"the parameter {_named(words[0])[0]} and an array in --args: a call has parameters "
            "by name or by position, not both"
        )
    named: Any = given  # a list only without words
    for word in words:
        name, value = _named(word)
        if name in named:
            raise click.UsageError(f"the parameter {name} is given twice")
        named[name] = value
    return named or None


def _named(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not equals or not name:
        shown = repr(word if len(word) <= 40 else f"{word[:40]}...")
        raise click.UsageError(f"{shown} is no parameter: write name=text or name:=JSON")
    if not is_json:
        return name, text
    return name, json_of(text, f"what follows {name}:=", f"; a text is written {name}=text")


def json_of(text: str | bytes, what: str, hint: str = "") -> Any:
    """Read JSON.

    :raises click.UsageError: for other text, without showing it: it may be a password.
    """
    from ..protocol import decode_json  # `gemstone new` does without msgspec

    try:
        return decode_json(text.encode() if isinstance(text, str) else text)
    except ParseError as error:
        fault = str(error.__cause__).removeprefix("JSON is malformed: ")
        raise click.UsageError(f"{what} is no JSON: {fault}{hint}") from None


# Options

registry_option = click.option(
    "--registry",
    metavar="URL",
    type=utf8,
    envvar="GEMSTONE_REGISTRY",
    help="The service registry URL used for queries.  [env: GEMSTONE_REGISTRY]",
)

#: See `source.read_source`.
source_argument = click.argument("source", metavar="SOURCE", type=utf8)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One line of JSON, and no times: for programs."
)


def require_extra(extra: str, module: str, package: str) -> None:
    """:raises click.UsageError: when what an extra of this package brings is not installed."""
    if importlib.util.find_spec(module) is None:
        raise click.UsageError(f"{package} is not installed: pip install 'gemstone_sync[{extra}]'")


def required_registry(registry: str | None) -> str:
    """:raises click.UsageError: when no registry is given."""
    if registry is None:
        raise click.UsageError(
            "which registry? Give --registry http://HOST:PORT/api, or set GEMSTONE_REGISTRY"
        )
    return registry


def asking_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--timeout``, and ``--cacert``, ``--cert`` and ``--key`` as of curl, for `access`."""
    path = click.Path(exists=True)

    @click.option(
        "--timeout",
        type=seconds(),
        default=15.0,  # a number: nothing to import for
        show_default="15s",
        metavar="DURATION",
        help="For all of it: 10, 500ms, 30s, 5m.",
    )
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
    def command(
        timeout: float, cacert: str | None, cert: str | None, key: str | None, **rest: Any
    ) -> Any:
        if key is not None and cert is None:
            raise click.UsageError("--key is of a certificate: give --cert too")
        own = cert if cert is None or key is None else (cert, key)
        return function(access=Access(None, {}, timeout, Trust(cacert or True, own)), **rest)

    return command


def access_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `Access`; the command gets it as `access`."""

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
    @asking_options
    @functools.wraps(function)
    def command(token: str | None, headers: dict[str, str], access: Access, **rest: Any) -> Any:
        return function(access=access._replace(token=token, headers=headers), **rest)

    return command


def method_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add METHOD, PARAMS and ``--args``; the command gets `method`, and `params` as `params_of`."""

    @click.argument("method", type=utf8)
    @click.argument("params", nargs=-1, type=utf8)
    @click.option(
        "--args",
        metavar="JSON",
        type=utf8,
        help="Parameters by position as a JSON array, or by name as an object.",
    )
    @functools.wraps(function)
    def command(params: tuple[str, ...], args: str | None, **rest: Any) -> Any:
        return function(params=params_of(params, args), **rest)

    return command


def _headers(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read names and values; whether HTTP can carry them is for the client to say.

    No value is shown when it is at fault: it may be a secret.
    """
    headers: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise click.BadParameter("write it like 'Name: value'")
        if name.lower() in _OWN_HEADERS:
            raise click.BadParameter(f"{name} is for the client to say")
        if name.lower() in map(str.lower, headers):
            raise click.BadParameter(f"{name} is given twice")
        headers[name] = value.strip(" \t")
    return headers
