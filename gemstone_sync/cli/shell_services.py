"""What ``s`` is in ``gemstone shell``: services by attribute, and their methods.

::

    s.greeter.say_hello("world")      greeter
    s.project_worker_1                project.worker.1; s.project.worker_1 is the same
    s["project.worker.1"]             by its exact name; with * or ? all that match

These classes are names: they ask nobody before they must, which is a `Directory`'s work. Their own
attributes start with an underscore: every other name is a service's or a method's.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..broker_urls import shown
from ..errors import GemstoneError
from .shell_directory import Directory, UnknownService, key_of, matching, unknown

if TYPE_CHECKING:
    from ..client import AsyncMethodCall, RemoteService

__all__ = ["Method", "Namespace", "Service", "Services", "identifier_of", "walk"]


def identifier_of(name: str) -> str:
    """A name as an attribute.

    >>> identifier_of("project.worker-1"), identifier_of("1st"), identifier_of("import")
    ('project_worker_1', '_1st', 'import_')
    """
    text = re.sub(r"\W", "_", name)
    if not text or text[0].isdigit():
        return f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) else text


def _children(prefix: str, names: Iterable[str]) -> list[str]:
    """What stands behind a prefix and a dot."""
    found = []
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts)):
            if key_of(".".join(parts[:count])) == prefix:
                found.append(".".join(parts[count:]))
                break
    return found


def _resolve(directory: Directory, path: str) -> Service | Namespace:
    """What attributes stand for, joined by underscores.

    :raises UnknownService: when there is no such service, or several are written alike.
    """
    key = key_of(path)
    if (given := _called(path, directory.given)) and len(given) == 1:
        return Service(directory, given[0])
    for renew in (False, True):
        places = directory.places(renew=renew)
        if places is None:
            return Service(directory, path)
        same = _called(path, places)
        if len(same) > 1:
            ways = " or ".join(f"s[{name!r}]" for name in sorted(same))
            raise UnknownService(f"{path} may be several services: write {ways}")
        if same:
            return Service(directory, same[0])
        if _children(key, places):
            return Namespace(directory, path)
    raise unknown(path, places or {})


def _called(path: str, names: Iterable[str]) -> list[str]:
    """The name itself, or those that are written so."""
    known = list(names)
    return [path] if path in known else [name for name in known if key_of(name) == key_of(path)]


class Services:
    """All services: ``s``."""

    __slots__ = ("_directory",)

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def __getattr__(self, name: str) -> Service | Namespace:
        if _is_of_python(name):
            raise AttributeError(name)
        return _resolve(self._directory, name)

    def __getitem__(self, name: str) -> Service:
        """By exact name, or pattern; whether there is one turns out when it is called."""
        if not isinstance(name, str):
            raise TypeError(f"the name of a service is a text, not {name!r}")
        for renew in () if name in self._directory.given else (False, True):
            places = self._directory.places(renew=renew)
            if places is None or matching(name, places):
                break
            if renew:
                raise unknown(name, places)
        return Service(self._directory, name, exact=True)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._directory.places() or ()))

    def __contains__(self, name: object) -> bool:
        return name in (self._directory.places() or ())

    def __len__(self) -> int:
        return len(self._directory.places() or ())

    def __dir__(self) -> list[str]:
        return sorted({identifier_of(name) for name in self._directory.known()})

    def _ipython_key_completions_(self) -> list[str]:
        return sorted(self._directory.known())

    def __repr__(self) -> str:
        names = ", ".join(sorted(self._directory.known()))
        return f"<services: {names or 'none is known'}>"


class Namespace:
    """The first words of the names of several services."""

    __slots__ = ("_directory", "_path")

    def __init__(self, directory: Directory, path: str) -> None:
        self._directory = directory
        self._path = path

    def __getattr__(self, name: str) -> Service | Namespace:
        if _is_of_python(name):
            raise AttributeError(name)
        return _resolve(self._directory, f"{self._path}_{name}")

    def __getitem__(self, name: str) -> Service | Namespace:
        return _resolve(self._directory, f"{self._path}_{name}")

    def __dir__(self) -> list[str]:
        children = _children(key_of(self._path), self._directory.known())
        return sorted({identifier_of(name) for name in children})

    def __repr__(self) -> str:
        return f"<services: {', '.join(f'{self._path}.{name}' for name in dir(self))}>"


class Service:
    """One service.

    :param exact: whether its attributes are methods only, and never services with a longer name.
    """

    __slots__ = ("_directory", "_exact", "_name")

    def __init__(self, directory: Directory, name: str, *, exact: bool = False) -> None:
        self._directory = directory
        self._name = name
        self._exact = exact

    def __getattr__(self, name: str) -> Method | Service | Namespace:
        if _is_of_python(name):
            raise AttributeError(name)
        for child in () if self._exact else _children(key_of(self._name), self._directory.known()):
            if key_of(child) == key_of(name) or key_of(child.partition(".")[0]) == key_of(name):
                return _resolve(self._directory, f"{self._name}_{name}")
        return Method(self._directory, self._name, name)

    def __getitem__(self, name: str) -> Method:
        return Method(self._directory, self._name, name)

    @property
    def _client(self) -> RemoteService:
        """The client, for what is not a plain call."""
        return self._directory.client_of(self._name)

    def __dir__(self) -> list[str]:
        methods = {name.partition(".")[0] for name in self._directory.methods_of(self._name)}
        children = [] if self._exact else _children(key_of(self._name), self._directory.known())
        return sorted({*methods, *map(identifier_of, children)})

    def _ipython_key_completions_(self) -> list[str]:
        return sorted(self._directory.methods_of(self._name))

    def __repr__(self) -> str:
        urls = self._directory.known().get(self._name, ())
        return f"<service {self._name}{' at ' if urls else ''}{', '.join(map(shown, urls))}>"


class Method:
    """A method of a service, or the first part of a dotted name."""

    __slots__ = ("_directory", "_method", "_service")

    def __init__(self, directory: Directory, service: str, method: str) -> None:
        self._directory = directory
        self._service = service
        self._method = method

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._directory.client_of(self._service).methods[self._method](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "async_":
            return self._in_background
        if _is_of_python(name):
            raise AttributeError(name)
        return Method(self._directory, self._service, f"{self._method}.{name}")

    def _in_background(self, /, *args: Any, **kwargs: Any) -> AsyncMethodCall:
        client = self._directory.client_of(self._service)
        return client.methods[self._method].async_(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        specs = self._directory.specs_of(self._service)
        told = [_text_in(specs.get(what), self._method) for what in ("signatures", "methods")]
        return "\n\n".join(text for text in told if text is not None) or None

    def __dir__(self) -> list[str]:
        start = f"{self._method}."
        methods = self._directory.methods_of(self._service)
        longer = [name[len(start) :] for name in methods if name.startswith(start)]
        return sorted({name.partition(".")[0] for name in longer})

    def __repr__(self) -> str:
        return f"<method {self._method} of {self._service}>"


def walk(root: object, path: Sequence[str]) -> object | None:
    """What attributes lead to, from one name to the next; None when it is something else.

    Nothing but names is looked at, so nothing is called.
    """
    found = root
    for name in path:
        if not isinstance(found, (Services, Namespace, Service, Method)):
            return None
        try:
            found = getattr(found, name)
        except (AttributeError, GemstoneError):
            return None
    return found if isinstance(found, (Services, Namespace, Service, Method)) else None


def _is_of_python(name: str) -> bool:
    """What Python, IPython and others look for in any object; ``_1`` is a service's."""
    return name.startswith("_") and not name[1:2].isdigit()


def _text_in(told: object, name: str) -> str | None:
    text = told.get(name) if isinstance(told, dict) else None
    return text if isinstance(text, str) and text else None
