"""Every block of the tutorials and of pages about the library runs as printed, twice, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_runner import ROOT, prepare, read_blocks, run_blocks

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
# Python only; of one process each.
PAGES = [ROOT / "docs" / name for name in ("models.md", "rewards.md", "beside.md")]
# What a page needs beside the base install.
NEEDS = {"models.md": ("pandas", "gymnasium"), "rewards.md": ("gymnasium",), "production.md": ("sklearn",)}


def check_page(page: Path, folder: Path) -> None:
    for block, output in run_blocks(page, folder):
        if block.printed is None:
            continue
        if block.language == "python":
            assert output == block.printed, block.code
        else:  # a page shows the lines that matter
            missing = [line for line in block.printed.splitlines() if line not in map(str.rstrip, output.splitlines())]
            assert missing == [], f"{block.code}\nprinted\n{output}"


@pytest.mark.parametrize("page", [*TUTORIALS, *PAGES], ids=lambda page: page.stem)
def test_page_runs_as_printed_and_twice(page, tmp_path) -> None:
    for module in NEEDS.get(page.name, ()):
        pytest.importorskip(module)
    folder = prepare(tmp_path)
    check_page(page, folder)
    check_page(page, folder)


def test_every_python_block_is_one_that_is_run() -> None:
    for page in [*TUTORIALS, *PAGES]:
        text = page.read_text(encoding="utf-8")
        assert text.count("```bash") + text.count("```python") == len(read_blocks(page)), page.name
