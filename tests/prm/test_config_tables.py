"""The guides' tables of settings list exactly the fields of the configuration classes, with their defaults."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from selfreg.helper import HelperConfig
from selfreg.prm import PRMConfig

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "config"), [("prm-settings.md", PRMConfig), ("helper-settings.md", HelperConfig)])
def test_the_guide_lists_the_settings(page: str, config: Any) -> None:
    section = (DOCS / page).read_text(encoding="utf-8").split("## Settings\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", section, re.MULTILINE)
    expected = [(f.name, "none" if f.default is None else str(f.default)) for f in dataclasses.fields(config)]
    assert sorted((name, default) for name, default, _ in rows) == sorted(expected)
