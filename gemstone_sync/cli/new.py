"""``gemstone new``: a project from the template that comes with the package.

The template is a cookiecutter template and works without this command; what answers are good is
told by its own hook. This adds options and questions in place of cookiecutter's, takes no notice of
the user's cookiecutter settings, makes the project in one piece or not at all, and has it take the
package from where the running copy comes from.

The template's Python files end in ``.{{cookiecutter.__py}}``: pip would compile ``.py`` files, and
cookiecutter would then copy the compiled ones. Checkers leave them alone, too.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from ..broker_urls import without_passwords
from .faults import USAGE, CommandFailed
from .source import NAME, source

__all__ = ["new"]

_TEMPLATE = Path(__file__).parents[1] / "template"


class _Question(NamedTuple):
    """One of the template's questions, as this command asks it."""

    text: str
    hint: str  # how a wrong answer is called when it was given in the command line


_QUESTIONS = {
    "name": _Question("Name", "NAME"),
    "author": _Question("Author", "--author"),
    "version": _Question("Version", "--version"),
    "description": _Question("Short description", "--description"),
}


@click.command()
@click.argument("name", required=False)
@click.option("--author", help="Who writes it.  [default: git's user.name, else Me]")
@click.option("--version", help="Its first version.  [default: 1.0]")
@click.option("--description", help="One line that says what it is for.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="The directory to make it in.  [default: the working directory]",
)
@click.option("--yes", "--no-input", "-y", "no_input", is_flag=True, help="Ask nothing.")
def new(
    name: str | None,
    author: str | None,
    version: str | None,
    description: str | None,
    output: Path,
    no_input: bool,
) -> None:
    """Make a new service: a directory NAME with code, tests and files for deployment.

    On a terminal it asks for what is not given; otherwise the defaults are taken. What exists is
    never overwritten.

    \b
    gemstone new myservice
    gemstone new shop-stock --author "Ada Lovelace" --description "What is left of it" --yes
    """
    try:
        import cookiecutter.main  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise CommandFailed(
            "cookiecutter is not installed: pip install 'gemstone_sync[new]'", USAGE
        ) from None
    given = {"name": name, "author": author, "version": version, "description": description}
    asks = not no_input and sys.stdin.isatty() and sys.stdout.isatty()
    answers = _answers(given, output, asks)
    project = output / answers["name"]
    url = _source()
    _make({**answers, "__from": url}, project)
    _tell(answers["name"], project, url)


def _answers(given: Mapping[str, str | None], output: Path, asks: bool) -> dict[str, str]:
    """An answer to each question: from the command line, from the user, or the default."""
    checks = _checks()
    for question, value in given.items():
        if value is not None:
            _check(checks[question], value, _QUESTIONS[question].hint)
    if given["name"] is None and not asks:
        raise click.UsageError("NAME is missing: gemstone new NAME")
    defaults = json.loads((_TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    answers = {}
    for question, check in checks.items():
        value = given[question]
        if value is None:
            value = defaults[question]
            if question == "author":
                value = _git_user(check) or value
            if asks:
                value = _ask(_QUESTIONS[question].text, value, check)
        answers[question] = value
        if question == "name":
            _refuse_existing(output / value)
    return answers


def _check(check: Callable[[str], None], value: str, hint: str | None = None) -> str:
    try:
        check(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None
    return value


def _ask(text: str, default: str, check: Callable[[str], None]) -> str:
    answer: str = click.prompt(text, default, value_proc=lambda value: _check(check, value))
    return answer


def _checks() -> Mapping[str, Callable[[str], None]]:
    """The checks of the template's hook, which is no module of any package."""
    path = _TEMPLATE / "hooks" / "pre_gen_project.py"
    hook = types.ModuleType("gemstone_sync_template_hook")
    exec(compile(path.read_bytes(), path, "exec"), vars(hook))
    checks: Mapping[str, Callable[[str], None]] = hook.CHECKS
    return checks


def _git_user(check: Callable[[str], None]) -> str | None:
    """The name that git signs commits with; None without git, or when it is no good."""
    import subprocess

    try:
        done = subprocess.run(
            ["git", "config", "--get", "user.name"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=5,
        )
        name = done.stdout.strip()
        check(name)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return name


def _refuse_existing(project: Path) -> None:
    if os.path.lexists(project):
        raise CommandFailed(f"{project} exists already and is left as it is", USAGE)


def _make(answers: Mapping[str, str], project: Path) -> None:
    """Make the project beside its place, and move it there when it is whole."""
    from cookiecutter.main import cookiecutter

    try:
        project.parent.mkdir(parents=True, exist_ok=True)
        # An absolute path: cookiecutter changes the working directory.
        beside = project.parent.absolute()
        with tempfile.TemporaryDirectory(prefix=".gemstone-new-", dir=beside) as folder:
            # A settings file of its own keeps cookiecutter from the user's settings, and from
            # writing into the home directory.
            settings = Path(folder, "settings.yaml")
            own = {name: str(Path(folder, name)) for name in ("replay_dir", "cookiecutters_dir")}
            settings.write_text(json.dumps(own), encoding="utf-8")
            made = cookiecutter(
                str(_TEMPLATE),
                no_input=True,
                extra_context={question: _literal(text) for question, text in answers.items()},
                output_dir=str(Path(folder, "made")),
                config_file=str(settings),
                accept_hooks=False,  # the answers are checked already
            )
            _refuse_existing(project)
            os.rename(made, project)
    except OSError as error:
        cause = error.__cause__ or error  # cookiecutter's own error says nothing of the reason
        reason = getattr(cause, "strerror", None) or error
        raise CommandFailed(
            f"cannot make {project}: {reason}; choose another --output", USAGE
        ) from None


def _literal(text: str) -> str:
    """A template of Jinja's for exactly this text: cookiecutter renders values as templates."""
    return "{{ " + ascii(text) + " }}"


def _source() -> str:
    """Where the project gets the package: a URL, or nothing for an index."""
    try:
        return source() or ""
    except ValueError as error:
        click.echo(f"The project will look for {NAME} in a package index: {error}.", err=True)
        return ""


def _tell(name: str, project: Path, url: str) -> None:
    path = str(project)
    if not project.is_absolute() and not path.startswith("."):
        path = f"./{path}"  # or pip would look for a package of that name
    shown = click.format_filename(path)
    needs = (
        f" It needs {NAME} from {without_passwords(url)}, as its pyproject.toml says."
        if url
        else ""
    )
    click.echo(f"Made {shown}.{needs} Next:")
    click.echo(f"  python -m pip install -e {shlex.quote(shown + '[test]')}")
    click.echo(f"  python -m pytest {shlex.quote(shown)}")
    click.echo(f"  {name} start --host=127.0.0.1 --port=8000")
