"""A service whose methods are tools for agents: `mcp = True` is all that it takes."""

from __future__ import annotations

import dataclasses
import os

import gemstone_sync
from gemstone_sync import BearerTokenStrategy, exposed_method


@dataclasses.dataclass
class Note:
    """A note."""

    number: int
    text: str
    done: bool = False


class NoSuchNote(gemstone_sync.RpcError):
    code = 1001
    message = "There is no such note; list_notes has their numbers"


class Notes(gemstone_sync.MicroService):
    """Keeps notes. Numbers of notes never change."""

    name = "notes"
    version = "1.0.0"
    mcp = True
    validation_strategies = [BearerTokenStrategy()]

    def __init__(self) -> None:
        super().__init__()
        self._notes = {1: Note(1, "Water the plants")}

    def authenticate_request(self, handler: gemstone_sync.JsonRpcHandler) -> bool:
        token = os.environ.get("NOTES_TOKEN")
        return token is not None and handler.api_token == token

    @exposed_method(read_only=True)
    def list_notes(self, done: bool | None = None) -> list[Note]:
        """List the notes.

        :param done: only those that are done, or only those that are not.
        """
        return [note for note in self._notes.values() if done is None or note.done == done]

    @exposed_method(destructive=False)
    def add_note(self, text: str) -> Note:
        """Write a note down."""
        number = max(self._notes, default=0) + 1
        self._notes[number] = Note(number, text)
        return self._notes[number]

    @exposed_method(idempotent=True, destructive=False, errors=[NoSuchNote])
    def finish_note(self, number: int) -> Note:
        """Mark a note as done."""
        if number not in self._notes:
            raise NoSuchNote()
        self._notes[number].done = True
        return self._notes[number]

    @exposed_method(private=True, destructive=True)
    def clear(self) -> int:
        """Throw all notes away, and say how many there were."""
        count = len(self._notes)
        self._notes.clear()
        return count

    @exposed_method(mcp=False)
    def reload(self) -> None:
        """Read the notes again; this is for people."""


if __name__ == "__main__":
    Notes().start()
