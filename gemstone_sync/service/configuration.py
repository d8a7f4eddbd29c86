"""A service's settings: asking the configurators, setting what they find, telling what counts."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..concurrency import leads_to
from ..config import BaseConfigurator, CommandLineConfigurator, Configurable, Found
from ..config.redaction import MASK, SECRET_REFUSED, without_passwords
from ..config.service_links import hint_of
from ..errors import ServiceConfigurationError
from ..ops import restore_loggers
from .base import ServiceBase
from .settings import (
    Setting,
    check_settings,
    refuse_changes,
    settings_of,
    snapshot,
    source_of_default,
)

if TYPE_CHECKING:
    import click

__all__ = ["Configuration", "argv_of_caller"]


class Configuration(ServiceBase):
    """The part of `MicroService` that is set from outside. Not for use by itself."""

    #: Where the values came from that were found outside; None before `configure`.
    _sources: dict[str, str] | None = None
    #: The settings that `configure` has asked with.
    _asked_with: Mapping[str, Any] = {}

    def configure(self, argv: Sequence[str] | None = None) -> None:
        """Set the attributes that may be set from outside to what the configurators find.

        `start` does it, unless it was done before.

        :param argv: the command line's words after the program's name; left out, those of the
            process when the program's own main module calls this, and none otherwise.
        :raises SystemExit: with code 2 after one line on stderr, for a wrong name or value.
        """
        restore_loggers()
        check_settings(self, only=("configurables", "configurators", "environment_prefix"))
        self._asked_with = snapshot(self, ("configurables", "configurators", "environment_prefix"))
        words = argv_of_caller(2) if argv is None else argv
        settings = settings_of(self)
        try:
            found: dict[str, Found] = {}
            for configurator in _fresh_configurators(self, settings, words):
                configurator.load()
                found.update(_found_by(configurator, settings))
            self._set_found(found, settings)
        except (ValueError, OSError, ServiceConfigurationError) as error:
            text = without_passwords(" ".join(str(error).split()))
            sys.stderr.write(f"{self.name}: {text}\n")
            raise SystemExit(2) from None

    def _configure_once(self, argv: Sequence[str]) -> None:
        """Call `configure`, unless that was done or is not wanted.

        :raises ServiceConfigurationError: when it was done and asks otherwise now.
        """
        refuse_changes(self, self._asked_with, "service.configure() was called")
        if self._sources is None and not self.skip_configuration:
            self.configure(argv)

    def _set_found(self, found: dict[str, Found], settings: Sequence[Configurable]) -> None:
        """Set what was found on this object.

        :raises ValueError: for the first that is wrong, naming where it was found.
        """
        secrets = {configurable.name for configurable in settings if configurable.secret}
        self._sources = dict(self._sources or {})
        for name, (value, source) in found.items():
            self._sources[name] = source
            try:
                setattr(self, name, value)
                check_settings(self, only=(name,))
            except (ValueError, TypeError, AttributeError, ServiceConfigurationError) as error:
                text = _refusal(error, value, name in secrets)
                raise ValueError(f"{source}: {text}{hint_of(value)}") from error
        if found:
            check_settings(self)

    def get_settings(self) -> list[Setting]:
        """List the attributes that may be set from outside, their values and where those are from.

        Secrets are masked.
        """
        sources = self._sources or {}
        return [
            Setting(
                configurable.name,
                configurable.shown(getattr(self, configurable.name, None)),
                sources.get(configurable.name) or source_of_default(self, configurable.name),
            )
            for configurable in settings_of(self)
        ]

    def configuration_help(self) -> str:
        """Return what ``--help`` shows: each option, its environment variable and its default.

        Empty when no configurator reads a command line.
        """
        found = _command_line_of(self)
        return "" if found is None else found.format_help()

    @classmethod
    def get_cli(cls) -> click.Group:
        """Make the service's own command line: a click group with the command ``start``.

        ::

            cli = Shop.get_cli()      # in shop/service.py

        With ``shop = shop.service:cli`` among the package's ``console_scripts``,
        ``shop start --host=0.0.0.0 --port=8000`` starts it. Every setting is an option.
        """
        from .cli import make_cli

        return make_cli(cls, _command_line_of(cls))


def _refusal(error: Exception, value: Any, secret: bool) -> str:
    if not secret:
        return without_passwords(str(error))
    # Which is how check_settings shows it.
    text = str(error).replace(without_passwords(repr(value)), MASK)
    hidden = str(value) == "" or str(value) not in text
    return text if isinstance(error, ServiceConfigurationError) and hidden else SECRET_REFUSED


def _command_line_of(service: Any) -> CommandLineConfigurator | None:
    """Find what reads the command line of a service, or of a class; None when nothing does."""
    for configurator in _fresh_configurators(service, settings_of(service), []):
        if isinstance(configurator, CommandLineConfigurator):
            return configurator
    return None


def _fresh_configurators(
    service: Any, settings: Sequence[Configurable], argv: Sequence[str]
) -> list[BaseConfigurator]:
    """Copy the class's configurators: what one service finds, another must not see."""
    fresh = []
    for template in service.configurators:
        configurator = copy.copy(template)
        configurator.configurables = []
        configurator.argv = argv
        configurator.service_name = service.name
        if "environment_prefix" not in vars(configurator):
            configurator.environment_prefix = service.environment_prefix
        # A configurator of the user's own needs `load` and `get` only.
        register = getattr(configurator, "register_configurable", configurator.configurables.append)
        for configurable in settings:
            register(copy.copy(configurable))
        fresh.append(configurator)
    return fresh


