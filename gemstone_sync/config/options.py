"""How options of a command line look and behave: argparse's own ways, where they are not ours."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import configargparse

from ..suggestions import did_you_mean
from .names import option_of, plain
from .redaction import without_passwords
from .setting_types import read_list

__all__ = ["AppendToList", "HelpFormatter", "OneLineParser", "Switch", "unknown_option"]

_NEGATION = "--no-"
#: How argparse ends its complaint of ``--x`` alone, and of ``--x -y``.
_NO_VALUE = ": expected one argument"


class Switch(argparse.Action):
    """``--x`` and ``--no-x``, and ``--x=true``, which gemstone 0.10.1 took."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        negated = [_NEGATION + option.removeprefix("--") for option in option_strings]
        super().__init__([*option_strings, *negated], dest, nargs="?", **options)

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if option_string not in self.option_strings[len(self.option_strings) // 2 :]:
            setattr(namespace, self.dest, "true" if values is None else values)
        elif values is None:
            setattr(namespace, self.dest, "false")
        else:
            parser.error(f"{option_string} takes no value")


class AppendToList(argparse.Action):
    """``--x a,b --x c`` is one list of three."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        so_far = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, so_far + read_list(values))


class HelpFormatter(argparse.HelpFormatter):
    """Shows one spelling of each option, and an option that can be negated with its negation."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        if isinstance(action, Switch):
            option = action.option_strings[0]
            return f"{option}, {_NEGATION}{option.removeprefix('--')}"
        return f"{action.option_strings[0]} {action.metavar}"


class OneLineParser(configargparse.ArgumentParser):  # type: ignore[misc]
    """Says what is wrong without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        if message.endswith(_NO_VALUE):
            option = message.removeprefix("argument ").removesuffix(_NO_VALUE).partition("/")[0]
            message = f"{option} needs a value; one that begins with - is given as {option}=-x"
        self.exit(2, f"{self.prog}: {without_passwords(message)}\n")
        raise AssertionError  # exit() does not return, which configargparse does not declare


def unknown_option(word: str, names: Iterable[str]) -> str:
    """Describe a word that is no option, without the value behind its ``=``."""
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    option = word.partition("=")[0]
    return f"unknown option {option}{did_you_mean(plain(option.lstrip('-')), names, option_of(''))}"
