"""Forms of help: how long they last, who gives them, and that they are the same in every environment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from selfreg.data import Step
from selfreg.decisions import BudgetLeft, Decision
from selfreg.envs import (
    AssistedEnvironment,
    BabyAIConfig,
    CollectConfig,
    ErringHelper,
    Expert,
    FixedAction,
    Intervention,
    Situational,
    collect,
    make_babyai,
    make_household,
    run_episode,
)

BABYAI = "BabyAI-UnlockPickup-v0/5"
HOUSEHOLD = "household-moved/3"


def worlds(helps: Sequence[Intervention]) -> list[tuple[AssistedEnvironment, str]]:
    return [(make_household(interventions=helps), HOUSEHOLD), (make_babyai(BabyAIConfig(), helps), BABYAI)]


class RequestAt:
    """Requests one help type at one decision."""

    def __init__(self, name: str, step: int) -> None:
        self.request, self.step = name, step

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision(self.request) if len(steps) - 1 == self.step else Decision()


def test_help_lasts_one_step_k_steps_or_to_the_end() -> None:
    helps = [Intervention("one"), Intervention("four", steps=4), Intervention("latch", steps=None, cost=3)]
    for world, task in worlds(helps):
        for name, length in (("one", 1), ("four", 4)):
            episode = run_episode(world, task, 0, RequestAt(name, 2))
            assert [len((step.action or "").split(", ")) for step in episode.steps[:4]] == [1, 1, length, 1]
        episode = run_episode(world, task, 0, RequestAt("latch", 2))
        assert len(episode.steps) == 3
        assert episode.outcome == 1.0
        assert episode.cost == 3


def test_a_weaker_helper_errs_at_its_rate_and_is_worth_less() -> None:
    helps = [Intervention("expert", steps=None), Intervention("weak", steps=None, helper=ErringHelper(0.5))]
    for world, task in worlds(helps):
        success = {
            name: np.mean([run_episode(world, task, seed, RequestAt(name, 0)).outcome or 0.0 for seed in range(30)])
            for name in ("expert", "weak")
        }
        assert success["expert"] == 1.0
        assert success["weak"] < 0.9
    world, helper, generator = worlds(helps)[0][0], ErringHelper(0.5), np.random.default_rng(0)
    world.reset(HOUSEHOLD, 0)
    drawn = np.bincount([helper.act(world.environment, generator) for _ in range(4000)], minlength=12) / 4000
    np.testing.assert_allclose(drawn, helper.distribution(world.environment), atol=0.04)  # five standard errors


def test_helpers_do_not_use_up_the_agents_luck() -> None:
    """Two helpers that do the same leave the agent with the same luck, whatever they draw."""
    helps = [Intervention("expert"), Intervention("drawing", helper=ErringHelper(0.0))]
    for world, task in worlds(helps):
        one, other = (run_episode(world, task, 4, RequestAt(name, 1)) for name in ("expert", "drawing"))
        assert [step.action for step in one.steps] == [step.action for step in other.steps]
    again = run_episode(world, task, 4, RequestAt("drawing", 1))
    assert again == other


def test_help_misleads_only_where_it_is_said_to() -> None:
    misled = Situational("^In hand: (?!nothing)", FixedAction("wait"), Expert())
    world = make_household(interventions=[Intervention("help", helper=misled)])
    episode = run_episode(world, HOUSEHOLD, 0, RequestAlways())
    carrying = ["In hand: nothing" not in step.state for step in episode.steps]
    assert any(carrying)
    assert not all(carrying)
    assert [step.action == "wait" for step in episode.steps] == carrying
    assert episode.outcome == 0.0


class RequestAlways(RequestAt):
    def __init__(self) -> None:
        super().__init__("help", 0)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision(self.request)


def test_all_forms_are_collected_in_workers() -> None:
    helps = (
        Intervention("one"),
        Intervention("latch", steps=None, cost=3),
        Intervention("misled", helper=Situational("none", FixedAction("wait"), ErringHelper(0.2))),
    )
    config = CollectConfig(episodes_per_task=9, rates=(0.0, 0.4, 0.8), workers=2)
    episodes = list(collect(partial(make_household, None, helps), [HOUSEHOLD, "household-person/1"], config))
    assert len(episodes) == 18
    used = {step.intervention: step.charge for one in episodes for step in one.steps}
    assert used == {None: 0, "one": 1, "latch": 3, "misled": 1}
    assert all(one.steps[-1].intervention == "latch" for one in episodes if any(s.charge == 3 for s in one.steps))


def test_impossible_helpers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Intervention 'help' has helper=3"):
        Intervention(helper=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"error is 1\.2"):
        ErringHelper(1.2)
    with pytest.raises(ValueError, match=r"where is '\('"):
        Situational("(", Expert(), Expert())
    with pytest.raises(TypeError, match="elsewhere is 3"):
        Situational("x", Expert(), 3)  # type: ignore[arg-type]
    world = make_household(interventions=[Intervention(helper=FixedAction("toggle"))])
    world.reset(HOUSEHOLD, 0)
    with pytest.raises(ValueError, match="'toggle' is unknown"):
        world.step("help")


class RequestFrom:
    """Requests one help type at every decision from one on."""

    def __init__(self, name: str, step: int) -> None:
        self.request, self.step = name, step

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision(self.request) if len(steps) - 1 >= self.step else Decision()


def test_a_helper_reads_before_it_takes_over_in_the_middle() -> None:
    """Not at the beginning, and not where it acted just before; text and key tell the difference."""
    helps = [Intervention("reader", steps=2, reading=3), Intervention("knower", steps=2)]
    for world, task in worlds(helps):
        idle = world.environment.action_names[world.environment.idle_action]
        episode = run_episode(world, task, 0, RequestFrom("reader", 2))
        actions = [(step.action or "").split(", ") for step in episode.steps]
        assert [len(one) for one in actions[:4]] == [1, 1, 5, 2]
        assert actions[2][:3] == [idle] * 3
        assert [step.state.splitlines()[-1] for step in episode.steps[:4]] == [
            "Last to act: nobody.",
            "Last to act: the agent.",
            "Last to act: the agent.",
            "Last to act: reader.",
        ]
        early = run_episode(world, task, 0, RequestFrom("reader", 0))
        assert len((early.steps[0].action or "").split(", ")) == 2
        other = run_episode(world, task, 0, RequestFrom("knower", 2))
        assert len((other.steps[2].action or "").split(", ")) == 2
        assert other.steps[3].state.endswith("Last to act: the agent.")  # to a reader, another helper is as the agent


def test_reading_that_uses_up_the_steps_fails_the_task() -> None:
    helps = [Intervention("reader", steps=None, reading=50)]
    for world, task in worlds(helps):
        assert run_episode(world, task, 0, RequestAt("reader", 0)).outcome == 1.0
        late = run_episode(world, task, 0, RequestAt("reader", 1))
        assert late.outcome == 0.0
        assert len(late.steps) == 2


def test_without_reading_states_are_as_they_were() -> None:
    for world, task in worlds([Intervention("help")]):
        world.reset(task, 0)
        assert world.state() == Step(world.environment.text(), key=world.environment.key())


def test_reading_needs_an_action_that_does_nothing() -> None:
    world = make_household()
    world.environment.idle_action = None  # as one of somebody who knows nothing of it
    with pytest.raises(ValueError, match="'help' has reading, and HouseholdEnvironment has no idle_action"):
        AssistedEnvironment(world.environment, world.policy, [Intervention("help", reading=1)])
    with pytest.raises(ValueError, match="reading is -1"):
        Intervention("help", reading=-1)
