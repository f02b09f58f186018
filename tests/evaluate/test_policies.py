"""Baselines: when they request help, several budgets, and the registry with policies of other packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import selfreg
from selfreg.data import Step
from selfreg.envs import RandomHelp, make_household, run_episode
from selfreg.evaluate import Always, EveryN, LastK, Never
from selfreg.evaluate.policies import OPTIMUM, POLICIES, load_policy, policy_order

TASK = "household-moved/3"


@pytest.mark.parametrize(
    ("policy", "budget", "expected"),
    [
        (EveryN("help", 3), None, [3, 6, 9, 12]),
        (EveryN("help", 3), 2, [3, 6]),
        (EveryN("help", 1), 2, [1, 2]),
        (LastK("help", 2, 12), None, [11, 12]),
        (LastK("help", 2, 5), 2, [5 - 1, 5]),
        (LastK("help", 2, 5), None, list(range(4, 13))),
        (LastK("help", 9, 5), 0, []),
    ],
)
def test_help_comes_at_fixed_times(policy: EveryN | LastK, budget: int | None, expected: list[int]) -> None:
    decisions, left = [], budget
    for number in range(1, 13):
        decision = policy.decide([Step("x")] * number, None if left is None else (left,))
        if decision.requests_help:
            decisions.append(number)
            left = None if left is None else left - 1
    assert decisions == expected


def test_in_an_episode_they_keep_to_the_budget() -> None:
    world = make_household()
    for policy in (EveryN("help", 2), LastK("help", 3, 8)):
        episode = run_episode(world, TASK, 1, policy, 2)
        assert episode.cost <= 2
        assert episode.fields["policy"] == policy.name
        assert episode.fields["refused"] == 0


@pytest.mark.parametrize(("make", "name"), [(lambda: EveryN("help", 0), "n"), (lambda: LastK("help", 1, 0), "horizon")])
def test_impossible_times_are_refused(make, name: str) -> None:
    with pytest.raises(ValueError, match=rf"\.{name} is 0"):
        make()


@pytest.mark.parametrize("policy", [Always("help"), LastK("help", 1, 1), EveryN("help", 1)])
def test_a_unit_of_any_budget_is_enough_to_request(policy) -> None:
    actions = [policy.decide([Step("x")], left).action for left in ((0, 0), (0, 1), (1, 0), None)]
    assert actions == ["nohelp", "help", "help", "help"]
    assert Never().decide([Step("x")], (1, 1)).action == "nohelp"


def test_chance_of_help_is_shared_by_the_help_types() -> None:
    policy = RandomHelp(0.5, ["a", "b"])
    assert policy.action_probabilities([Step("x")], (1, 1)) == {"nohelp": 0.5, "a": 0.25, "b": 0.25}
    assert RandomHelp(0.0, []).action_probabilities([Step("x")], None) == {"nohelp": 1.0}


# ---- registry


def test_names_of_the_registry_are_unique_and_in_order() -> None:
    assert len({one.name for one in POLICIES}) == len(POLICIES)
    assert [one.order for one in POLICIES] == sorted(one.order for one in POLICIES)
    assert policy_order("plan, nearest where unseen") < policy_order("somebody's own") < policy_order(OPTIMUM)


MODULE = """
from selfreg.decisions import Decision

class AfterAnError:
    def __init__(self, help, every):
        self.help, self.every = help, every

    def decide(self, steps, budget_left):
        return Decision(self.help if len(steps) % self.every == 0 else "nohelp")

def make(setup, budget):
    return AfterAnError(setup.comparison.help, budget + 1)

def broken(setup, budget):
    return None
"""
ENTRY_POINTS = (
    "[selfreg.policies]\nafter-an-error = their_policy:make\nbroken = their_policy:broken\nnever = their_policy:make\n"
)
SCRIPT = """
import json
from selfreg.envs import make_household
from selfreg.evaluate import Never, PolicyComparison, run_closed_loop
from selfreg.evaluate.policies import load_policy

def policies(name="after-an-error"):
    comparison = PolicyComparison("help", (1, 2), 12, (), added=(name,))
    return [one for one in comparison.policies(None, Never()) if one.name == name]

if __name__ == "__main__":
    rows = run_closed_loop(make_household, policies, ["household-moved/3"], workers=2)
    errors = []
    for attempt in (lambda: load_policy("unknown"), lambda: load_policy("never"), lambda: policies("broken")):
        try:
            attempt()
        except (TypeError, ValueError) as error:
            errors.append(str(error))
    print(json.dumps([[[row.policy, row.budget, row.help] for row in rows], errors]))
"""


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """A folder with an installed package that has policies."""
    (tmp_path / "their_policy.py").write_text(MODULE, encoding="utf-8")
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    return tmp_path


def test_policies_of_other_packages_take_part(distribution: Path) -> None:
    script = distribution / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    paths = [str(distribution), str(Path(selfreg.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    rows, errors = json.loads(done.stdout)
    assert {(name, budget) for name, budget, _ in rows} == {("after-an-error", 1), ("after-an-error", 2)}
    assert all(0 < used <= budget for _, budget, used in rows)
    assert errors[0] == "unknown policy 'unknown'; entry points selfreg.policies: after-an-error, broken, never"
    assert errors[1] == "policy 'never' is one of selfreg's own; expected another name"
    assert errors[2] == "policy 'broken': their_policy:broken returned None; expected an object with decide()"


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="unknown policy 'nobody'; entry points selfreg"):
        load_policy("nobody")
