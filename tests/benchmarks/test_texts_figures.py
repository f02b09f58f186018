"""What texts alone allow in Household: which houses look alike, and the value of policies in them."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from benchmarks.texts import BUDGET, SEEN_STEPS, Possible, TextModel, houses_like, of_task
from selfreg.envs import household_tasks, make_household
from selfreg.envs.household import environment as household
from selfreg.envs.household.house import KINDS, build
from selfreg.evaluate import Always, ComparedPolicy, run_closed_loop


def never(text, alone, paid):
    return np.zeros(BUDGET + 1, bool)


def always(text, alone, paid):
    return np.ones(BUDGET + 1, bool)


def _unseen(house):
    return house.hidden, house.route[:SEEN_STEPS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_house_itself_is_among_those_that_look_alike(kind: str) -> None:
    for number in range(30):
        house = build(kind, number)
        found = houses_like(house, KINDS)
        assert sum(one.chance for one in found) == pytest.approx(1.0)
        alike = [one.house for one in found]
        assert _unseen(house) in map(_unseen, alike)
        same = ("rooms", "doors", "thing", "person", "start", "mapped", "goal", "utterance")
        assert all(getattr(one, name) == getattr(house, name) for one in alike for name in same)


def test_chances_of_houses_are_those_of_the_draw() -> None:
    """If they are, the truth has a chance of sum(p^2) on average, whatever the text."""
    surprise = []
    for number in range(300):
        for kind in KINDS:
            house = build(kind, number)
            found = houses_like(house, KINDS)
            truth = [one.chance for one in found if _unseen(one.house) == _unseen(house)]
            surprise.append(sum(truth) - sum(one.chance**2 for one in found))
    for which in (surprise[0::3] + surprise[1::3], surprise[2::3]):  # people look different
        assert abs(np.mean(which)) < 3 * np.std(which) / np.sqrt(len(which))


@pytest.mark.parametrize("task", ["place/1", "moved/4", "person/2", "person/5"])
def test_with_one_house_left_the_optimum_is_the_exact_one(task: str) -> None:
    exact = household.exact_model(f"household-{task}")
    house = build(task.split("/")[0], int(task.split("/")[1]))
    model = TextModel(f"household-{task}", [Possible(1.0, house)])
    np.testing.assert_allclose(model.optimum(), selfreg.solve(exact.mdp, BUDGET).value[exact.start], atol=1e-12)


@pytest.mark.parametrize("number", [3, 8, 21])
def test_policies_without_decisions_have_the_mean_value_of_the_houses(number: int) -> None:
    task = f"household-moved/{number}"
    possible = houses_like(build("moved", number), KINDS)
    assert len(possible) > 1
    model, each = TextModel(task, possible), [TextModel(task, [one]) for one in possible]
    chances = [one.chance for one in possible]
    for policy in (never, always):
        mean = np.average([one.value(policy) for one in each], axis=0, weights=chances)
        np.testing.assert_allclose(model.value(policy), mean, atol=1e-12)
        assert (model.optimum() >= mean - 1e-12).all()
    assert (model.optimum() <= np.average([one.optimum() for one in each], axis=0, weights=chances) + 1e-12).all()


def test_values_are_those_of_episodes() -> None:
    tasks = household_tasks(80, 0, seed=5, kinds=["moved"])[0]
    told = np.array([of_task(task, ["moved"]).value(always)[1:] for task in tasks])
    policies = [ComparedPolicy("first-k", budget, Always("help")) for budget in (1, 2, 4)]
    rows = run_closed_loop(make_household, lambda: policies, tasks, episodes_per_task=2, workers=1)
    for budget in (1, 2, 4):
        seen = [row.success for row in rows if row.budget == budget]
        assert abs(np.mean(seen) - told[:, budget - 1].mean()) < 3 * np.std(seen) / np.sqrt(len(seen)) + 0.01
