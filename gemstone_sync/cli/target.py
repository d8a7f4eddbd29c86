"""Find the service that is meant by ``module:Class``, import it and make it.

A wrong name is one line with the names that come close. What the user's own code raises keeps its
traceback, without the frames of the command.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import pkgutil
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..concurrency import patch
from ..errors import UNSET, ServiceConfigurationError, ServiceStartError
from ..suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["Target", "make", "users_faults"]

_REFUSALS = (click.UsageError, ServiceConfigurationError, ServiceStartError)
#: Frames of files in here are not the user's: this package, and what imports modules.
_OURS = (str(Path(__file__).parents[1]) + os.sep, importlib.__file__, "<frozen importlib")


class Target(NamedTuple):
    """A service that was named as ``module:Class`` or ``folder/service.py:Class``.

    :ivar module: the dotted name to import.
    :ivar attribute: the name in the module; None for the only service that it has.
    :ivar folder: where its imports start.
    :ivar file: the file that was named; None when it was a module.
    """

    module: str
    attribute: str | None
    folder: Path
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Take the text apart. Nothing is imported.

        :raises click.UsageError: when it is none, or names a file that does not exist.

        >>> Target.parse("shop.orders:Orders")[:2]
        ('shop.orders', 'Orders')
        """
        name, colon, attribute = text.rpartition(":") if ":" in text else (text, "", "")
        is_file = name.endswith(".py") or os.sep in name
        is_module = all(part.isidentifier() for part in name.split("."))
        if (colon and not attribute.isidentifier()) or not (is_file or is_module):
            raise click.UsageError(f"{text!r} must be module:Class or file.py:Class")
        if is_file:
            return _of_file(Path(name), attribute or None)
        return cls(name, attribute or None, Path.cwd())


def make(text: str) -> MicroService:
    """Patch the process, import the module, and return its service.

    Of a class the one object that the module has made of it, which may have routes and other things
    of its own; otherwise a new one. The working directory comes first on ``sys.path``.

    :param text: ``module:Class``, ``module:object``, ``module`` when it has one service only, or a
        file: ``service.py:Class``, ``folder/service.py``.
    :raises click.UsageError: in one line, when there is no such module, file or service, or the
        class wants arguments.
    :raises ServiceConfigurationError: when the class is wrong, for example has no name.
    :raises SystemExit: with code 1, after the traceback, when the module or ``__init__`` fails.
    """
    patch()  # before anything of the user's is imported
    target = Target.parse(text)
    for folder in dict.fromkeys((str(Path.cwd()), str(target.folder))):
        sys.path.insert(0, folder)
    found = _find(_import(target), target.attribute)
    if not isinstance(found, type):
        return found
    from ..service.hosting import made_of

    made = made_of(found)
    if len(made) == 1:
        return made[0]
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise click.UsageError(
            f"{found.__qualname__} cannot be made without arguments ({error}): "
            "name an object of the module, module:object"
        ) from None
    with users_faults():
        service = found()
    for other in made:
        other.logger.warning("one more %s is not served: name it, module:object", other.name)
    return service


