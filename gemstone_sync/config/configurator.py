"""Where configured values come from: all configurators, under the path of the document."""

from __future__ import annotations

from .base import BaseConfigurator, Found
from .command_line import CommandLineConfigurator
from .environment import EnvironmentConfigurator
from .files import (
    FileConfigurator,
    IniFileConfigurator,
    JsonFileConfigurator,
    TomlFileConfigurator,
    YamlFileConfigurator,
)

__all__ = [
    "BaseConfigurator",
    "CommandLineConfigurator",
    "EnvironmentConfigurator",
    "FileConfigurator",
    "Found",
    "IniFileConfigurator",
    "JsonFileConfigurator",
    "TomlFileConfigurator",
    "YamlFileConfigurator",
]
