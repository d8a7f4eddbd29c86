"""A service class works wherever it was written; its relative paths start there."""

import functools
import os
import runpy
import sys
import zipfile

import pytest

import gemstone_sync
from gemstone_sync.testing import ServiceClient

SOURCE = """
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "typed"

    @gemstone_sync.exposed_method()
    def greet(self, name: str) -> str:
        return "hello " + name
"""


def root_of(service_class):
    """Where its paths start, once it has answered."""
    service = service_class()
    assert ServiceClient(service).call("greet", "ada") == "hello ada"
    return service.app.root_path


def loaded(folder, monkeypatch):
    (folder / "loaded_service.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    import loaded_service

    return loaded_service.Service


@pytest.mark.parametrize(
    "namespace", [{}, {"__name__": "__main__"}, {"__name__": "nowhere"}, {"__file__": None}]
)
def test_given_to_exec_it_has_no_file_and_starts_at_the_working_directory(
    namespace, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)  # as at a prompt
    exec(compile(SOURCE, "<typed>", "exec"), namespace)
    assert root_of(namespace["Service"]) == str(tmp_path)


def test_made_by_type_it_starts_where_its_maker_is():
    method = gemstone_sync.exposed_method("greet")(lambda self, name: f"hello {name}")
    members = {"name": "made", "greet": method}
    made = type("Made", (gemstone_sync.MicroService,), members)
    assert root_of(made) == os.path.dirname(__file__)
    assert root_of(type("Made", (made,), {"__module__": "nowhere.at.all"})) == os.getcwd()
    assert root_of(type("Made", (made,), {"__module__": None})) == os.getcwd()


def test_its_module_need_not_be_there_any_more(tmp_path, monkeypatch):
    service_class = loaded(tmp_path, monkeypatch)
    del sys.modules["loaded_service"]
    assert root_of(service_class) == str(tmp_path)


def test_another_program_may_have_the_name_of_its_module(tmp_path):
    """As after one that was run as the main program. A library's decorator is no guide either."""
    decorated = SOURCE.replace("    @gemstone", "    @functools.lru_cache\n    @gemstone")
    assert decorated != SOURCE
    path = tmp_path / "run_service.py"
    path.write_text("import functools\n" + decorated)
    service_class = runpy.run_path(str(path), run_name="__main__")["Service"]
    assert service_class.__module__ == "__main__"
    assert root_of_undecorated(service_class) == str(tmp_path)


def root_of_undecorated(service_class):
    from gemstone_sync.service.class_file import folder_of

    @functools.wraps(service_class.greet)
    def wrapped(*arguments):
        return service_class.greet(*arguments)

    service_class.greet = wrapped
    return folder_of(service_class)


def test_in_a_zip_it_starts_where_the_zip_is(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as packed:
        packed.writestr("zipped_shop/zipped_service.py", SOURCE)
        packed.writestr("zipped_shop/__init__.py", "")
    monkeypatch.syspath_prepend(tmp_path / "app.pyz")
    from zipped_shop import zipped_service  # type: ignore[import-not-found]

    assert root_of(zipped_service.Service) == str(tmp_path)
    (tmp_path / "pages").mkdir()
    service = zipped_service.Service()
    service.static_dirs = [("/pages", "pages")]
    assert service.app.url_map.is_endpoint_expecting("static", "filename")


BASE = """
import gemstone_sync

class Base(gemstone_sync.MicroService):
    name = "base"
    template_dir = "pages"
    static_dirs = [("/static", "files")]

class Mixin:
    static_dirs = [("/static", "files")]
"""


@pytest.mark.parametrize(
    ("bases", "body", "pages", "files"),
    [
        ("Base", "pass", "there", {"/static": "there"}),
        ("Base", "template_dir = 'pages'", "here", {"/static": "there"}),
        (
            "Base",
            "static_dirs = [*Base.static_dirs, ('/own', 'files')]",
            "there",
            {"/static": "there", "/own": "here"},
        ),
        ("Base", "static_dirs = [('/static', 'files')]", "there", {"/static": "here"}),
        (
            "Base",
            "def __init__(self):\n"
            "        super().__init__()\n"
            "        self.static_dirs = [('/own', 'files')]\n"
            "        self.template_dir = 'pages'",
            "here",
            {"/own": "here"},
        ),
        ("Mixin, MicroService", "template_dir = 'pages'", "here", {"/static": "there"}),
    ],
    ids=["inherited", "template_dir", "more", "other", "by the object", "mixin"],
)
def test_directories_start_where_the_class_is_that_sets_them(
    bases, body, pages, files, tmp_path, monkeypatch
):
    for folder in ("here", "there"):
        for name in ("pages", "files"):
            (tmp_path / folder / name).mkdir(parents=True)
        monkeypatch.syspath_prepend(tmp_path / folder)
    (tmp_path / "there" / "base_service.py").write_text(BASE)
    (tmp_path / "here" / "own_service.py").write_text(
        "from base_service import Base, Mixin\nfrom gemstone_sync import MicroService\n"
        f"class Own({bases}):\n    name = 'own'\n    {body}\n"
    )
    import own_service  # type: ignore[import-not-found]

    try:
        app = own_service.Own().app
    finally:
        for module in ("own_service", "base_service"):
            sys.modules.pop(module)
    assert app.jinja_loader.searchpath == [str(tmp_path / pages / "pages")]
    served = [r.rule for r in app.url_map.iter_rules() if "<path:filename>" in r.rule]
    assert sorted(served) == sorted(f"{url}/<path:filename>" for url in files)
    for url, folder in files.items():
        (tmp_path / folder / "files" / "a.txt").write_text(folder)
        with app.test_client().get(f"{url}/a.txt") as reply:
            assert reply.text == folder