@contextlib.contextmanager
def users_faults(*passing: type[Exception]) -> Iterator[None]:
    """Show what the user's code raises as Python does, without our frames; exit code 1.

    :param passing: what is left as it is; when none is given, the refusals of a service, which name
        what is wrong with it.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, passing or _REFUSALS):
            raise
        raise _shown(error) from None


def _users_frames(error: Exception) -> types.TracebackType | None:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return frames


def _shown(error: Exception) -> SystemExit:
    # With no frame left it is a SyntaxError of the module itself, which says where it is.
    traceback.print_exception(type(error), error, _users_frames(error))
    return SystemExit(1)


def _of_file(path: Path, attribute: str | None) -> Target:
    if path.is_dir():
        raise click.UsageError(f"{path} is a directory: name a file in it, or a module")
    if not path.is_file():
        files = map(str, path.parent.glob("*.py"))
        raise click.UsageError(f"there is no file {path}{did_you_mean(str(path), files)}")
    path = path.resolve()
    names = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    # A file of a package is imported as part of it, so that its relative imports work.
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    if not names or not all(map(str.isidentifier, names)) or path.suffix != ".py":
        raise click.UsageError(f"{path} cannot be imported: its name must be like service.py")
    return Target(".".join(names), attribute, folder, path)


# Importing


def _import(target: Target) -> types.ModuleType:
    from ..service.program import running_refused

    try:
        # It would serve without the options given and, when stopped, be started again.
        with running_refused(
            lambda service: click.UsageError(
                f"the module {target.module} starts {service} while it is imported: put that below "
                'if __name__ == "__main__":'
            )
        ):
            module = importlib.import_module(target.module)
    except click.UsageError:
        raise
    except ModuleNotFoundError as error:
        # With a frame of the user's it is an import inside their module that failed.
        missing = error.name is not None and f"{target.module}.".startswith(f"{error.name}.")
        if not missing or _users_frames(error) is not None:
            raise _shown(error) from None
        raise click.UsageError(_no_module(target)) from None
    except Exception as error:
        raise _shown(error) from None
    origin = getattr(module, "__file__", None)
    if target.file is not None and (origin is None or not target.file.samefile(origin)):
        raise click.UsageError(
            f"{target.file.name} cannot be imported: Python has another module "
            f"{target.module}; rename the file"
        )
    return module


def _no_module(target: Target) -> str:
    """Say what is missing, and which of the modules in the working directory may be meant."""
    text = f"there is no module {target.module}"
    parent, _, last = target.module.rpartition(".")
    if target.attribute is None and parent in sys.modules:  # a dot where the colon belongs
        hint = did_you_mean(last, _services(sys.modules[parent]), f"{parent}:")
        if hint:
            return text + hint
    folder, right = target.folder, []
    for part in target.module.split("."):
        names = [found.name for found in pkgutil.iter_modules([str(folder)])]
        names += [p.name for p in folder.glob("*/") if p.is_dir() and p.name.isidentifier()]
        if part not in names:
            close = nearest(part, names)
            if close is None:
                return f"{text} in {target.folder} or in Python's path"
            part = close
        right.append(part)
        folder = folder / part
    attribute = "" if target.attribute is None else f":{target.attribute}"
    return f"{text}; did you mean {'.'.join(right)}{attribute}?"


# Finding the service in a module


def _find(module: types.ModuleType, attribute: str | None) -> MicroService | type[MicroService]:
    """:raises click.UsageError: when the module has no such service, or several that may be it."""
    if attribute is None:
        services = _services(module)
        if not services:
            raise click.UsageError(f"the module {module.__name__} has no MicroService")
        if len(services) > 1:
            choices = ", ".join(f"{module.__name__}:{name}" for name in services)
            raise click.UsageError(
                f"the module {module.__name__} has {len(services)} services; name one: {choices}"
            )
        return getattr(module, services[0])  # type: ignore[no-any-return]
    found = getattr(module, attribute, UNSET)
    if found is UNSET:
        services = _services(module)
        hint = did_you_mean(attribute, services) or did_you_mean(attribute, vars(module))
        if not hint and services:
            hint = "; its services: " + ", ".join(services)
        raise click.UsageError(f"the module {module.__name__} has no {attribute}{hint}")
    if not _is_service(found):
        hint = "; a function that makes one is not called" if inspect.isroutine(found) else ""
        raise click.UsageError(
            f"{module.__name__}:{attribute} is neither a MicroService class nor a "
            f"MicroService object{hint}"
        )
    return found  # type: ignore[no-any-return]


def _is_service(value: Any) -> bool:
    from ..service import MicroService

    return isinstance(value, MicroService) or _is_class(value)


def _is_class(value: Any) -> bool:
    from ..service import MicroService

    return isinstance(value, type) and issubclass(value, MicroService)


def _services(module: types.ModuleType) -> list[str]:
    """List the names of the services in a module that may be meant when none is named.

    Those of the first kind that it has: classes that it defines, objects, classes that it imports.
    """
    named = {name: v for name, v in vars(module).items() if not name.startswith("__")}
    classes = {name: v for name, v in named.items() if _is_class(v)}
    own = {name: v for name, v in classes.items() if v.__module__ == module.__name__}
    imported = {n: v for n, v in classes.items() if not v.__module__.startswith("gemstone_sync.")}
    objects = {name: v for name, v in named.items() if _is_service(v) and name not in classes}
    for group in (own, objects, imported):
        # A class without a name is a base of others; it counts when nothing else does.
        found = {name: v for name, v in group.items() if v.name} or group
        if found:
            # Each under the first of its names, in the module's order.
            return list({id(v): name for name, v in reversed(found.items())}.values())[::-1]
    return []
