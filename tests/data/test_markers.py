"""Marks of help, and a helper's own runs as help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfreg.data import HelpMarks, LogFormat, ReadOptions, Step, Trajectory, assume_takeover
from selfreg.data.trajectory import LoggedStep

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


def steps(**facts: Any) -> LoggedStep:
    return LoggedStep("a state", **facts)


@pytest.mark.parametrize(
    ("step", "help_type"),
    [
        (steps(model="gpt-4o"), "strong"),
        (steps(model="gpt-3.5"), None),
        (steps(tools=("search", "escalate")), "person"),
        (steps(tools=("transfer_to_human_agents",)), "person"),
        (steps(role="helper", model="gpt-4o"), "expert"),
        (steps(decision="rejected", tools=("escalate",)), "reviewer"),
        (steps(intervention="logged", model="gpt-4o"), "logged"),
        (steps(), None),
    ],
)
def test_the_first_mark_that_fits_decides(step: LoggedStep, help_type: str | None) -> None:
    marks = HelpMarks({"rejected": "reviewer"}, {"esc*": "person"}, {"helper": "expert"}, {"gpt-4*": "strong"})
    marked = marks.mark_step(step)
    assert type(marked) is Step
    assert marked.intervention == help_type


def test_a_mark_can_be_switched_off() -> None:
    marks = HelpMarks(tools={"transfer_to_human_agents": "nohelp"})
    assert marks.mark_step(steps(tools=("transfer_to_human_agents",))).intervention is None


def test_marks_are_applied_to_what_readers_yield(tmp_path: Path) -> None:
    def read_lines(numbered: Any, options: ReadOptions) -> Any:
        for number, line in numbered:
            yield number, Trajectory("t", str(number), 1.0, (steps(model=line.decode().strip()),))

    models = LogFormat("models", "a model a line", read_lines=read_lines)
    log = tmp_path / "log.txt"
    log.write_text("weak\nstrong\n")
    options = ReadOptions(marks=HelpMarks(models={"strong": "help"}))
    assert [record.steps[0].intervention for _, record in models.read(log, options)] == [None, "help"]
    assert [record.steps[0].model for _, record in models.read(log, ReadOptions(marks=None))] == ["weak", "strong"]
