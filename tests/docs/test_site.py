"""The site: complete, without broken links, and without a request to another host."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import selfreg

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")),
    reason="needs the extra docs",
)


class References(HTMLParser):
    """Links and resources of a page, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in {"script", "img", "link", "iframe"} and given.get("rel") != "canonical":
            self.resources += [given[name] for name in ("src", "href") if given.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` builds it: warnings are errors."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    out = tmp_path_factory.mktemp("site")
    sys.path.insert(0, str(ROOT / "tools"))
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=True))
    sys.path.remove(str(ROOT / "tools"))
    return out


@cache
def references(page: Path) -> References:
    parser = References()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def pages(site: Path) -> list[Path]:
    return [page for page in site.rglob("*.html") if page.name != "404.html"]


@pytest.mark.filterwarnings("ignore")
def test_links_and_anchors_lead_somewhere(site) -> None:
    broken = []
    for page in pages(site):
        for link in [*references(page).links, *references(page).resources]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
            if not target.exists():
                broken.append(f"{page.relative_to(site)}: {link}")
            elif parts.fragment and not parts.fragment.startswith("__") and target.suffix == ".html":
                anchors = references(target).anchors
                broken += [] if unquote(parts.fragment) in anchors else [f"{page.relative_to(site)}: {link}"]
    assert broken == []


@pytest.mark.filterwarnings("ignore")
def test_pages_load_nothing_from_other_hosts(site) -> None:
    for page in pages(site):
        outside = [one for one in references(page).resources if urlsplit(one).netloc]
        assert outside == [], page
    assert (site / "search" / "search_index.js").exists()  # search works from the disk


@pytest.mark.filterwarnings("ignore")
def test_every_guide_is_in_the_nav(site) -> None:
    linked = {urlsplit(link).path for link in references(site / "index.html").links}
    guides = [page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [guide for guide in guides if guide not in linked] == []


@pytest.mark.filterwarnings("ignore")
def test_every_public_name_is_in_the_reference(site) -> None:
    from selfreg import data, estimate, evaluate, helper, prm, runtime

    anchors = set().union(*(references(page).anchors for page in (site / "reference").glob("*.html")))
    short = {anchor.rsplit(".", 1)[-1] for anchor in anchors}
    for package in (selfreg, data, estimate, evaluate, helper, prm, runtime):
        assert [name for name in package.__all__ if name not in short] == [], package.__name__


@pytest.mark.filterwarnings("ignore")
def test_every_command_is_in_the_reference(site) -> None:
    from selfreg.cli.app import PANELS, PRM

    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    commands = [f"selfreg {name}" for panel in PANELS.values() for name in panel] + [
        f"selfreg prm {name}" for name in PRM
    ]
    assert [name for name in commands if not re.search(rf"<code>{re.escape(name)}</code>", text)] == []


def test_search_works_from_the_disk(site) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("no browser")
        page = browser.new_page()
        page.goto((site / "index.html").as_uri())
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("unrolled")
        page.locator(".md-search-result__item").first.wait_for(timeout=30_000)
        assert "unrolled" in page.locator(".md-search-result__list").inner_text()
        browser.close()
