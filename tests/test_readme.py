"""The README's example prints what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)


def example_of(page: Path) -> tuple[str, str]:
    """The first Python example of a page, and what the page says that it prints."""
    code, printed = EXAMPLE.search(page.read_text()).groups()
    return code, printed


@pytest.mark.parametrize("page", ["README.md", "docs/budgets.md", "docs/prm.md"])
def test_example_prints_what_the_page_says(page) -> None:
    code, printed = example_of(README.parent / page)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=README.parent)
    assert done.stdout == printed


def test_library_example_is_short() -> None:
    assert len(example_of(README)[0].strip().splitlines()) <= 16


def test_every_path_that_is_named_exists() -> None:
    root = README.parent
    for path in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (root / path).exists(), path


def test_documented_pools() -> None:
    page = (README.parent / "docs" / "pools.md").read_text()
    examples = EXAMPLE.findall(page)
    assert len(examples) == 2
    for code, printed in examples:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stdout == printed


def test_documented_fit(tmp_path) -> None:
    root = README.parent
    page = (root / "docs" / "logs.md").read_text()
    shown = re.search(r"```\nselfreg (fit examples/tickets.*?)\n```.*?```\n(.*?)```", page, re.DOTALL)
    command, printed = shown.groups()
    command = command.replace("runs/tickets", str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-m", "selfreg", *command.split()], check=True, capture_output=True, text=True, cwd=root
    )
    # Then come the seconds and the path of the report.
    assert [line.rstrip() for line in done.stdout.splitlines()[:-2]] == printed.splitlines()


def test_the_example_log_is_what_its_script_writes() -> None:
    script = README.parent / "examples" / "make_tickets.py"
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    assert done.stdout == script.with_name("tickets.jsonl").read_text()


def test_library_example_of_sweeps() -> None:
    code, printed = example_of(README.parent / "docs" / "scale.md")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == printed


def test_documented_sweep_configuration_is_read(tmp_path) -> None:
    from selfreg.cli.sweep import read_config

    page = (README.parent / "docs" / "sweep-files.md").read_text()
    (tmp_path / "sweep.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL).group(1))
    config = read_config(tmp_path / "sweep.toml")
    assert config.grid is not None
    assert config.grid.cost == {"person": [1, 2, 3]}
