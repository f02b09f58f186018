"""Assumptions that the data force are found and named in the model."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg.data import Step, Trajectory, assume_takeover
from selfreg.estimate import Features, estimate_mdp
from selfreg.estimate.validity import handoff_notes

NEVER_SINGLE, NO_TAKEOVER = "help at every step or at none", "Help never follows a step without help"


def runs(kinds: str, n: int = 10, first: str = "go", prefix: str = "t") -> list[Trajectory]:
    """`n` tasks, each run with a step a letter: h helped, a alone."""
    steps = tuple(
        Step(first if i == 0 else "on", intervention="person" if kind == "h" else None) for i, kind in enumerate(kinds)
    )
    return [Trajectory(f"{prefix}{i}", f"{prefix}{i}{kinds}{first}", 1.0, steps) for i in range(n)]


def test_nothing_is_said_of_logs_with_hand_offs_on_the_same_tasks() -> None:
    assert handoff_notes(runs("aa") + runs("ah")) == []
    assert handoff_notes(runs("aa")) == []


def test_missing_hand_offs() -> None:
    [note] = handoff_notes(runs("aa") + runs("hh"))
    assert NEVER_SINGLE in note
    [note] = handoff_notes(runs("aa") + runs("ha"))
    assert NO_TAKEOVER in note


def test_an_episode_of_one_step_has_no_single_step_to_miss() -> None:
    assert handoff_notes(runs("a") + runs("h")) == []


def test_a_coin_a_step_is_no_difference_between_tasks() -> None:
    draw = np.random.default_rng(0).random
    coin = [t for i in range(60) for t in runs("".join("ah"[draw() < 0.5] for _ in range(4)), n=1, prefix=f"c{i}-")]
    assert handoff_notes(coin) == []
    hard = [t for i in range(30) for t in runs("hhah" if i % 2 else "hahh", n=1, prefix=f"h{i}-")] + runs("aaaa", n=30)
    [note] = handoff_notes(hard)  # help comes and goes, but only in some tasks
    assert note.startswith("30 of 30 tasks with help were never run without help")


def test_other_tasks_and_other_beginnings() -> None:
    [note] = handoff_notes(runs("aa") + runs("ah", prefix="u"))
    assert note.startswith("10 of 10 tasks with help were never run without help")
    [note] = handoff_notes(runs("aa") + runs("ah", first="Ask the expert where you need to."))
    assert note.startswith("In 10 of 10 tasks run with and without help, the two begin in different states")
    assert handoff_notes(runs("aa") + runs("ah") + runs("ah", n=1, prefix="u")) == []  # one in eleven


def test_the_order_of_keys_is_no_other_beginning() -> None:
    assert handoff_notes(runs("aa", first='{"a": 1, "b": 2}') + runs("ah", first='{"b": 2,"a": 1}')) == []


def test_the_model_carries_them() -> None:
    model = estimate_mdp(runs("aa") + runs("hh", prefix="u"), Features(["step"]))
    assert any(NEVER_SINGLE in note for note in model.notes)
    assert any("never run without help" in note for note in model.notes)


def test_runs_that_a_helper_did_alone_are_help_only_where_somebody_says_so() -> None:
    expert = runs("aa", prefix="u")
    assert estimate_mdp(runs("aa") + expert, Features(["step"])).mdp.actions == ("nohelp",)
    assumed = list(assume_takeover(expert, "expert", cost=2))
    model = estimate_mdp(runs("aa") + assumed, Features(["step"]))
    assert model.mdp.costs == {"expert": (2,)}
    assert model.notes == (
        "assume_takeover: the effect of 'expert' is that of 10 episodes that it ran alone from the start. That it does "
        "as well in the middle of the agent's runs is an assumption.",
    )
    with pytest.raises(ValueError, match="has help in it"):
        list(assume_takeover(assumed, "expert"))
    with pytest.raises(ValueError, match="help_type is 'nohelp'"):
        list(assume_takeover(expert, "nohelp"))
    with pytest.raises(ValueError, match="cost is -1"):
        list(assume_takeover(expert, "expert", cost=-1))
