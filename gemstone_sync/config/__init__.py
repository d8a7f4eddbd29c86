"""Dynamic configuration: which attributes may be set from outside, and by what.

Reading order: `declaration` (all that a class says of a setting; `rules`, what its values must
be), `setting_types` (how they are read; `hints`, by which type hints), `configurable` (one value),
`base` (what a configurator is), `environment`, `files`, `command_line` (the three sources; the
last one asks the others too), `service_links` (variables that nobody meant), `comments` (help
texts), `redaction` (what is shown in place of secrets). `configurator` has all configurators under
the path that the document prints.
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
from .declaration import setting
from .rules import Rule
from .setting_types import Seconds

__all__ = [
    "Configurable",
    "Rule",
    "Seconds",
    "setting",
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
