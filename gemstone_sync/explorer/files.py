"""The files of the explorer and of the status page, as a browser may cache them.

All but the pages themselves lie below a folder that is named by the hash of all of them: what is
there never changes, so it is never asked for again (RFC 8246).
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["HEADERS", "Answer", "Files"]

#: Nothing but the page's own files may run or be loaded, whatever text of a service it shows.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
#: To be asked again each time: another version may be there.
_ASK_AGAIN = "no-cache"
_NEVER_CHANGES = "public, max-age=31536000, immutable"
_FOLDER = Path(__file__).parent / "static"
#: The first module of a page, and what a module imports.
_FIRST = re.compile(r'src="[^"]*/([\w.]+)"')
_IMPORTED = re.compile(r' from "\./([\w.]+)"')


@dataclass(frozen=True)
class Answer:
    """A file as it is sent.

    :ivar tag: a strong validator of its content (RFC 9110, section 8.8.3).
    """

    body: bytes
    gzipped: bytes
    content_type: str
    cache_control: str
    tag: str


class Files:
    """The files of a page; read when first asked for.

    :param page: its name.
    :param place: the last part of the path that it is served at; empty when that ends with a slash.
    :param slash: what the endpoint's path ends with beyond the folder of the page: ``"/"``, or
        nothing. The page knows itself where it is, behind a proxy's prefix too.
    """

    def __init__(
        self,
        page: str = "index.html",
        place: str = "docs",
        *,
        slash: str = "",
        folder: Path = _FOLDER,
    ) -> None:
        self._page = page
        self._place = place
        self._slash = slash
        self._folder = folder

    @cached_property
    def _sources(self) -> dict[str, bytes]:
        paths = sorted(self._folder.iterdir())
        return {path.name: path.read_bytes() for path in paths if path.suffix in _TYPES}

    @cached_property
    def version(self) -> str:
        """The hash of all files; the name of their folder."""
        found = hashlib.sha256()
        for name, source in self._sources.items():
            found.update(b"%s %d\n" % (name.encode(), len(source)) + source)
        return found.hexdigest()[:16]

    @cached_property
    def page(self) -> Answer:
        """The page itself; it says nothing of the service."""
        text = self._sources[self._page].decode()
        folder = f"{self._place}/{self.version}" if self._place else self.version
        # All modules at once: a browser would find each only in one that it has.
        preload = "\n".join(
            f'<link rel="modulepreload" href="{folder}/{name}">' for name in self._modules(text)
        )
        text = text.replace("{preload}", preload)
        text = text.replace("{folder}", folder).replace("{slash}", self._slash)
        return _answer(self._page, text.encode(), _ASK_AGAIN)

    def _modules(self, page: str) -> list[str]:
        """List the modules that a page's first one needs."""
        first = _FIRST.findall(page)
        wanted, found = [*first], []
        while wanted:
            name = wanted.pop()
            found.append(name)
            imported = _IMPORTED.findall(self._sources[name].decode())
            wanted += [each for each in imported if each not in found and each not in wanted]
        return sorted(set(found) - {*first})

    @cached_property
    def _others(self) -> dict[str, Answer]:
        return {
            name: _answer(name, source, _NEVER_CHANGES)
            for name, source in self._sources.items()
            if not name.endswith(".html")
        }

    def file(self, version: str, name: str) -> Answer | None:
        """Return a file of the page; None when there is none, or not in this version."""
        return self._others.get(name) if version == self.version else None


def _answer(name: str, body: bytes, cache_control: str) -> Answer:
    return Answer(
        body=body,
        gzipped=gzip.compress(body, 9, mtime=0),
        content_type=f"{_TYPES[Path(name).suffix]}; charset=utf-8",
        cache_control=cache_control,
        tag=hashlib.sha256(body).hexdigest()[:32],
    )
