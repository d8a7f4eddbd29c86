"""``gemstone shell``: a Python prompt with services at hand.

IPython when it is installed, else Python's own console with readline. Neither is patched: one call
at a time is what a prompt makes, and IPython's event loop is asyncio's.
"""

from __future__ import annotations

import code
import contextlib
import importlib.util
import platform
import sys
from typing import TYPE_CHECKING, Any

import click

from ..errors import GemstoneError, RemoteError
from ..exit_codes import failure_text
from .options import Access, access_options, registry_option, utf8

if TYPE_CHECKING:
    from .shell_services import Places, Services

__all__ = ["command"]


@click.command("shell")
@registry_option
@click.option(
    "--url",
    "urls",
    multiple=True,
    type=utf8,
    metavar="[NAME=]URL",
    help="A service that is known without a registry; without NAME it is asked. May be repeated.",
)
@click.option("-c", "code_text", metavar="CODE", help="Run CODE and end; a result is printed.")
@click.option("--plain", is_flag=True, help="Python's own prompt, even where IPython is installed.")
@access_options
@click.argument("more", metavar="[[NAME=]URL]...", nargs=-1, type=utf8)
def command(
    registry: str | None,
    urls: tuple[str, ...],
    code_text: str | None,
    plain: bool,
    more: tuple[str, ...],
    access: Access,
) -> None:
    """A Python prompt where s.SERVICE.METHOD(...) calls a service.

    s finds services through a registry, or they are given by their URLs. Tab completes services and
    methods. A call that fails is one line. --timeout is for each call.

    \b
    gemstone shell --registry=http://localhost:8090/api
    >>> s.greeter.say_hello("world")
    >>> s["project.worker.1"].get_service_specs()
    gemstone shell --url greeter=http://localhost:8000/api -c 's.greeter.say_hello("world")'
    """
    if registry is None and not urls and not more:
        raise click.UsageError(
            "which services? Give --registry http://HOST:PORT/api, or set GEMSTONE_REGISTRY, or "
            "give --url NAME=http://HOST:PORT/api"
        )
    from ..client import RemoteService
    from .remote import registry_client
    from .shell_services import Services

    if registry is not None:
        registry_client(registry, access).close()  # whether it is a URL
    services = Services(registry, _given((*urls, *more), access), access)
    names = {"s": services, "RemoteService": RemoteService, "__name__": "__main__"}
    if code_text is not None:
        _run_code(code_text, "<-c>", names)
    elif not sys.stdin.isatty():
        _run_code(sys.stdin.read(), "<stdin>", names)
    else:
        banner = _banner(services)
        if plain or importlib.util.find_spec("IPython") is None:
            _prompt(names, banner)
        else:
            _prompt_of_ipython(names, banner)


def _given(words: tuple[str, ...], access: Access) -> Places:
    """Read services with their names; several URLs of one name are one service.

    :raises click.BadParameter: for what is no URL.
    :raises TransportError: when a service without a name cannot be asked for it.
    """
    from .remote import client_of

    places: dict[str, tuple[str, ...]] = {}
    for word in words:
        is_url = word.lower().startswith(("http://", "https://"))
        name, url = ("", word) if is_url else word.partition("=")[::2]
        if not url:
            raise click.BadParameter(f"{word!r} is no NAME=URL", param_hint="--url")
        if not name:
            with client_of(url, access) as client:
                try:
                    name = client.name
                except RemoteError:
                    name = "service"  # of another framework, which has no get_service_specs
        places[name] = (*places.get(name, ()), url)
    for found in places.values():
        client_of(found, access).close()  # whether they are URLs
    return places


# Without a prompt


def _run_code(text: str, where: str, names: dict[str, Any]) -> None:
    """Run a program; of one that is a single expression the value is printed, as at the prompt.

    :raises GemstoneError: what it did not catch, which is one line then.
    :raises click.UsageError: for code that is none.
    """
    from .target import users_faults

    try:
        try:
            compiled = compile(text.strip(), where, "eval")
        except SyntaxError:
            compiled = compile(text, where, "exec")
    except SyntaxError as error:
        raise click.UsageError(f"{where}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # null characters
        raise click.UsageError(f"{where}: {error}") from None
    with users_faults(GemstoneError, BrokenPipeError):
        value = eval(compiled, names)
    if value is not None:
        click.echo(repr(value))


# Prompts


def _banner(services: Services) -> str:
    """Say what there is; the registry is asked.

    :raises RemoteError, TransportError: when there is nothing but a registry that cannot be asked.
    """
    from .. import __version__

    told = f"gemstone_sync {__version__}, Python {platform.python_version()}"
    try:
        services._places()
    except GemstoneError as error:
        if not services._given:
            raise
        told = f"{told}\n{_line_of(error)}"
    return f"{told}\n{services!r}\ns.SERVICE.METHOD(...) calls; Tab completes; Ctrl-D ends.\n"


def _line_of(error: GemstoneError) -> str:
    return f"{type(error).__name__}: {failure_text(error)}"


class _Console(code.InteractiveConsole):
    """Python's console, where a failed call is one line."""

    def showtraceback(self) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, GemstoneError):
            self.write(f"{_line_of(error)}\n")
        elif isinstance(error, KeyboardInterrupt):
            self.write("KeyboardInterrupt\n")
        else:
            super().showtraceback()

    def push(self, line: str, *args: Any, **options: Any) -> bool:
        if not self.buffer and line.strip() in ("exit", "quit"):
            raise SystemExit(0)
        return super().push(line, *args, **options)


def _prompt(names: dict[str, Any], banner: str) -> None:
    with contextlib.suppress(ImportError):  # a Python without readline
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    _Console(names).interact(banner.rstrip(), exitmsg="")


def _prompt_of_ipython(names: dict[str, Any], banner: str) -> None:
    from IPython.core.guarded_eval import EVALUATION_POLICIES
    from IPython.terminal.ipapp import TerminalIPythonApp
    from traitlets.config import Config

    from ..client.namespaces import MethodNamespace, RemoteMethod
    from .shell_services import Services

    config = Config()
    config.TerminalInteractiveShell.banner1 = banner
    config.TerminalInteractiveShell.confirm_exit = False
    config.Completer.use_jedi = False  # it guesses at what attributes are, and cannot with these
    # Or Tab looks into no object that makes its attributes up; it still calls nothing.
    policy: Any = EVALUATION_POLICIES["limited"]
    for allowed in (policy.allowed_getattr, policy.allowed_getitem):
        allowed |= {Services, MethodNamespace, RemoteMethod}
    app: Any = TerminalIPythonApp.instance(config=config, user_ns=names)
    app.initialize(argv=[])

    def show_in_one_line(
        ipython: Any, kind: Any, error: BaseException, tb: Any, tb_offset: Any = None
    ) -> None:
        sys.stdout.flush()
        line = _line_of(error) if isinstance(error, GemstoneError) else type(error).__name__
        click.echo(line, err=True)

    app.shell.set_custom_exc((GemstoneError, KeyboardInterrupt), show_in_one_line)
    app.start()