def _found_by(configurator: BaseConfigurator, settings: Sequence[Configurable]) -> dict[str, Found]:
    find = getattr(configurator, "find", None)
    found = {}
    for configurable in settings:
        if find is not None:
            value = find(configurable.name)
        else:
            got = configurator.get(configurable.name)
            value = None if got is None else Found(got, repr(configurator))
        if value is not None:
            found[configurable.name] = value
    return found


# The words of the command line


def argv_of_caller(depth: int) -> list[str]:
    """Find the words for the caller `depth` frames up, when it is the program's own main module.

    None where the command started something else, which has a main module of its own run: the
    words of IPython, of pytest or of a launcher are not the service's.
    """
    try:
        caller = sys._getframe(depth)
    except ValueError:  # the first function of a greenlet
        return []
    is_main = caller.f_globals.get("__name__") == "__main__"
    return sys.argv[1:] if is_main and sys.argv[1:] and _is_its_own(caller) else []


def _is_its_own(caller: types.FrameType) -> bool:
    """Tell whether `sys.argv` is of the main module that the caller belongs to."""
    main, command, words = caller.f_globals, sys.orig_argv, sys.argv[1:]
    is_real = main is vars(sys.modules["__main__"])
    if main.get("__file__") is None:  # python -c, from a pipe, or at the prompt
        return is_real and sys.argv[:1] in ([""], ["-"], ["-c"])
    if not _is_run_by_runpy(caller):  # a profiler's, say, has the name only
        return is_real or _names(sys.argv[0], main)
    # `runpy` gives it the first word. The others are its own if they stand behind it.
    before = [word for word in command[: -len(words)] if word != "--"]
    return bool(before) and _names(before[-1], main) and command[-len(words) :] == words


def _names(word: str, main: dict[str, Any]) -> bool:
    """Tell whether a word of a command names a main module."""
    name = getattr(main.get("__spec__"), "name", None)
    if name is not None and word in (name, name.removesuffix(".__main__")):
        return True
    file = main["__file__"]
    return type(file) is str and leads_to(file, word)


def _is_run_by_runpy(frame: types.FrameType | None) -> bool:
    """Tell whether a program has run another one, which leads to a frame; not by ``python -m``."""
    while frame is not None:
        function = frame.f_code.co_name
        if frame.f_globals.get("__name__") == "runpy" and function in ("run_path", "run_module"):
            return True
        frame = frame.f_back
    return False
