"""What a hand-off in the middle costs, from logs of environments where it is a setting."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.envs import CollectConfig, Intervention, collect, household_tasks, make_household
from selfreg.estimate import Features, count, count_logs, handoff_costs

TASKS = household_tasks(12, 0, 1, ["place", "moved"])[0]


def logs(reading: int, steps: int | None = 1) -> list[Trajectory]:
    make = partial(make_household, interventions=[Intervention("owner", steps, reading=reading)])
    return list(collect(make, TASKS, CollectConfig(episodes_per_task=60, rates=(0.5,), workers=1)))


@pytest.mark.parametrize("reading", [0, 1, 3])
def test_the_setting_of_the_environment_is_found_again(reading: int) -> None:
    [cost] = handoff_costs(logs(reading))
    # In the states that succeed after all, reading costs a little less than its steps.
    assert reading - 0.45 < cost.actions.mean < reading + 0.15
    assert (cost.actions.low > 0) == (reading > 0)
    assert (cost.success.high < 0) == (reading == 3)
    assert min(cost.states, cost.early, cost.late) > 100


def test_logs_without_both_kinds_say_nothing() -> None:
    assert handoff_costs(logs(2, steps=None)) == []
    alone = [Trajectory("a", "0", 1.0, (Step("x"), Step("y")))]
    assert handoff_costs(alone) == []
    assert handoff_costs([]) == []


def test_episodes_are_compared_within_the_fields_that_are_named() -> None:
    """In each rate both kinds succeed alike; over all rates the late ones, at the lower rate, would seem worse."""
    found = []
    for task in "ab":
        for rate, won, lates in ((0.1, 0.0, 9), (0.9, 1.0, 1)):
            for i in range(10):
                first = None if i < lates else "help"
                steps = (Step("start", intervention=first), Step("same", intervention="help"))
                found.append(Trajectory(task, f"{task}{rate}{i}", won, steps, fields={"rate": rate}))
    by_step = Features(["step"])
    [within] = handoff_costs(found, by_step)
    assert within.success.mean == 0.0
    [over] = handoff_costs(found, by_step, within=())
    assert over.success.mean == pytest.approx(-0.8)


def test_who_acted_last_is_a_feature_of_the_state(tmp_path: Path) -> None:
    episode = Trajectory("t", "e", 1.0, (Step("a"), Step("b", intervention="owner"), Step("c")))
    features = Features(["step", "last_help"])
    assert [features.encode(episode, t) for t in range(3)] == [(0, "nobody"), (1, "nohelp"), (2, "owner")]
    rollout = Trajectory("t", "r", 1.0, (Step("b"),), fields={"branch_of": "e", "branch_step": 1})
    assert features.encode(rollout, 0) == (1, "nohelp")
    many = logs(2)[:100]
    write_trajectories(tmp_path / "log.jsonl", many)
    counted = count_logs(tmp_path / "log.jsonl", features, workers=1).counts
    assert set(counted.keys) == set(count(many, features).keys)
    assert {key[1] for key in counted.keys} == {"nobody", "nohelp", "owner"}


def test_a_rollout_that_begins_with_help_in_the_middle_is_a_late_hand_off() -> None:
    """The rollouts, whose help has to read, take 3 actions; help from the beginning takes 1 there."""
    found = []
    for task in "abc":
        for i in range(4):
            early = (Step("s", action="a", intervention="h"), Step("same", action="b", intervention="h"))
            found.append(Trajectory(task, f"{task}{i}", 1.0, early))
            late = (Step("same", action="read, read, b", intervention="h"),)
            where = {"branch_of": f"{task}{i}", "branch_step": 1}
            found.append(Trajectory(task, f"{task}{i} again", 1.0, late, fields=where))
    [cost] = handoff_costs(found, Features(["step"]))
    assert (cost.early, cost.late) == (12, 12)
    assert cost.actions.mean == 2.0
