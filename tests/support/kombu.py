"""Some of kombu's own transports, each with messages of the test's own: URLs and options."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .redis import REDIS_URL, shared_redis

#: A URL, and transport options.
Place = tuple[str, dict[str, Any]]


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[Place]:
    yield "memory://", {}


@contextlib.contextmanager
def filesystem(folder: Path) -> Iterator[Place]:
    data, control = folder / "data", folder / "control"
    data.mkdir()
    yield (
        "filesystem://",
        {
            "data_folder_in": str(data),
            "data_folder_out": str(data),
            "control_folder": str(control),
        },
    )


@contextlib.contextmanager
def sqlalchemy(folder: Path) -> Iterator[Place]:
    yield f"sqlalchemy+sqlite:///{folder}/kombu.db", {}


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Place]:
    with shared_redis() as prefix:
        yield REDIS_URL, {"global_keyprefix": prefix}


PLACES: dict[str, Callable[[Path], contextlib.AbstractContextManager[Place]]] = {
    "memory": memory,
    "filesystem": filesystem,
    "sqlalchemy": sqlalchemy,
    "redis": redis,
}


def new_application() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"
