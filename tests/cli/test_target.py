"""What TARGET of ``gemstone run`` may be, and what is said of a wrong one."""

import re

import pytest

from tests.support.http import exchange, message

from .serving import serving
from .support import line_of, run, run_process

IMPORTS = "from gemstone_sync import MicroService, ServiceRegistry, config, run\n"


def service(name: str, body: str = "", base: str = "MicroService") -> str:
    """A class; its name has a capital."""
    return f"class {name.title()}({base}):\n    name = {name!r}\n{body}"


HELLO = IMPORTS + service("hello")

FILES = {
    "service.py": HELLO,
    "two.py": IMPORTS + service("users") + service("orders") + "class Plain: pass\n"
    "def make_users(): return Users()\norders = Orders()",
    "base.py": IMPORTS
    + "class Base(MicroService): pass\n"
    + service("shop", base="Base")
    + "again = Shop",
    "objects.py": "from base import Shop\nshop = Shop()\nshop.name = 'object'",
    "imports.py": IMPORTS + "from base import Shop",
    "empty.py": IMPORTS,
    "nameless.py": IMPORTS + "class Nameless(MicroService): pass",
    "wants.py": IMPORTS + service("wants", "    def __init__(self, database): pass"),
    "silent.py": IMPORTS
    + service("silent", "    configurators = [config.EnvironmentConfigurator()]\n")
    + service("skips", "    skip_configuration = True"),
    "shadow/json.py": HELLO,
    "two words.py": HELLO,
    "shop/__init__.py": "",
    "shop/names.py": "NAME = 'packaged'",
    "shop/service.py": IMPORTS
    + "from .names import NAME\n"
    + service("packaged", "    name = NAME"),
    "inner/other.py": IMPORTS + "import beside\n" + service("other", "    name = beside.NAME"),
    "inner/beside.py": "NAME = 'beside'",
    "starts.py": HELLO + "Hello().start()",
    "starts_twice.py": "import starts",
    "runs.py": HELLO + "run(Hello())",
    "works.py": HELLO + "Hello().start(workers=2)",
    "helped.py": IMPORTS
    + service("aside", "    port = 0\n")
    + "aside = Aside()\naside.start(block=False)\naside.stop()\n"
    + service("helped", base="Aside"),
    # What fails while it is imported or made
    "syntax.py": "import gemstone_sync\n\nclass Broken(\n",
    "missing.py": "import gemstone_sync\nimport nonesuch.deeper\n",
    "itself.py": "import itself.deeper\n",
    "loop/__init__.py": "import loop.inner\n",
    "fails.py": "def divide(x):\n    return 1 / x\n\ndivide(0)\n",
    "ends.py": "raise SystemExit(7)",
    "init.py": IMPORTS + service("init", "    def __init__(self): self.address = {}['address']"),
    "hook.py": IMPORTS
    + service("hook", "    def on_service_start(self): raise LookupError('no database')"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with services that are right and wrong."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
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
    **{
        target: f"the module {target.partition(':')[0]} starts hello while it is imported: "
        'put that below if __name__ == "__main__":'
        for target in ("starts:Hello", "runs", "works", "starts_twice")
    },
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


@pytest.mark.parametrize(("target", "name"), TARGETS.items())
def test_the_service_that_is_meant(project, target, name):
    code, stdout, stderr = run("run", target, "--help", cwd=project)

    assert (code, stderr) == (0, "")
    assert re.findall(r"^Options of (.*):$", stdout, re.MULTILINE) == [name]


@pytest.mark.parametrize(("words", "said"), WRONG.items())
def test_what_is_said_of_a_wrong_command_line(project, words, said):
    own = [words] if words == "two words.py" else words.split()

    line = line_of(run("run", *own, cwd=project), 2)
    assert line == "gemstone run: " + said.replace("{cwd}", str(project))


def test_help_shows_the_options_of_the_command_and_of_the_service(project):
    done = run_process("run", "service:Hello", "--help", cwd=project)

    assert done == run("run", "service:Hello", "--help", cwd=project)
    assert done.stdout.startswith("Usage: gemstone run [--reload] TARGET")
    assert "usage:" not in done.stdout
    for option in ("--reload", "--config FILE", "--port N", "--workers N", "GEMSTONE_PORT"):
        assert option in done.stdout


def test_help_without_a_target_says_what_it_may_be(tmp_path):
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
def test_what_a_module_raises_keeps_its_traceback_without_our_frames(project, target):
    last, files = RAISED[target]

    code, stdout, stderr = run("run", target, cwd=project)

    assert (code, stdout) == (1, "")
    assert stderr.splitlines()[-1] == last
    shown = re.findall(r'^ *File "(.*?)", line', stderr, re.MULTILINE)
    assert shown == [str(project / file) for file in files]


def test_a_start_hook_that_fails_ends_it(project):
    code, _, stderr = run("run", "hook", "--port=0", cwd=project)

    assert code == 1
    assert stderr.splitlines()[-1] == "LookupError: no database"
    assert "gemstone_sync/cli" not in stderr
    assert "click" not in stderr


def test_a_module_that_ends_the_process_has_its_exit_code(project):
    assert run("run", "ends", cwd=project) == (7, "", "")


APP = """
service = Hello()

@service.app.route("/more")
def more(): return "there is more"
"""
MADE = "def make():" + APP.replace("\n", "\n    ") + "\n    return service.app\napp = make()"
WANTS = "Hello.__init__ = lambda self, x: MicroService.__init__(self)\n" + APP.replace(
    "()", "(1)", 1
)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (APP, "own"),
        (APP, "own:Hello"),
        (APP, "own.py:Hello"),
        (MADE, "own"),
        (APP + "also = service\nHello()\n", "own"),
        (WANTS, "own"),
    ],
    ids=["module", "class", "file", "its app alone", "another thrown away", "with arguments"],
)
def test_the_one_object_that_the_module_has_made_is_served(tmp_path, text, target):
    (tmp_path / "own.py").write_text(HELLO + text)
    with serving(tmp_path, target, "--port", "0") as program:
        reply = exchange(program.wait_for_start(), message("GET", path="/more"))
    assert reply.body == b"there is more"


def test_objects_that_are_not_served_are_told(tmp_path):
    (tmp_path / "own.py").write_text(HELLO + "a = Hello()\nb = Hello()\n")
    with serving(tmp_path, "own", "--port", "0") as program:
        program.wait_for_start()
        said = "one more hello is not served: name it, module:object\n"
        assert program.stderr.count(said) == 2
