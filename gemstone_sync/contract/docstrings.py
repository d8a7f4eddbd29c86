"""Docstrings -> a summary, a description, and what they say of parameters and the result.

Sphinx, Google, NumPy and Epydoc styles, read by docstring_parser: it has no dependency and runs on
every Python that we support, which griffe does not. What follows no style is the description.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from .plain import clean_text

__all__ = ["Doc", "read_doc"]

#: Characters from which nobody wrote it for a reader, and parsing would take long.
_LONGEST = 100_000

#: What is told elsewhere: in the parameters, the result and the errors.
_TOLD = {
    "param",
    "parameter",
    "arg",
    "argument",
    "attribute",
    "key",
    "keyword",
    "returns",
    "return",
    "yields",
    "yield",
    "raises",
    "raise",
    "except",
    "exception",
}


#: Of a section in Google's style.
_HEADING = re.compile(r"(Args|Arguments|Params|Parameters|Returns|Yields|Raises):")


@dataclass(frozen=True)
class Doc:
    """The content of a docstring.

    :ivar summary: its first line.
    :ivar description: the rest, without what is said of parameters, result and errors.
    :ivar parameters: descriptions by name.
    """

    summary: str = ""
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    result: str = ""


def read_doc(text: str | None) -> Doc:
    """Read a docstring in whatever style it is.

    >>> read_doc("Greet somebody.\\n\\nLoudly.\\n\\n:param name: who")
    Doc(summary='Greet somebody.', description='Loudly.', parameters={'name': 'who'}, result='')
    """
    whole = clean_text(inspect.cleandoc(text or "")).strip()
    summary, _, rest = (part.strip() for part in whole.partition("\n"))
    plain = Doc(summary, rest)
    if len(whole) > _LONGEST or not (":" in whole or "---" in whole):
        return plain
    import docstring_parser  # 20 ms, for those only who ask for a contract

    try:
        parsed = docstring_parser.parse(_indented(whole))
    except Exception:  # ParseError, and whatever a text of others makes it raise
        return plain
    if not any(meta.args and meta.args[0] in _TOLD for meta in parsed.meta):
        return plain
    head = f"{parsed.short_description or ''}\n{parsed.long_description or ''}".strip()
    summary, _, rest = (part.strip() for part in head.partition("\n"))
    others = [
        f"{' '.join(meta.args).capitalize()}: {meta.description.strip()}"
        for meta in parsed.meta
        if meta.description and meta.args and meta.args[0] not in _TOLD
    ]
    returns = parsed.returns.description if parsed.returns is not None else ""
    return Doc(
        summary,
        "\n\n".join(filter(None, [rest, *others])),
        {
            name.strip(" *"): (each.description or "").strip()
            for each in parsed.params
            for name in each.arg_name.split(",")  # as NumPy's style has it
        },
        (returns or "").strip(),
    )


def _indented(text: str) -> str:
    """Indent what belongs to a heading in the first line: `cleandoc` has taken the margin."""
    heading, _, rest = text.partition("\n")
    if not _HEADING.fullmatch(heading):
        return text
    inside = rest if rest.startswith(" ") else textwrap.indent(rest, "    ")
    return f"\n{heading}\n{inside}"
