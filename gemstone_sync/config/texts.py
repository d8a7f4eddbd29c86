"""Reading the text of a file that holds settings, or one of them."""

from __future__ import annotations

__all__ = ["text_of"]

#: Bytes; what is longer is no configuration.
_MAX_SIZE = 1_000_000


def text_of(path: str) -> str:
    """Read the text of a file, as UTF-8, without a byte order mark.

    :raises ValueError: saying why it cannot be read, naming neither the file nor what is in it.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if len(text) > _MAX_SIZE:
        raise ValueError(f"is longer than {_MAX_SIZE} bytes")
    return text
