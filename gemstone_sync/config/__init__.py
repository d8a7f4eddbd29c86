"""Dynamic configuration: which attributes may be set from outside, and by what.

Reading order: `kinds` (what values there are; `hints`, of which type hints), `configurable` (one
value), `base` (what a configurator is), `environment`, `files`, `command_line` (the three sources;
the last one asks the others too), `service_links` (variables that nobody meant), `comments` (help
texts), `masks` (what is shown in place of secrets). `configurator` has all configurators under the
path that the document prints.
"""

from .configurable import Configurable
from .configurator import (
    BaseConfigurator,
    CommandLineConfigurator,
    EnvironmentConfigurator,
    FileConfigurator,
    Found,
    IniFileConfigurator,
    JsonFileConfigurator,
    TomlFileConfigurator,
    YamlFileConfigurator,
)
from .kinds import Seconds

__all__ = [
    "Configurable",
    "Seconds",
    "Found",
    "BaseConfigurator",
    "CommandLineConfigurator",
    "EnvironmentConfigurator",
    "FileConfigurator",
    "TomlFileConfigurator",
    "YamlFileConfigurator",
    "JsonFileConfigurator",
    "IniFileConfigurator",
]
