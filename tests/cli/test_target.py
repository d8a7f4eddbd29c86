"""What TARGET of ``gemstone run`` may be, and what is said of a wrong one."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .support import Done, environment, line_of, run

SERVICE = """
    import gemstone_sync
    class Hello(gemstone_sync.MicroService):
        name = "hello"
"""

FILES = {
    "service.py": SERVICE,
    "two.py": """
        from gemstone_sync import MicroService
        class Users(MicroService):
            name = "users"
        class Orders(MicroService):
            name = "orders"
        class Plain:
            pass
        def make_users():
            return Users()
        orders = Orders()
    """,
    "base.py": """
        from gemstone_sync import MicroService
        class Base(MicroService):
            pass
        class Shop(Base):
            name = "shop"
        again = Shop
    """,
    "objects.py": """
        from base import Shop
        shop = Shop()
        shop.name = "object"
    """,
    "imports.py": "from base import Shop\nfrom gemstone_sync import MicroService, ServiceRegistry",
    "empty.py": "from gemstone_sync import MicroService",
    "nameless.py": "import gemstone_sync\nclass Nameless(gemstone_sync.MicroService): pass",
    "wants.py": """
        import gemstone_sync
        class Wants(gemstone_sync.MicroService):
            name = "wants"
            def __init__(self, database):
                super().__init__()
    """,
    "silent.py": """
        import gemstone_sync
        class Silent(gemstone_sync.MicroService):
            name = "silent"
            configurators = [gemstone_sync.config.EnvironmentConfigurator()]
        class Skips(gemstone_sync.MicroService):
            name = "skips"
            skip_configuration = True
    """,
    "shadow/json.py": SERVICE,
    "two words.py": SERVICE,
    "shop/__init__.py": "",
    "shop/names.py": "NAME = 'packaged'",
    "shop/service.py": """
        import gemstone_sync
        from .names import NAME
        class Packaged(gemstone_sync.MicroService):
            name = NAME
    """,
    "inner/other.py": """
        import gemstone_sync, beside
        class Other(gemstone_sync.MicroService):
            name = beside.NAME
    """,
    "inner/beside.py": "NAME = 'beside'",
    "starts.py": SERVICE + "    Hello().start()",
    "starts_twice.py": "import starts",
    "runs.py": SERVICE + "    gemstone_sync.run(Hello())",
    "works.py": SERVICE + "    Hello().start(workers=2)",
    "helped.py": """
        import gemstone_sync
        class Aside(gemstone_sync.MicroService):
            name = "aside"
            port = 0
        aside = Aside()
        aside.start(block=False)
        aside.stop()
        class Helped(Aside):
            name = "helped"
    """,
    # What fails while it is imported or made
    "syntax.py": "import gemstone_sync\n\nclass Broken(\n",
    "missing.py": "import gemstone_sync\nimport nonesuch.deeper\n",
    "itself.py": "import itself.deeper\n",
    "loop/__init__.py": "import loop.inner\n",
    "fails.py": "def divide(x):\n    return 1 / x\n\ndivide(0)\n",
    "ends.py": "raise SystemExit(7)",
    "init.py": """
        import gemstone_sync
        class Init(gemstone_sync.MicroService):
            name = "init"
            def __init__(self):
                super().__init__()
                self.address = {}["address"]
    """,
    "hook.py": """
        import gemstone_sync
        class Hook(gemstone_sync.MicroService):
            name = "hook"
            def on_service_start(self):
                raise LookupError("no database")
    """,
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with services that are right and wrong."""
    folder = tmp_path_factory.mktemp("project")
    write(folder, FILES)
    return folder


# What TARGET may be: the help of a target ends with the options of the service that was meant.

TARGETS = {
    "service:Hello": "hello",
    "service": "hello",
    "two:Users": "users",
    "two:orders": "orders",
    "base": "shop",  # and not its base class, which has no name
    "objects": "object",
    "imports": "shop",
    "shop.service:Packaged": "packaged",
    "service.py": "hello",
    "./two.py:Orders": "orders",
    "shop/service.py": "packaged",
    "inner/other.py:Other": "beside",
    "helped:Helped": "helped",
}

#: Words, and the one line that is said of them, after ``gemstone run: ``; exit code 2.
WRONG = {
    "servce:Hello": "there is no module servce; did you mean service:Hello?",
    "shop.servise:Packaged": (
        "there is no module shop.servise; did you mean shop.service:Packaged?"
    ),
    "shpo.service": "there is no module shpo.service; did you mean shop.service?",
    "service.Hello": "there is no module service.Hello; did you mean service:Hello?",
    "qqqqq:Hello": "there is no module qqqqq in {cwd} or in Python's path",
    "service:Helo": "the module service has no Helo; did you mean Hello?",
    "service:hello": "the module service has no hello; did you mean Hello?",
    "two:Zzz": "the module two has no Zzz; its services: Users, Orders",
    "two": "the module two has 2 services; name one: two:Users, two:Orders",
    "two:Plain": "two:Plain is neither a MicroService class nor a MicroService object",
    "two:make_users": (
        "two:make_users is neither a MicroService class nor a MicroService object; "
        "a function that makes one is not called"
    ),
    "empty": "the module empty has no MicroService",
    "nameless": "Nameless has no name: set its `name` attribute",
    "wants": (
        "Wants cannot be made without arguments (missing a required argument: 'database'): "
        "name an object of the module, module:object"
    ),
    "servce.py:Hello": "there is no file servce.py; did you mean service.py?",
    "nowhere/service.py": "there is no file nowhere/service.py",
    "shop/": "shop is a directory: name a file in it, or a module",
    "starts:Hello": (
        "the module starts starts hello while it is imported: put that below if __name__ == "
        '"__main__":'
    ),
    "runs": (
        "the module runs starts hello while it is imported: put that below if __name__ == "
        '"__main__":'
    ),
    "works": (
        "the module works starts hello while it is imported: put that below if __name__ == "
        '"__main__":'
    ),
    "starts_twice": (
        "the module starts_twice starts hello while it is imported: put that below "
        'if __name__ == "__main__":'
    ),
    "shadow/json.py": (
        "json.py cannot be imported: Python has another module json; rename the file"
    ),
    "two words.py": "{cwd}/two words.py cannot be imported: its name must be like service.py",
    "service:": "'service:' must be module:Class or file.py:Class",
    "-": "'-' must be module:Class or file.py:Class",
    "--port 8000 service": (
        "--port before TARGET: options of the service come after it, "
        "gemstone run module:Class --port 8000"
    ),
    "": "Missing argument 'TARGET'.",
    "service --prt=8": "unknown option --prt; did you mean --port?",
    "service extra": "unexpected argument 'extra'",
    "silent:Silent --port=1": (
        "silent takes no options, because none of its configurators is a CommandLineConfigurator: "
        "--port"
    ),
    "silent:Skips --port 1": ("skips takes no options, because it has skip_configuration: --port"),
}


