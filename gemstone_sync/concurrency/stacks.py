"""Write what all greenlets of the process do or wait for, those that are in one place together.

It may be asked in any thread, also while the hub is held: it waits for nothing and calls nothing of
the user's.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import gc
import linecache
import os
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import greenlet
from gevent import monkey
from gevent.hub import Hub

from .doing import Position, collector_paused, doing, frames_from, waiting

__all__ = ["awaited", "calling", "stacks"]

#: Frames of a stack that are shown, and different things that are named of a group.
_FRAMES, _NAMED = 40, 8

_GEVENT = os.path.dirname(str(sys.modules["gevent"].__file__)) + os.sep


class _Stack(NamedTuple):
    """A stack: whose it is, what it waits for, its frames, the outermost first."""

    kind: str
    waits_for: str
    frames: tuple[tuple[str, int, str], ...]


class _Group:
    def __init__(self) -> None:
        self.count = 0
        self.doing: collections.Counter[str] = collections.Counter()
        self.details: dict[str, None] = {}


def stacks() -> str:
    """Return a text for people: a part for each place, with how many greenlets are there.

    First what runs, then what waits, most first. Each line is free of control characters.
    """
    groups: dict[_Stack, _Group] = collections.defaultdict(_Group)
    mine = monkey.get_original("_thread", "get_ident")()
    names = {thread.ident: thread.name for thread in list(threading._active.values())}  # type: ignore[attr-defined]
    not_begun = count = 0
    with collector_paused():
        threads = sys._current_frames()
        for ident, frame in threads.items():
            if ident != mine:
                _add(groups, _kind_of_thread(frame, names.get(ident)), frame)
        for one in _greenlets():
            frame = one.gr_frame
            if frame is not None:
                count += 1
                _add(groups, "waits", frame)
            elif not one.dead and not one:
                not_begun += 1
    head = f"process {os.getpid()}: {count} greenlets wait, {not_begun} have not begun, "
    lines = [f"{head}{len(threads) - 1} other threads"]
    order = sorted(groups.items(), key=lambda item: (item[0].kind == "waits", -item[1].count))
    for stack, group in order:
        lines += ["", *_written(stack, group)]
    text = "\n".join(lines)
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text) + "\n"


def _greenlets() -> Iterable[Any]:
    """Yield those that are suspended. The type is asked, not the object: that might run code."""
    for one in gc.get_objects():
        kind = type(one)
        if issubclass(kind, greenlet.greenlet) and not issubclass(kind, Hub):
            yield one


def _kind_of_thread(frame: types.FrameType, name: str | None) -> str:
    if frame.f_code is Hub.run.__code__:
        return "thread, its hub waits for sockets and timers"
    return f"thread{'' if name is None else ' ' + name}, runs"


def _add(groups: dict[_Stack, _Group], kind: str, frame: types.FrameType) -> None:
    frames = [(f.f_code.co_filename, f.f_lineno or 0, f.f_code.co_name) for f in frames_from(frame)]
    waits_for, detail = awaited(frame) if kind == "waits" else ("", "")
    group = groups[_Stack(kind, waits_for, tuple(frames[:_FRAMES][::-1]))]
    group.count += 1
    if detail and len(group.details) < _NAMED:
        group.details[detail] = None
    if (what := doing(frame)) is not None:
        group.doing[str(what)] += 1


def awaited(frame: types.FrameType) -> tuple[str, str]:
    """Say what a greenlet waits for that was switched away from in this frame, and of which."""
    if (told := waiting(frame)) is not None:
        return told.what, ""
    code = frame.f_code
    if code.co_filename.startswith(_GEVENT):
        module = code.co_filename[len(_GEVENT) :].removesuffix(".py").lstrip("_")
        local = frame.f_locals
        if module in ("socket3", "socketcommon", "ssl"):
            return f"a socket ({code.co_name})", _peer(local.get("self"))
        if (module, code.co_name) == ("hub", "sleep"):
            return "time to pass", f"{local.get('seconds', 0):g} s"
        known = {"threadpool": "a native thread", "subprocess": "a program", "select": "files"}
        return known.get(module, f"{module} ({code.co_name})"), ""
    return calling(frame) or "something", ""


def _peer(sock: Any) -> str:
    with contextlib.suppress(Exception):
        peer = sock._sock.getpeername() if hasattr(sock, "_sock") else sock.getpeername()
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else repr(peer)
    return ""


def calling(frame: Position) -> str | None:
    """Return the call that a frame is in, as the source has it; None where that is not known."""
    text = _segment(frame)
    if text is None:
        return None
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _segment(frame: Position) -> str | None:
    code, line = frame.f_code, frame.f_lineno
    if line is None:
        return None
    positions: Callable[[], Any] | None = getattr(code, "co_positions", None)  # Python 3.11
    if positions is None:
        return linecache.getline(code.co_filename, line).strip() or None
    at = frame.f_lasti // 2
    found = next((p for number, p in enumerate(positions()) if number == at), None)
    if found is None or None in found:
        return linecache.getline(code.co_filename, line).strip() or None
    first, last, start, end = found
    lines = [linecache.getline(code.co_filename, n) for n in range(first, last + 1)]
    if not all(lines):
        return None
    encoded = [each.encode() for each in lines]
    encoded[-1] = encoded[-1][:end]
    encoded[0] = encoded[0][start:]
    text = b"".join(encoded).decode(errors="replace")
    with contextlib.suppress(SyntaxError, ValueError):
        body = ast.parse(textwrap.dedent(text), mode="eval").body
        return text if isinstance(body, (ast.Call, ast.Await)) else None
    return None


def _written(stack: _Stack, group: _Group) -> Iterable[str]:
    if stack.kind == "waits":
        whose = "1 greenlet waits" if group.count == 1 else f"{group.count} greenlets wait"
        details = f": {', '.join(group.details)}" if group.details else ""
        yield f"{whose} for {stack.waits_for}{details}"
    else:
        yield stack.kind if group.count == 1 else f"{group.count} x {stack.kind}"
    for what, count in group.doing.most_common(_NAMED):
        yield f"  in {what}" + ("" if count == 1 else f" x {count}")
    for path, line, name in stack.frames:
        yield f'    File "{path}", line {line}, in {name}'
