"""``gemstone shell``: a Python prompt with services at hand.

IPython when it is installed, else Python's own console with readline. Neither is patched: one call
at a time is what a prompt makes, and IPython's event loop is asyncio's.
"""

from __future__ import annotations

import code
import contextlib
import importlib.util
import platform
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from ..broker_urls import without_passwords
from ..errors import GemstoneError, RemoteError
from .faults import REFUSED, USAGE, CommandFailed, printable
from .parameters import TEXT, Access, access_options, registry_option

if TYPE_CHECKING:
    from .shell_directory import Directory, Places

__all__ = ["shell"]

#: Seconds for asking which method was meant, after one that there is not.
_ASKING = 1.0
#: Services that the banner names.
_NAMED = 20

_IS_URL = re.compile(r"https?://", re.IGNORECASE)
#: What is being typed, when it is a name behind names: never behind a call.
_TYPED = re.compile(r"(?<![\w.\])])s((?:\.\w+)*)\.(\w*)$")


@click.command()
@registry_option
@click.option(
    "--url",
    "urls",
    multiple=True,
    type=TEXT,
    metavar="[NAME=]URL",
    help="A service that is known without a registry; without NAME it is asked. May be repeated.",
)
@click.option("-c", "code_text", metavar="CODE", help="Run CODE and end; a result is printed.")
@click.option("--plain", is_flag=True, help="Python's own prompt, even where IPython is installed.")
@access_options
@click.argument("more", metavar="[[NAME=]URL]...", nargs=-1, type=TEXT)
def shell(
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
    from .shell_directory import Directory
    from .shell_services import Services

    if registry is not None:
        registry_client(registry, access.timeout, access.trust).close()  # whether it is a URL
    directory = Directory(registry, _given((*urls, *more), access), access)
    names = {"s": Services(directory), "RemoteService": RemoteService, "__name__": "__main__"}
    if code_text is not None:
        _run_code(code_text, "<-c>", names)
    elif not sys.stdin.isatty():
        _run_code(sys.stdin.read(), "<stdin>", names)
    else:
        banner = _banner(directory)
        if plain or importlib.util.find_spec("IPython") is None:
            _prompt(names, banner)
        else:
            _prompt_of_ipython(names, banner)


def _given(words: tuple[str, ...], access: Access) -> Places:
    """Services by their names; several URLs of one name are one service.

    :raises click.BadParameter: for what is no URL.
    :raises TransportError: when a service without a name cannot be asked for it.
    """
    from .remote import client_of

    places: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, url = ("", word) if _IS_URL.match(word) else word.partition("=")[::2]
        if not url:
            raise click.BadParameter(f"{word!r} is no NAME=URL", param_hint="--url")
        with client_of(url, access, access.timeout) as client:
            name = name or _name_of(client)
        places[name] = (*places.get(name, ()), url)
    for found in places.values():
        if len(found) > 1:
            client_of(list(found), access, access.timeout).close()
    return places


def _name_of(client: Any) -> str:
    try:
        return str(client.name)
    except RemoteError:
        return "service"  # of another framework, which has no get_service_specs


# Without a prompt


def _run_code(text: str, where: str, names: dict[str, Any]) -> None:
    """Run a program; of one that is a single expression the value is printed, as at the prompt.

    :raises GemstoneError: what it did not catch, which is one line then.
    :raises CommandFailed: for code that is none.
    """
    try:
        try:
            compiled = compile(text.strip(), where, "eval")
        except SyntaxError:
            compiled = compile(text, where, "exec")
    except SyntaxError as error:
        raise CommandFailed(f"{where}, line {error.lineno}: {error.msg}", USAGE) from None
    except ValueError as error:  # null characters
        raise CommandFailed(f"{where}: {error}", USAGE) from None
    try:
        value = eval(compiled, names)
    except (GemstoneError, KeyboardInterrupt, BrokenPipeError) as error:
        if isinstance(error, RemoteError):
            raise CommandFailed(_line_of(error, with_class=False), REFUSED) from error
        raise
    except Exception as error:
        # As Python does, without the frames of this command.
        below = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(type(error), error, below)
        raise SystemExit(1) from None
    if value is not None:
        click.echo(repr(value))


# Prompts


def _banner(directory: Directory) -> str:
    """What there is; the registry is asked.

    :raises RemoteError, TransportError: when there is nothing but a registry that cannot be asked.
    """
    from .. import __version__
    from .shell_services import identifier_of

    lines = [f"gemstone_sync {__version__}, Python {platform.python_version()}"]
    try:
        places = directory.places()
    except GemstoneError as error:
        if not directory.known():
            raise
        lines.append(_line_of(error))
        places = directory.known()
    if places is None:
        lines.append("The registry cannot list its services: write s.NAME or s['NAME'].")
    for name in sorted(places or ())[:_NAMED]:
        urls = without_passwords(", ".join((places or {})[name]))
        lines.append(printable(f"  s.{identifier_of(name)}  {urls}"))
    if places is not None and len(places) > _NAMED:
        lines.append(f"  and {len(places) - _NAMED} more: list(s)")
    if places is not None and not places:
        lines.append("No service is registered yet.")
    return "\n".join([*lines, "s.SERVICE.METHOD(...) calls; Tab completes; Ctrl-D ends.", ""])


def _line_of(error: GemstoneError, *, with_class: bool = True) -> str:
    """A failed call in one line."""
    from ..client import RemoteService
    from .remote import refusal

    text = str(error)
    if isinstance(error, RemoteError) and error.url is not None:
        with RemoteService(error.url, timeout=_ASKING) as client:
            text = str(refusal(error, client, _ASKING))
    text = " ".join(text.split())
    return printable(f"{type(error).__name__}: {text}" if with_class else text)


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
    from IPython.terminal.ipapp import TerminalIPythonApp
    from traitlets.config import Config

    config = Config()
    config.TerminalInteractiveShell.banner1 = banner
    config.TerminalInteractiveShell.confirm_exit = False
    # It guesses at what attributes are, and cannot with these; ours comes first anyway.
    config.Completer.use_jedi = False
    app: Any = TerminalIPythonApp.instance(config=config, user_ns=names)
    app.initialize(argv=[])

    def show_in_one_line(
        ipython: Any, kind: Any, error: BaseException, tb: Any, tb_offset: Any = None
    ) -> None:
        sys.stdout.flush()
        line = _line_of(error) if isinstance(error, GemstoneError) else type(error).__name__
        click.echo(line, err=True)

    app.shell.set_custom_exc((GemstoneError, KeyboardInterrupt), show_in_one_line)
    app.shell.Completer.custom_matchers.append(_ipython_matcher(app.shell))
    app.start()


def _ipython_matcher(ipython: Any) -> Any:
    """Completes ``s.service.method``.

    IPython itself evaluates no attribute of an object that makes its attributes up; allowed to, it
    would call methods too (``Completer.evaluation = "unsafe"``).
    """
    from IPython.core.completer import SimpleCompletion, context_matcher

    from .shell_services import walk

    @context_matcher()  # type: ignore[untyped-decorator,unused-ignore]
    def match_services(context: Any) -> Any:
        typed = _TYPED.search(context.text_until_cursor)
        root = None if typed is None else walk(ipython.user_ns.get("s"), typed[1].split(".")[1:])
        if typed is None or root is None:
            return {"completions": []}
        names = [name for name in dir(root) if name.startswith(typed[2])]
        return {
            "completions": [SimpleCompletion(text=name, type="function") for name in names],
            "matched_fragment": typed[2],
            "suppress": bool(names),
        }

    return match_services
