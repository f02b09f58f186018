"""A helper's own runs as help."""

from __future__ import annotations

import pytest

from selfreg.data import Step, Trajectory, assume_takeover

RUNS = [Trajectory("t", f"e{i}", 1.0, (Step("a"),)) for i in range(3)]


def test_each_iteration_goes_through_the_runs_again() -> None:
    for runs in (RUNS, iter(RUNS)):
        assumed = assume_takeover(runs, "expert")
        assert len(assumed) == 3
        assert list(assumed) == list(assumed)
        assert [step.intervention for t in assumed for step in t.steps] == ["expert"] * 3


def test_arguments_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="help_type is 'nohelp'"):
        assume_takeover(RUNS, "nohelp")
    with pytest.raises(ValueError, match="cost is -1"):
        assume_takeover(RUNS, "expert", cost=-1)
