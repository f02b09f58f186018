"""Guides are short: a page is read in a few minutes, and details have pages of their own."""

from __future__ import annotations

import re

import pytest
from page_runner import ROOT

DOCS = ROOT / "docs"
WORDS = 900
NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
# Pages that are looked up, not read: the section "Reference" of the site.
REFERENCE = set(re.findall(r"- ([\w/-]+\.md)", NAV.split("- Reference:")[1].split("- Explanation:")[0]))
GUIDES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("guide", [name for name in GUIDES if name not in REFERENCE])
def test_a_guide_has_at_most_900_words(guide) -> None:
    assert len((DOCS / guide).read_text(encoding="utf-8").split()) <= WORDS


def test_the_reference_is_of_tables() -> None:
    assert {"cli.md", "glossary.md"} <= REFERENCE
    for name in REFERENCE:
        text = (DOCS / name).read_text(encoding="utf-8")
        assert text.count("\n| ") >= 10, name


def test_lists_of_pages_name_pages() -> None:
    assert set(GUIDES) >= REFERENCE
