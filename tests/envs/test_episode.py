"""Episodes: what is recorded, what decides chance, and that no budget is overspent."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision
from selfreg.envs import (
    AssistedEnvironment,
    BabyAIConfig,
    Environment,
    Expert,
    Intervention,
    RandomHelp,
    make_babyai,
    make_household,
    run_episode,
)
from selfreg.envs.babyai.environment import BabyAIEnvironment, DegradedBot

LEVEL = "BabyAI-UnlockPickup-v0"
TASK = f"{LEVEL}/5"


class RequestEvery:
    """Requests one help type whenever the number of steps is a multiple of `every`; records its arguments."""

    def __init__(self, name: str | None, every: int = 1) -> None:
        self.request = name
        self.every = every
        self.shown: list[tuple[Step, BudgetLeft]] = []

    def start(self, task: str, seed: int) -> None:
        self.shown = []

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        self.shown.append((steps[-1], budget_left))
        assert len(steps) == len(self.shown)
        return Decision(self.request or NOHELP) if len(steps) % self.every == 0 else Decision()


@pytest.fixture(scope="module")
def world() -> AssistedEnvironment:
    return make_babyai(BabyAIConfig())


@pytest.fixture(scope="module")
def dear_world() -> AssistedEnvironment:
    return AssistedEnvironment(
        BabyAIEnvironment(LEVEL, 28),
        DegradedBot(0.65, 0.02),
        [Intervention("short", 1, 1), Intervention("long", 5, 3)],
    )


def alone(world: AssistedEnvironment, seed: int) -> Trajectory:
    return run_episode(world, TASK, seed, RequestEvery(None))


def test_the_seed_decides(world: AssistedEnvironment) -> None:
    assert alone(world, 1) == alone(world, 1)
    assert alone(world, 1).steps != alone(world, 2).steps


def test_help_policies_share_the_agents_luck(world: AssistedEnvironment) -> None:
    """Up to the first help, two policies see the same episode, whatever chance they use themselves."""
    without = alone(world, 4).steps
    helped = run_episode(world, TASK, 4, RandomHelp(0.15, ["help"])).steps
    first = next(index for index, step in enumerate(helped) if step.intervention)
    assert first > 0
    assert helped[:first] == without[:first]
    assert helped[first].key == without[first].key


@pytest.mark.parametrize("budget", [0, 1, 2, 5, 9, None])
@pytest.mark.parametrize(("name", "price", "length"), [("short", 1, 1), ("long", 3, 5)])
def test_budget_is_never_overspent(
    dear_world: AssistedEnvironment, name: str, price: int, length: int, budget: int | None
) -> None:
    policy = RequestEvery(name, every=2)
    episode = run_episode(dear_world, TASK, 0, policy, budget)
    helped = [step for step in episode.steps if step.intervention]
    assert episode.cost == price * len(helped)
    assert all(step.action and len(step.action.split(", ")) <= length for step in helped)
    if budget is None:
        assert all(left is None for _, left in policy.shown)
        assert episode.fields["refused"] == 0
        return
    spent = [sum(step.charge for step in episode.steps[:index]) for index in range(len(episode.steps))]
    assert [left for _, left in policy.shown] == [(budget - before,) for before in spent]
    assert episode.cost <= budget
    assert episode.fields["refused"] == len(episode.steps) // 2 - len(helped)


def test_policy_sees_what_is_recorded(world: AssistedEnvironment) -> None:
    policy = RequestEvery("help", every=3)
    episode = run_episode(world, TASK, 7, policy, 2, "one")
    assert [(step.state, step.key) for step, _ in policy.shown] == [(step.state, step.key) for step in episode.steps]
    assert all(step.action is None and step.intervention is None for step, _ in policy.shown)
    assert [step.intervention for step in episode.steps[:7]] == [None, None, "help", None, None, "help", None]
    assert episode.episode == "one"
    assert episode.task == TASK
    assert episode.fields.items() >= {"seed": 7, "policy": "RequestEvery", "budget": 2}.items()
    assert episode.outcome in (0.0, 1.0)


def test_help_stops_where_the_episode_ends(dear_world: AssistedEnvironment) -> None:
    episode = run_episode(dear_world, TASK, 0, RequestEvery("long"))
    lengths = [len((step.action or "").split(", ")) for step in episode.steps]
    assert episode.outcome == 1.0
    assert set(lengths[:-1]) == {5}
    assert episode.steps[-1].action is not None
    assert episode.steps[-1].action.endswith("pickup")


def test_wrong_calls_are_refused(world: AssistedEnvironment) -> None:
    with pytest.raises(ValueError, match="'oracle' is unknown"):
        run_episode(world, TASK, 0, RequestEvery("oracle"), 0)
    with pytest.raises(ValueError, match="budget is -1"):
        run_episode(world, TASK, 0, RequestEvery(None), -1)
    alone(world, 0)
    with pytest.raises(ValueError, match="episode is over"):
        world.step()
    with pytest.raises(ValueError, match="share a name"):
        AssistedEnvironment(world.environment, world.policy, [Intervention(), Intervention(steps=2)])


class Beyond:
    def __init__(self, action: int) -> None:
        self.action = action

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        return self.action


@pytest.mark.parametrize("action", [-1, 12])
def test_actions_that_there_are_not_are_refused(action: int) -> None:
    world = make_household(interventions=[Intervention(helper=Beyond(action))], policy=Beyond(action))
    world.reset("household-place/3", 0)
    before = world.environment.key()
    for take in (world.step, lambda: world.step("help"), lambda: world.take(action)):
        with pytest.raises(ValueError, match=f"action is {action}; expected 0 to 11"):
            take()
    assert world.environment.key() == before


@pytest.mark.parametrize(
    "wrong",
    [{"name": "nohelp"}, {"name": ""}, {"steps": 0}, {"cost": -1}, {"steps": 1.5}, {"cost": 0.5}, {"helper": Expert}],
)
def test_impossible_help_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match="Intervention"):
        Intervention(**wrong)  # type: ignore[arg-type]


def test_costs_of_numpy_can_be_logged() -> None:
    world = make_household(interventions=[Intervention(cost=np.int64(2))])
    episode = run_episode(world, "household-place/3", 0, RequestEvery("help"), 4)
    assert json.loads(msgspec.json.encode(episode))["steps"][0]["cost"] == 2
