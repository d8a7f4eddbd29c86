"""A service's settings: asking the configurators, setting what they find, telling what counts."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ..config import BaseConfigurator, CommandLineConfigurator, Configurable, Found
from ..config.masks import MASK, SECRET_REFUSED, without_passwords
from ..config.service_links import hint_of
from ..errors import ServiceConfigurationError
from ..ops import restore_loggers
from .attributes import check_attributes
from .command_line import argv_of_caller
from .settings import Setting, port_of, settings_of, source_of_default

if TYPE_CHECKING:
    import click

    from .microservice import MicroService

__all__ = ["Configuration"]


class Configuration:
    """The part of `MicroService` that is set from outside. Not for use by itself."""

    name: str

    #: True keeps every configurator from being asked.
    skip_configuration: bool = False
    #: Attributes of your own that may be set from outside, beside those of the framework, which all
    #: may be set under their names.
    configurables: Sequence[Configurable] = [
        Configurable("port", template=port_of),
        Configurable("host"),
        Configurable("accessible_at"),
        Configurable("endpoint"),
    ]
    #: Where values for them come from; a later one's value wins.
    configurators: Sequence[BaseConfigurator] = [CommandLineConfigurator()]
    #: What the names of environment variables begin with.
    environment_prefix: str = "GEMSTONE_"

    #: Where the values came from that were found outside; None before `configure`.
    _sources: dict[str, str] | None = None

    def configure(self, argv: Sequence[str] | None = None) -> None:
        """Set the attributes that may be set from outside to what the configurators find.

        `start` does it, unless it was done before.

        :param argv: the command line's words after the program's name; left out, those of the
            process when the program's own main module calls this, and none otherwise.
        :raises SystemExit: with code 2 after one line on stderr, for a wrong name or value.
        """
        restore_loggers()
        check_attributes(self, only=("configurables", "configurators", "environment_prefix"))
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
        if self._sources is None and not self.skip_configuration:
            self.configure(argv)

    def _set_found(self, found: dict[str, Found], settings: Sequence[Configurable]) -> None:
        """Set what was found on this object.

        :raises ValueError: for the first that is wrong, naming where it was found.
        """
        secrets = {setting.name for setting in settings if setting.secret}
        self._sources = dict(self._sources or {})
        for name, (value, source) in found.items():
            self._sources[name] = source
            try:
                setattr(self, name, value)
                check_attributes(self, only=(name,))
            except (ValueError, TypeError, AttributeError, ServiceConfigurationError) as error:
                text = _refusal(error, value, name in secrets)
                raise ValueError(f"{source}: {text}{hint_of(value)}") from error
        if found:
            check_attributes(self)

    def get_settings(self) -> list[Setting]:
        """Every attribute that may be set from outside: its value as text, and where that is from.

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
        """What ``--help`` shows: every option, its environment variable and its default.

        Empty when no configurator reads a command line.
        """
        found = _command_line_of(self)
        return "" if found is None else found.format_help()

    @classmethod
    def get_cli(cls) -> click.Group:
        """The service's own command line: a click group with the command ``start``.

        ::

            cli = Shop.get_cli()      # in shop/service.py

        With ``shop = shop.service:cli`` among the package's ``console_scripts``,
        ``shop start --host=0.0.0.0 --port=8000`` starts it. Every setting is an option.
        """
        from ..cli.service_cli import make_cli

        return make_cli(cast("type[MicroService]", cls), _command_line_of(cls))


def _refusal(error: Exception, value: Any, secret: bool) -> str:
    if not secret:
        return without_passwords(str(error))
    # Which is how check_attributes shows it.
    text = str(error).replace(without_passwords(repr(value)), MASK)
    hidden = str(value) == "" or str(value) not in text
    return text if isinstance(error, ServiceConfigurationError) and hidden else SECRET_REFUSED


def _command_line_of(service: Any) -> CommandLineConfigurator | None:
    """What reads the command line of a service, or of a class; None when nothing does."""
    for configurator in _fresh_configurators(service, settings_of(service), []):
        if isinstance(configurator, CommandLineConfigurator):
            return configurator
    return None


def _fresh_configurators(
    service: Any, settings: Sequence[Configurable], argv: Sequence[str]
) -> list[BaseConfigurator]:
    """Copies of the class's configurators: what one service finds, another must not see."""
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
        for setting in settings:
            register(copy.copy(setting))
        fresh.append(configurator)
    return fresh


def _found_by(configurator: BaseConfigurator, settings: Sequence[Configurable]) -> dict[str, Found]:
    find = getattr(configurator, "find", None)
    found = {}
    for setting in settings:
        if find is not None:
            value = find(setting.name)
        else:
            got = configurator.get(setting.name)
            value = None if got is None else Found(got, repr(configurator))
        if value is not None:
            found[setting.name] = value
    return found
