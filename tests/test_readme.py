"""README.md: short enough to be read, its links lead somewhere, and its files are where it says."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "examples").glob("*/README.md"))]


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_it_has_at_most_500_lines():
    assert len(README.read_text().splitlines()) <= 500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text())
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors_of(target), (path, anchor)


def test_each_section_is_in_the_contents():
    text = README.read_text()
    contents = text.partition("## Install")[0]
    for anchor in anchors_of(README) - {"gemstone_sync"}:
        assert f"(#{anchor})" in contents, anchor


def test_the_architecture_names_files_that_are_there():
    section = README.read_text().partition("## Architecture")[2]
    names = set(re.findall(r"`(?:\w+/)*(\w+\.py)`", section))
    assert len(names) > 20
    there = {path.name for path in REPOSITORY.glob("gemstone_sync/**/*.py")}
    assert names - there - {path.name for path in REPOSITORY.glob("tests/**/*.py")} == set()


def test_the_glossary_has_at_most_30_entries():
    glossary = README.read_text().partition("## Glossary")[2].partition("\n## ")[0]
    assert 10 < len(re.findall(r"^\| ", glossary, re.MULTILINE)) - 1 <= 30
