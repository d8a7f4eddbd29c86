"""Make the value of an attribute that may be set from outside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ..errors import UNSET, ServiceConfigurationError
from .redaction import MASK, SECRET_REFUSED, is_secret_name, redacted, without_passwords
from .setting_types import SettingType, as_text, brief
from .texts import text_of

__all__ = ["Configurable"]

_FROM_FILE = "file:/"


class Configurable:
    """A named value, and how to make it from what was found outside.

    :param name: the attribute of the service that it sets.
    :param template: called with the value found (from a command line: text); its result is set, and
        whatever it raises refuses the value. Without one the value is read by the attribute's type
        hint, or by the type of its default.
    :param secret: it is masked wherever it is shown; left out, when the last word of its name is
        password, token, secret, api_key or the like.
    :param help: what it is for, in a help text; left out, the ``#:`` comment above the attribute.

    >>> numbers = Configurable("numbers", template=lambda x: [int(y) for y in x.split(",")])
    >>> numbers.set_value("1,2,3")
    >>> numbers.get_final_value()
    [1, 2, 3]

    A text such as ``file:/run/secrets/token`` stands for what is in that file.
    """

    #: What the values are; set by the service from its attribute.
    setting_type: SettingType | None = None
    #: The value that counts when nothing is found.
    default: Any = UNSET

    def __init__(
        self,
        name: str,
        *,
        template: Callable[[Any], Any] | None = None,
        secret: bool | None = None,
        help: str | Callable[[], str] = "",
    ) -> None:
        self.name = name
        self.template = template
        self.secret = is_secret_name(name) if secret is None else secret
        self._help = help
        self._value: Any = UNSET

    def described(
        self, setting_type: SettingType, default: Any, help: str | Callable[[], str] = ""
    ) -> Configurable:
        """Return a copy that knows what the values are; `help` counts when this one has none."""
        other = copy.copy(self)
        other.setting_type, other.default = setting_type, default
        other._help = self._help or help
        return other

    def declared(self, template: Callable[[Any], Any] | None, secret: bool | None) -> Configurable:
        """Return a copy that knows what `setting` says of the same attribute.

        A secret stays one, whoever says so; a template of its own counts first.
        """
        other = copy.copy(self)
        other.template = self.template or template
        other.secret = self.secret or bool(secret)
        return other

    @property
    def help(self) -> str:
        """Return the help text."""
        return self._help if isinstance(self._help, str) else self._help()

    def set_value(self, value: Any) -> None:
        """Take the value that a configurator found."""
        self._value = value

    def get_final_value(self) -> Any:
        """Return the value to set; None when none was found.

        :raises ValueError: for a value that cannot be used, or a file that cannot be read. The text
            does not show a secret.
        """
        if self._value is UNSET:
            return None
        value = self._value
        if isinstance(value, list) and len(value) == 1 and _names_file(value[0]):
            value = value[0]  # of a list option, whose whole value is in the file
        if _names_file(value):
            value = _content_of(value.removeprefix("file:"))
        try:
            if self.template is not None:
                return self.template(value)
            return value if self.setting_type is None else self.setting_type.convert(value)
        except Exception as error:  # the user's template: it may raise anything for a wrong value
            if self.secret:
                raise ValueError(SECRET_REFUSED) from None
            raise ValueError(_complaint(value, error)) from error

    def takes(self, value: Any) -> bool:
        """Tell whether a value can be made of what was found."""
        trial = copy.copy(self)
        trial.set_value(value)
        try:
            trial.get_final_value()
        except ValueError:
            return False
        return True

    def shown(self, value: Any) -> str:
        """Write a value as one would give it; a secret is masked."""
        if value is None or value is UNSET:
            return "none"
        return MASK if self.secret else without_passwords(as_text(redacted(value)))

    def __repr__(self) -> str:
        return f"<Configurable name={self.name}>"


def _names_file(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_FROM_FILE)


def _complaint(value: Any, error: Exception) -> str:
    if isinstance(error, (ValueError, ServiceConfigurationError)) and str(error):
        return str(error)
    # Not meant for people: "'red'" is what a KeyError says.
    reason = ": ".join(part for part in (type(error).__name__, str(error)) if part)
    return f"cannot use {brief(value)} ({reason})"


def _content_of(path: str) -> str:
    """Read the text of a file, without the line's end.

    :raises ValueError: when it cannot be read.
    """
    try:
        return text_of(path).rstrip("\r\n")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
