"""``gemstone new``: a project from the template that comes with the package.

The template is a cookiecutter template and works without this command; what it asks, and what
answers are good, is told by its own files. This adds options and questions in place of
cookiecutter's, takes no notice of the user's cookiecutter settings, makes the project in one piece
or not at all, and has it take the package from where the running copy comes from: its
``pyproject.toml`` names a checkout, a wheel, git, or an index. ``cookiecutter
path/to/gemstone_sync/template`` makes the same, for an index.

The template's Python files end in ``.{{cookiecutter.__py}}``: pip would compile ``.py`` files, and
cookiecutter would then copy the compiled ones. Checkers leave them alone, too.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import shlex
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from ..broker_urls import without_passwords
from .options import require_extra

__all__ = ["command", "source"]

NAME = "gemstone_sync"

_ROOT = Path(__file__).resolve().parents[2]
_TEMPLATE = Path(__file__).parents[1] / "template"


@click.command("new")
@click.argument("name", required=False)
@click.option("--author", help="Who writes it.  [default: Me]")
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
def command(
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
    require_extra("new", "cookiecutter", "cookiecutter")
    given = {"name": name, "author": author, "version": version, "description": description}
    asks = not no_input and sys.stdin.isatty() and sys.stdout.isatty()
    answers = _answers(given, output, asks)
    project = output / answers["name"]
    try:
        url = source() or ""
    except ValueError as error:
        url = ""
        click.echo(f"The project will look for {NAME} in a package index: {error}.", err=True)
    _make({**answers, "__from": url}, project)
    _print_next_steps(answers["name"], project, url)


def _answers(given: Mapping[str, str | None], output: Path, asks: bool) -> dict[str, str]:
    """Answer each question: from the command line, from the user, or by the default."""
    # The checks are those of the template's hook, which is no module of any package.
    path = _TEMPLATE / "hooks" / "pre_gen_project.py"
    hook = types.ModuleType("gemstone_sync_template_hook")
    exec(compile(path.read_bytes(), path, "exec"), vars(hook))
    checks: Mapping[str, Callable[[str], None]] = hook.CHECKS
    for question, value in given.items():
        if value is not None:
            hint = "NAME" if question == "name" else f"--{question}"
            _check(checks[question], value, hint)
    if given["name"] is None and not asks:
        raise click.UsageError("NAME is missing: gemstone new NAME")
    defaults = json.loads((_TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    answers = {}
    for question, check in checks.items():
        value = given[question]
        if value is None:
            value = defaults[question]
            if asks:
                text = defaults["__prompts__"][question]
                value = click.prompt(text, value, value_proc=functools.partial(_check, check))
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


def _refuse_existing(project: Path) -> None:
    if os.path.lexists(project):
        raise click.UsageError(f"{project} exists already and is left as it is")


def _make(answers: Mapping[str, str], project: Path) -> None:
    """Make the project beside its place, and move it there when it is whole."""
    from cookiecutter.main import cookiecutter  # type: ignore[import-untyped]

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
                # Templates of Jinja's for exactly these texts: cookiecutter renders values, too.
                extra_context={name: "{{ " + ascii(text) + " }}" for name, text in answers.items()},
                output_dir=str(Path(folder, "made")),
                config_file=str(settings),
                accept_hooks=False,  # the answers are checked already
            )
            _refuse_existing(project)
            os.rename(made, project)
    except OSError as error:
        cause = error.__cause__ or error  # cookiecutter's own error says nothing of the reason
        reason = getattr(cause, "strerror", None) or error
        raise click.UsageError(
            f"cannot make {project}: {reason}; choose another --output"
        ) from None


def _print_next_steps(name: str, project: Path, url: str) -> None:
    path = str(project)
    if not project.is_absolute() and not path.startswith("."):
        path = f"./{path}"  # or pip would look for a package of that name
    shown = click.format_filename(path)
    from_where = f"{NAME} from {without_passwords(url)}, as its pyproject.toml says"
    needs = f" It needs {from_where}." if url else ""
    click.echo(f"Made {shown}.{needs} Next:")
    click.echo(f"  python -m pip install -e {shlex.quote(shown + '[test]')}")
    click.echo(f"  python -m pytest {shlex.quote(shown)}")
    click.echo(f"  {name} start --host=127.0.0.1 --port=8000")


# Where a project gets the package: a package index, or a direct reference (PEP 508), which is the
# checkout that runs, or what the copy was installed from (PEP 610).


def source() -> str | None:
    """Give the URL that stands behind ``gemstone_sync @``; None for a copy from a package index.

    :raises ValueError: for a copy whose source is not there any more.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if f"name = {NAME}" in (_ROOT / "setup.cfg").read_text("utf-8"):  # a checkout
            return _ROOT.as_uri()
    found = next(iter(importlib.metadata.distributions(name=NAME, path=[str(_ROOT)])), None)
    text = None if found is None else found.read_text("direct_url.json")
    if text is None:
        return None
    recorded = json.loads(text)
    url = str(recorded["url"])
    if (vcs := recorded.get("vcs_info")) is not None:
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if (folder := recorded.get("subdirectory")) is not None:
        url = f"{url}#subdirectory={folder}"
    if url.startswith("file:") and not Path(unquote(urlsplit(url).path)).exists():
        raise ValueError(f"it was installed from {url}, which is not there any more")
    return url
