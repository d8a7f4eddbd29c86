"""Refuses answers that would not make a working project, before anything of it is written.

cookiecutter renders this file and runs it, with whatever Python it has: the standard library only.
``gemstone new`` imports it, unrendered, for `CHECKS`.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
_LONGEST_NAME = 63  # of a Kubernetes object, which is a DNS label (RFC 1123)

#: The part of PEP 440 that is good as the tag of an image, too.
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?")
_LONGEST_VERSION = 64

#: Packages and commands that the service itself and its tests need, and directories of the project.
_TAKEN = frozenset(
    """
    gemstone gemstone_sync
    amqp blinker certifi charset_normalizer click configargparse docstring_parser dotenv flask
    gevent greenlet gunicorn gunicornc httptools idna ipython itsdangerous jinja2 kombu markupsafe
    msgspec normalizer packaging prometheus_client pydantic python_dotenv pyyaml redis requests
    tomli typing_extensions urllib3 vine watchfiles werkzeug yaml zope
    exceptiongroup iniconfig pluggy py pygmentize pygments pytest
    activate cookiecutter pip pip3 pkg_resources python python3 ruff setuptools wheel
    build conftest deploy dist test tests
    """.split()  # noqa: SIM905
)

#: Commands and words of bash: what is typed after one never starts the service.
_OF_THE_SHELL = frozenset(
    """
    alias bg bind builtin caller case cd command compgen complete compopt coproc declare dirs disown
    do done echo enable esac eval exec exit export false fc fg fi function getopts hash help history
    jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly set shift shopt
    source suspend test then times trap true type typeset ulimit umask unalias unset until wait
    """.split()  # noqa: SIM905
)

# Control characters, lone surrogates, line and paragraph separators.
_NOT_IN_A_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name for a service: it is letters and digits, with single dashes or "
            "underscores between them, and starts with a letter"
        )
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a name has at most {_LONGEST_NAME} characters, not {len(name)}")
    package = name.lower().replace("-", "_")
    if keyword.iskeyword(package):
        raise ValueError(f"{name!r} is no name for a service: {package} is a word of Python's own")
    if package in sys.stdlib_module_names or package in _TAKEN:
        raise ValueError(
            f"{name!r} is no name for a service: its package would take the place of another "
            f"{package}"
        )
    if name in _OF_THE_SHELL:
        raise ValueError(f"{name!r} is no name for a service: its command would be the shell's own")


def _check_version(version: str) -> None:
    if len(version) > _LONGEST_VERSION or _VERSION.fullmatch(version) is None:
        raise ValueError(f"{version!r} is no version: write one like 1.0, 1.2.3 or 2.0rc1")


def _check_author(author: str) -> None:
    if not author.strip():
        raise ValueError("the author must not be empty")
    _check_line("author", author)


def _check_description(description: str) -> None:
    _check_line("description", description)


def _check_line(what: str, text: str) -> None:
    if any(unicodedata.category(character) in _NOT_IN_A_LINE for character in text):
        raise ValueError(f"the {what} must be one line of text, without control characters")


#: What raises a ValueError, with a line that says why, for each question; in the order to ask.
CHECKS: Mapping[str, Callable[[str], None]] = {
    "name": _check_name,
    "author": _check_author,
    "version": _check_version,
    "description": _check_description,
}


def main(answers: Mapping[str, str]) -> None:
    """End the process with one line when an answer is wrong."""
    try:
        for question, check in CHECKS.items():
            check(answers[question])
    except ValueError as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    # JSON within a string: what JSON escapes beyond U+FFFF means something else in Python.
    main(json.loads({{cookiecutter | tojson | tojson}}))  # type: ignore # noqa
