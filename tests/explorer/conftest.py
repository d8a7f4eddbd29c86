"""A browser for the tests of the page."""

import importlib.util

import pytest

from tests.support.machine import absent

from .browser import Browser, chromium


@pytest.fixture(scope="session")
def _browser():
    if chromium() is None:
        absent("chromium is not installed")
    if importlib.util.find_spec("playwright") is None:
        absent("playwright is not installed: pip install -e '.[test]'")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def walk(_browser, tmp_path):
    """``walk("finds_a_method", service)``: a person does it in Chromium; see `walks`."""

    def take(name, service, **told):
        url = told.pop("url", None) or service.url
        return _browser.walk(name, url, picture=tmp_path / "page.png", **told)

    return take
