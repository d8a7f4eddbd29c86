"""TARGET and the options of the service after it: as arguments, and how shells complete them.

Files are read and not run: one that is imported may connect, start the service or not end, and
whoever presses Tab asks for none of it. So what is computed is not seen, for example settings that
are not written out as ``Configurable("name")``.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = ["TargetCommand", "target_arguments"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: How many folders deep services are looked for, and how many files are read: the working directory
#: may be anything.
_DEPTH = 3
_MOST_FILES = 1000


class TargetCommand(click.Command):
    """A command with a ``target``, after which stand options of the service."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, incomplete) + _complete_options(ctx, incomplete)


def target_arguments(function: _Function) -> _Function:
    """Give a command its ``target``, and the ``words`` after it, which are the service's."""
    words = click.argument(
        "words",
        metavar="[OPTIONS OF THE SERVICE]...",
        nargs=-1,
        type=click.UNPROCESSED,
        shell_complete=_complete_words,
    )
    return click.argument("target", shell_complete=_complete_target)(words(function))


def _complete_target(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The services in the working directory, as ``module:Class``; a path once it is one."""
    if os.sep in incomplete:
        return [CompletionItem(incomplete, type="file")]
    targets = [found.target for found in _services_in(Path.cwd()) if found.is_named]
    return [CompletionItem(target) for target in targets if target.startswith(incomplete)]


def _complete_words(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The value of the service's option that is the last of the context's ``words``."""
    words = ctx.params["words"] or [""]
    for option in _options(ctx.params["target"], ctx):
        if words[-1] in option.opts and not option.is_flag:
            return option.shell_complete(ctx, incomplete)
    return []


def _complete_options(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The options of the service that the context's ``target`` names."""
    if ctx.params.get("target") is None:
        return []
    return [
        CompletionItem(name, help=option.help)
        for option in _options(ctx.params["target"], ctx)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith(incomplete)
    ]


def _options(target: str, ctx: click.Context) -> list[click.Option]:
    """Those of every service, and those that the class adds."""
    from ..service import MicroService

    start = MicroService.get_cli().commands["start"]
    start.get_params(ctx)  # makes them; those returned include --help
    options = [param for param in start.params if isinstance(param, click.Option)]
    module, _, name = target.removeprefix(f".{os.sep}").partition(":")
    module = module.removesuffix(".py").replace(os.sep, ".")
    own = dict.fromkeys(
        setting
        for found in _services_in(Path.cwd())
        if found.module == module and name in ("", found.name)
        for setting in found.settings
    )
    known = {option.name for option in options}
    return options + [click.Option([f"--{setting}"]) for setting in own if setting not in known]


# What files say


class _Class(NamedTuple):
    """A class in a file.

    :ivar module: its dotted name from the working directory.
    :ivar bases: the names of its base classes, without their modules.
    :ivar settings: the names of its configurables.
    :ivar is_named: False for a base of other services.
    """

    module: str
    name: str
    bases: frozenset[str]
    settings: tuple[str, ...]
    is_named: bool

    @property
    def target(self) -> str:
        return f"{self.module}:{self.name}"


def _services_in(folder: Path) -> list[_Class]:
    """The services below a folder, with what they have from base classes that are there too."""
    paths = islice(_files(folder), _MOST_FILES)
    classes = [found for path in paths for found in _classes_in(path, folder)]
    services: list[_Class] = []
    known = {"MicroService"}
    while new := [each for each in classes if each.bases & known and each not in services]:
        services += new
        known |= {each.name for each in new}
    by_name = {each.name: each for each in services}
    return [_with_bases(each, by_name) for each in services]


def _with_bases(service: _Class, by_name: Mapping[str, _Class]) -> _Class:
    line = [service]
    for each in line:  # grows on the way
        line += [
            by_name[base]
            for base in sorted(each.bases & by_name.keys())
            if by_name[base] not in line
        ]
    return service._replace(
        settings=tuple(setting for each in line for setting in each.settings),
        is_named=any(each.is_named for each in line),
    )


def _files(folder: Path) -> Iterator[Path]:
    """Python files that can be imported from a folder, without tests."""
    for here, folders, files in os.walk(folder):
        is_deepest = len(Path(here).relative_to(folder).parts) == _DEPTH
        folders[:] = [] if is_deepest else sorted(filter(_is_wanted, folders))
        yield from (
            Path(here, file)
            for file in sorted(files)
            if file.endswith(".py") and _is_wanted(file[:-3])
        )


def _is_wanted(name: str) -> bool:
    return name.isidentifier() and not name.startswith(("test", "__pycache__"))


def _classes_in(path: Path, folder: Path) -> list[_Class]:
    parts = path.relative_to(folder).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        statements = ast.parse(path.read_text("utf-8")).body if module else []
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []
    return [
        _Class(
            module,
            each.name,
            frozenset(map(_last_name, each.bases)),
            tuple(_configurables_in(each.body)),
            any("name" in _targets_of(statement) for statement in each.body),
        )
        for each in statements
        if isinstance(each, ast.ClassDef) and each.bases
    ]


def _last_name(expression: ast.expr) -> str:
    """``MicroService`` of ``gemstone_sync.MicroService``."""
    return ast.unparse(expression).rpartition(".")[2]


def _targets_of(statement: ast.stmt) -> list[str]:
    """The names that an assignment sets."""
    if isinstance(statement, ast.Assign):
        return [ast.unparse(target) for target in statement.targets]
    return [ast.unparse(statement.target)] if isinstance(statement, ast.AnnAssign) else []


def _configurables_in(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if "configurables" not in _targets_of(statement):
            continue
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and _last_name(call.func) == "Configurable" and call.args:
                name = call.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield name.value
