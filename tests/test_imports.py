"""Which module imports which: no two lead to each other, not even for type checkers."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import gemstone_sync

ROOT = Path(gemstone_sync.__file__).parent


def modules() -> Iterator[tuple[str, Path]]:
    """The modules of the package; a package's own façade, `__init__`, is none."""
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if parts[-1] != "__init__" and not {"template", "first_line"} & {*parts}:
            yield ".".join(parts), path


def imported(module: str, path: Path) -> Iterator[str]:
    """What a module imports, wherever in it: for type checkers and in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{each.name}" for each in node.names)


def test_no_modules_import_each_other():
    files = dict(modules())
    imports = {name: {*imported(name, path)} & files.keys() for name, path in files.items()}
    assert sum(map(len, imports.values())) > 2 * len(files)  # they are found

    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which shows the circle


def private_of_services(path: Path) -> Iterator[str]:
    """Where a file reaches into a service: ``service._name``, ``self.service._name``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = getattr(node.value, "id", None) or getattr(node.value, "attr", None)
            if owner in ("service", "_service") and not node.attr.startswith("__"):
                yield f"{path.name}:{node.lineno}: {owner}.{node.attr}"


def test_nobody_but_the_service_itself_reaches_into_it():
    """What the parts of a service need is given to them, and what they do is public."""
    found = {name: [*private_of_services(path)] for name, path in modules()}
    assert found.pop("gemstone_sync.service.microservice")  # it gives its runner out of hand
    assert not any(found.values()), found
