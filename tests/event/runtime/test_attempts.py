"""What went wrong, in words that fit into a header, whatever the exception is."""

import asyncio
import contextlib
import logging
from typing import Any

import gevent
import pytest

from gemstone_sync.event.envelope import from_message, to_message
from gemstone_sync.event.runtime.attempts import last_traceback, shortened

from ..processing import Desk, Got, delivered, event, handler


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Unreadable(Exception):
    __cause__ = property(lambda self: 1 / 0)  # type: ignore[assignment]


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [OSError(), SystemExit(), asyncio.CancelledError(), GeneratorExit(), Stop()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_it_has_failed(error: BaseException):
    desk = delivered(event(), handler(Got(error), retries=0))
    assert desk.reason == ("failed", type(error).__name__)


@pytest.mark.parametrize("error", [gevent.GreenletExit(), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_greenlet_or_the_process_is_not_about_the_event(error: BaseException):
    desk = Desk(handler(Got(error), retries=0))
    with contextlib.suppress(KeyboardInterrupt):
        assert not desk.deliver(event())
    assert not desk.published


def test_whatever_the_error_says_its_dead_letter_fits_into_a_header(monkeypatch: Any):
    # pytest-xdist cannot send a log with half a character in it, nor logging write the Unreadable.
    monkeypatch.setattr(logging.getLogger("gemstone_sync.event"), "disabled", True)
    texts = ("\udcff is no text", "é" * 100_000, "\x00" * 100_000)
    for error in (*map(OSError, texts), Unprintable(), Exiting(), Unreadable("x")):
        desk = delivered(event(), handler(Got(error), retries=0))
        properties, headers = to_message(desk.letter)
        assert sum(len(str(value).encode()) for value in headers.values()) < 100_000
        assert from_message(b"1", properties, headers, "").dead == desk.death
    assert (desk.death.error, desk.death.traceback) == ("Unreadable: x", "Unreadable: x")


def test_a_text_keeps_its_first_2000_bytes_and_a_traceback_its_last_10000():
    assert shortened("x" * 2000) == "x" * 2000
    assert shortened("x" * 2001) == "x" * 1997 + "..."
    full = "x" * (10_000 - len("OSError: \n"))
    assert last_traceback(OSError(full)) == f"OSError: {full}\n"
    assert last_traceback(OSError(full + "x")) == "...\n" + f"OSError: {full}x\n"[-9996:]


def test_a_traceback_keeps_its_last_50_frames():
    functions: dict[str, Any] = {}
    exec("def odd(n): even(n - 1)\ndef even(n): odd(n - 1) if n else 1 / 0", functions)
    with pytest.raises(ZeroDivisionError) as caught:
        functions["even"](200)
    text = last_traceback(caught.value)
    assert (text.count("File "), "in test_a_traceback" in text) == (50, False)
    assert text.endswith("in even\nZeroDivisionError: division by zero\n")