def words_of(text: str) -> list[str]:
    return [text] if text == "two words.py" else text.split()


#: Runs many command lines in children of one process, which has imported what takes a while.
MANY = """
import json, os, sys
import gemstone_sync.service
from gemstone_sync.cli.main import main

sys.argv[0] = "gemstone"
for number, words in enumerate(json.loads(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        for stream, suffix in ((1, "out"), (2, "err")):
            flags = os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(f"{sys.argv[2]}/{number}.{suffix}", flags), stream)
        try:
            main(words)
        except SystemExit as ended:
            sys.stdout.flush()
            os._exit(ended.code)
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def ended(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """How each of the commands above ended."""
    commands = {text: ["run", *words_of(text), "--help"] for text in TARGETS}
    commands |= {text: ["run", *words_of(text)] for text in WRONG}
    folder = tmp_path_factory.mktemp("output")
    done = subprocess.run(
        [sys.executable, "-c", MANY, json.dumps(list(commands.values())), str(folder)],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {
        text: Done(
            int(code),
            (folder / f"{number}.out").read_text(),
            (folder / f"{number}.err").read_text(),
        )
        for number, (text, code) in enumerate(zip(commands, done.stdout.split(), strict=True))
    }


@pytest.mark.parametrize(("target", "name"), TARGETS.items())
def test_the_service_that_is_meant(ended: dict[str, Done], target: str, name: str) -> None:
    code, stdout, stderr = ended[target]

    assert (code, stderr) == (0, "")
    assert re.findall(r"^Options of (.*):$", stdout, re.MULTILINE) == [name]


@pytest.mark.parametrize(("words", "said"), WRONG.items())
def test_what_is_said_of_a_wrong_command_line(
    ended: dict[str, Done], project: Path, words: str, said: str
) -> None:
    assert line_of(ended[words], 2) == "gemstone run: " + said.replace("{cwd}", str(project))


def test_the_executable_says_the_same(ended: dict[str, Done], project: Path) -> None:
    assert run("run", "service:Helo", cwd=project) == ended["service:Helo"]


def test_help_shows_the_options_of_the_command_and_of_the_service(
    ended: dict[str, Done],
) -> None:
    text = ended["service:Hello"].stdout

    assert text.startswith("Usage: gemstone run [--reload] TARGET")
    assert "usage:" not in text
    for option in ("--reload", "--config FILE", "--port N", "--workers N", "GEMSTONE_PORT"):
        assert option in text


def test_help_without_a_target_says_what_it_may_be(tmp_path: Path) -> None:
    done = run("run", "--help", cwd=tmp_path)

    assert (done.code, done.stderr) == (0, "")
    assert "module:Class" in done.stdout
    assert "Options of" not in done.stdout


# What fails in the user's own code

#: The last line of the traceback, and the files of its frames.
RAISED = {
    "syntax": ("SyntaxError: '(' was never closed", ["syntax.py"]),
    "missing:Service": ("ModuleNotFoundError: No module named 'nonesuch'", ["missing.py"]),
    "itself": (
        "ModuleNotFoundError: No module named 'itself.deeper'; 'itself' is not a package",
        ["itself.py"],
    ),
    # The module that is named, but missed by the user's own import of it.
    "loop.inner": ("ModuleNotFoundError: No module named 'loop.inner'", ["loop/__init__.py"]),
    "fails": ("ZeroDivisionError: division by zero", ["fails.py", "fails.py"]),
    "init": ("KeyError: 'address'", ["init.py"]),
}


@pytest.mark.parametrize("target", RAISED)
def test_what_a_module_raises_keeps_its_traceback_without_our_frames(
    project: Path, target: str
) -> None:
    last, files = RAISED[target]

    code, stdout, stderr = run("run", target, cwd=project)

    assert (code, stdout) == (1, "")
    assert stderr.splitlines()[-1] == last
    shown = re.findall(r'^ *File "(.*?)", line', stderr, re.MULTILINE)
    assert shown == [str(project / file) for file in files]


def test_a_start_hook_that_fails_ends_it(project: Path) -> None:
    code, _, stderr = run("run", "hook", "--port=0", cwd=project)

    assert code == 1
    assert stderr.splitlines()[-1] == "LookupError: no database"
    assert "gemstone_sync/cli" not in stderr
    assert "click" not in stderr


def test_a_module_that_ends_the_process_has_its_exit_code(project: Path) -> None:
    assert run("run", "ends", cwd=project) == (7, "", "")
