"""`selfreg decide`: one decision of a trained helper, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.runs import RunFolder


def command(
    run: options.RunArgument,
    budget_left: Annotated[str, typer.Option(help="Budget left; one number for each budget (2,1).")],
) -> None:
    """Read the text of a state from standard input and print the helper's decision."""
    with require_extra("ml", "selfreg decide"):
        from selfreg.helper import Helper
        from selfreg.prm import PRM
    folder = RunFolder.open(run)
    left = options.integers("--budget-left", budget_left)
    budgets = (left,) if isinstance(left, int) else left
    prm = PRM.load(folder.path / "prm") if folder.has("prm") else None
    helper = Helper.load(folder.need("helper", "train --part helper"), prm)
    state = sys.stdin.read().strip()
    if not state:
        raise ValueError("the state is empty; give its text on standard input")
    print(json.dumps(asdict(helper.decide([state], budgets))))
