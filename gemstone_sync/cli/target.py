"""The service that is meant by ``module:Class``: found, imported and made.

A wrong name is one line with the names that come close. What the user's own code raises keeps its
traceback, without the frames of the command.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import pkgutil
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..concurrency import patch
from ..errors import UNSET, ServiceConfigurationError, ServiceStartError
from .faults import REFUSED, USAGE, CommandFailed

if TYPE_CHECKING:
    from ..service import MicroService

__all__ = ["Target", "load", "make", "users_faults"]

#: Frames of files in here are not the user's: this package, and what imports modules.
_OURS = (str(Path(__file__).parents[1]) + os.sep, importlib.__file__, "<frozen importlib")


class Target(NamedTuple):
    """What ``module:Class`` or ``folder/service.py:Class`` says.

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

        :raises CommandFailed: when it is none, or names a file that does not exist.

        >>> Target.parse("shop.orders:Orders")[:2]
        ('shop.orders', 'Orders')
        """
        name, colon, attribute = text.rpartition(":") if ":" in text else (text, "", "")
        if colon and not attribute.isidentifier():
            raise CommandFailed(f"{text!r} must be module:Class or file.py:Class", USAGE)
        if name.endswith(".py") or os.sep in name:
            return _of_file(Path(name), attribute or None)
        if not all(part.isidentifier() for part in name.split(".")):
            raise CommandFailed(f"{text!r} must be module:Class or file.py:Class", USAGE)
        return cls(name, attribute or None, Path.cwd())


def load(text: str) -> MicroService | type[MicroService]:
    """Patch the process, import the module, and find the service in it.

    The working directory comes first on ``sys.path``.

    :param text: ``module:Class``, ``module:object``, ``module`` when it has one service only, or a
        file: ``service.py:Class``, ``folder/service.py``.
    :raises CommandFailed: in one line, when there is no such module, file or service.
    :raises SystemExit: with code 1, after the traceback, when the module itself fails.
    """
    patch()  # before anything of the user's is imported
    target = Target.parse(text)
    for folder in dict.fromkeys((str(Path.cwd()), str(target.folder))):
        sys.path.insert(0, folder)
    module = _import(target)
    if target.attribute is None:
        return getattr(module, _only_service(module))  # type: ignore[no-any-return]
    found = getattr(module, target.attribute, UNSET)
    if found is UNSET:
        raise CommandFailed(_no_attribute(module, target.attribute), USAGE)
    if not _is_service(found):
        hint = "; a function that makes one is not called" if inspect.isroutine(found) else ""
        raise CommandFailed(
            f"{module.__name__}:{target.attribute} is neither a MicroService class nor a "
            f"MicroService object{hint}",
            USAGE,
        )
    return found  # type: ignore[no-any-return]


def make(text: str) -> MicroService:
    """Load a service as `load` does, and make an object of it when it is a class.

    Unless the module has made just one: that may have routes, and whatever else was added to it.

    :raises CommandFailed: as `load`, and when the class wants arguments.
    :raises ServiceConfigurationError: when the class is wrong, for example has no name.
    :raises SystemExit: with code 1, after the traceback, when its ``__init__`` fails.
    """
    found = load(text)
    if not isinstance(found, type):
        return found
    from ..service.hosting import made_of

    made = made_of(found)
    if len(made) == 1:
        return made[0]
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise CommandFailed(
            f"{found.__qualname__} cannot be made without arguments ({error}): "
            "name an object of the module, module:object",
            USAGE,
        ) from None
    with users_faults():
        service = found()
    for other in made:
        other.logger.warning("one more %s is not served: name it, module:object", other.name)
    return service


@contextlib.contextmanager
def users_faults() -> Iterator[None]:
    """Show what the user's code raises as Python does, without our frames; exit code 1.

    Refusals of a service, which name what is wrong with it, pass.
    """
    try:
        yield
    except (CommandFailed, ServiceConfigurationError, ServiceStartError):
        raise
    except Exception as error:
        raise _shown(error) from None


def _shown(error: Exception) -> SystemExit:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    # With no frame left it is a SyntaxError of the module itself, which says where it is.
    traceback.print_exception(type(error), error, frames)
    return SystemExit(REFUSED)


def _of_file(path: Path, attribute: str | None) -> Target:
    if path.is_dir():
        raise CommandFailed(f"{path} is a directory: name a file in it, or a module", USAGE)
    if not path.is_file():
        folder = path.parent
        files = [] if not folder.is_dir() else [str(p) for p in folder.iterdir() if _is_python(p)]
        raise CommandFailed(f"there is no file {path}{_did_you_mean(str(path), files)}", USAGE)
    path = path.resolve()
    names = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    # A file of a package is imported as part of it, so that its relative imports work.
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    if not names or not all(name.isidentifier() for name in names) or not _is_python(path):
        raise CommandFailed(f"{path} cannot be imported: its name must be like service.py", USAGE)
    return Target(".".join(names), attribute, folder, path)


def _is_python(path: Path) -> bool:
    return path.suffix == ".py"


# Importing


def _import(target: Target) -> types.ModuleType:
    from ..service.program import running_refused

    try:
        with running_refused(partial(_starts_too_early, target.module)):
            module = importlib.import_module(target.module)
    except CommandFailed:
        raise
    except ModuleNotFoundError as error:
        # With a frame of the user's it is an import inside their module that failed.
        missing = error.name is not None and f"{target.module}.".startswith(f"{error.name}.")
        if not missing or _has_users_frame(error.__traceback__):
            raise _shown(error) from None
        raise CommandFailed(_no_module(target), USAGE) from None
    except Exception as error:
        raise _shown(error) from None
    origin = getattr(module, "__file__", None)
    if target.file is not None and (origin is None or not target.file.samefile(origin)):
        raise CommandFailed(
            f"{target.file.name} cannot be imported: Python has another module "
            f"{target.module}; rename the file",
            USAGE,
        )
    return module


def _starts_too_early(module: str, service: str) -> CommandFailed:
    """It would serve without the options given and, once it is stopped, be started again."""
    return CommandFailed(
        f"the module {module} starts {service} while it is imported: put that below "
        'if __name__ == "__main__":',
        USAGE,
    )


def _has_users_frame(frames: types.TracebackType | None) -> bool:
    while frames is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(_OURS):
            return True
        frames = frames.tb_next
    return False


def _no_module(target: Target) -> str:
    """Say what is missing, and which of the modules in the working directory may be meant."""
    text = f"there is no module {target.module}"
    parent, _, last = target.module.rpartition(".")
    if target.attribute is None and parent in sys.modules:  # a dot where the colon belongs
        close = difflib.get_close_matches(last, _services(sys.modules[parent]), n=1)
        if close:
            return f"{text}; did you mean {parent}:{close[0]}?"
    folder, right = target.folder, []
    for part in target.module.split("."):
        names = [found.name for found in pkgutil.iter_modules([str(folder)])]
        names += [p.name for p in folder.glob("*/") if p.is_dir() and p.name.isidentifier()]
        if part not in names:
            close = difflib.get_close_matches(part, names, n=1)
            if not close:
                return f"{text} in {target.folder} or in Python's path"
            part = close[0]
        right.append(part)
        folder = folder / part
    attribute = "" if target.attribute is None else f":{target.attribute}"
    return f"{text}; did you mean {'.'.join(right)}{attribute}?"


# Finding the service in a module


def _is_service(value: Any) -> bool:
    from ..service import MicroService

    return isinstance(value, MicroService) or _is_class(value)


def _is_class(value: Any) -> bool:
    from ..service import MicroService

    return isinstance(value, type) and issubclass(value, MicroService)


def _services(module: types.ModuleType) -> list[str]:
    """The names of the services in a module that may be meant when none is named.

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


def _only_service(module: types.ModuleType) -> str:
    found = _services(module)
    if not found:
        raise CommandFailed(f"the module {module.__name__} has no MicroService", USAGE)
    if len(found) > 1:
        choices = ", ".join(f"{module.__name__}:{name}" for name in found)
        raise CommandFailed(
            f"the module {module.__name__} has {len(found)} services; name one: {choices}", USAGE
        )
    return found[0]


def _no_attribute(module: types.ModuleType, attribute: str) -> str:
    text = f"the module {module.__name__} has no {attribute}"
    services = _services(module)
    hint = _did_you_mean(attribute, services) or _did_you_mean(attribute, vars(module))
    if not hint and services:
        hint = "; its services: " + ", ".join(services)
    return text + hint


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    """``; did you mean X?`` for the name that comes closest, letters' case aside; or nothing."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""
