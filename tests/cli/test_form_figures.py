"""`python -m benchmarks forms`: each form beside what it does, and what the choice of `auto` loses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import forms
from selfreg.helper.models import CANDIDATES, GAIN
from selfreg.helper.selection import FILLED


def test_the_loss_is_the_distance_to_the_best_form(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forms.main([str(demo_run), "--tasks", "2"])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| run")]
    gain = {row[1]: float(row[6]) for row in lines[1:] if len(row) == 7 and not row[1].startswith("auto")}
    assert [form for form in gain if not form.endswith(FILLED)] == [form for form in CANDIDATES if form != GAIN]
    assert len([form for form in gain if form.endswith(FILLED)]) == 1
    for row in lines[1 : 1 + len(gain)]:
        success, used = float(row[4]), float(row[5])
        assert 0.0 <= success <= 1.0
        assert 0.0 <= used <= 2.0
        assert float(row[6]) == pytest.approx(success - 0.02 * used, abs=1e-3)
    taken, loss = lines[-1][1].removeprefix("auto takes "), float(lines[-1][-1].removeprefix("loss "))
    assert loss == pytest.approx(max(gain.values()) - gain[taken], abs=2e-3)
