"""The page on environments: its example prints what it says, its figures are those of the world."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import selfreg
from selfreg.envs import BABYAI_LEVELS
from selfreg.envs.household import environment as household

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "environments.md").read_text()


@pytest.mark.parametrize("page", ["environments.md", "handoffs.md"])
def test_documented_example(page: str) -> None:
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", (DOCS / page).read_text(), re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == printed


def test_documented_levels() -> None:
    assert {name: int(limit) for name, limit in re.findall(r"\| (BabyAI-\S+) \| (\d+) \|", PAGE)} == BABYAI_LEVELS


def test_documented_optimum() -> None:
    (shown,) = re.findall(r"^\| person \|.*? \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", PAGE, re.MULTILINE)
    exact = [household.exact_model(f"household-person/{i}") for i in range(40)]
    values = sum(selfreg.solve(one.mdp, 4).value[one.start] for one in exact) / 40
    assert [float(number) for number in shown] == pytest.approx(values[[0, 1, 2, 4]], abs=6e-4)
