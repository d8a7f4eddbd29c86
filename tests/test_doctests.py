"""The examples in the package's docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import gemstone_sync

#: Loaded only once psycopg2 is, which not every environment has.
WITHOUT = {"gemstone_sync.concurrency.cooperative_psycopg2"}

MODULES = sorted(
    {info.name for info in pkgutil.walk_packages(gemstone_sync.__path__, "gemstone_sync.")}
    - WITHOUT
)


def test_the_package_was_found():
    assert {"gemstone_sync.errors", "gemstone_sync.service.microservice"} <= set(MODULES)


@pytest.mark.parametrize("name", ["gemstone_sync", *MODULES])
def test_examples_of(name):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert outcome.failed == 0
