"""Dynamic configuration: which attributes may be set from outside, and by what.

Reading order: `configurable` (one value), `configurator` (where values come from).
"""

from .configurable import Configurable
from .configurator import BaseConfigurator, CommandLineConfigurator

__all__ = ["Configurable", "BaseConfigurator", "CommandLineConfigurator"]
