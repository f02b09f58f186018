"""The BabyAI world: its keys, its text, its expert, its weak agent, and what it refuses."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from selfreg.envs import AssistedEnvironment, BabyAIConfig, make_babyai, split_tasks
from selfreg.envs.babyai.environment import BabyAIEnvironment, DegradedBot

LEVEL = "BabyAI-UnlockPickup-v0"
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)


def environment(task: int = 0, level: str = LEVEL, step_limit: int = 28, clock: int = 1) -> BabyAIEnvironment:
    world = BabyAIEnvironment(level, step_limit, clock)
    world.reset(f"{level}/{task}")
    return world


def follow_expert(world: BabyAIEnvironment) -> list[int]:
    actions = []
    while not world.done:
        actions.append(world.expert_action())
        world.step(actions[-1])
    return actions


def test_expert_solves_the_default_level_in_time() -> None:
    config = BabyAIConfig()
    world = environment(step_limit=config.step_limit)
    outcomes = []
    for task in split_tasks(config, 100, 0, seed=3)[0]:
        world.reset(task)
        follow_expert(world)
        outcomes.append(world.outcome)
    assert np.mean(np.array(outcomes, dtype=float)) >= 0.95


@pytest.mark.parametrize("level", ["BabyAI-GoToSeqS5R2-v0", "BabyAI-PutNextLocal-v0", "BabyAI-BlockedUnlockPickup-v0"])
def test_expert_recovers_from_a_strangers_moves(level: str) -> None:
    solved = []
    for task in range(10):
        world = environment(task, level, step_limit=150)
        generator = np.random.default_rng(task)
        for _ in range(10):
            if not world.done:
                world.step(int(generator.integers(3)))
        follow_expert(world)
        solved.append(world.outcome)
    assert solved == [1.0] * 10


def test_out_of_steps_is_failure() -> None:
    world = environment(step_limit=5)
    for _ in range(5):
        assert world.outcome is None
        world.step(DONE)
    assert world.done
    assert world.outcome == 0.0


def test_replayed_actions_give_the_same_keys_and_a_moved_agent_another() -> None:
    keys = []
    world = environment()
    for _ in range(2):
        world.reset(f"{LEVEL}/0")
        keys.append([world.key()])
        for action in (LEFT, LEFT, FORWARD, RIGHT):
            world.step(action)
            keys[-1].append(world.key())
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 5
    assert environment(1).key() != keys[0][0]


@pytest.mark.parametrize("level", [LEVEL, "BabyAI-PutNextLocalS5N3-v0", "BabyAI-SynthSeq-v0", "BabyAI-OpenTwoDoors-v0"])
def test_equal_keys_have_equal_futures(level: str) -> None:
    """Where the clock never strikes, a key decides text and advice, and with the action the next key."""
    world = environment(level=level, step_limit=60, clock=60)
    now: dict[str, tuple[str, int]] = {}
    following: dict[tuple[str, int], str] = {}
    again = 0
    for seed in range(32):
        world.reset(f"{level}/1")
        generator = np.random.default_rng(seed)
        for _ in range(59):
            key = world.key()
            again += key in now
            assert now.setdefault(key, (world.text(), world.expert_action())) == (world.text(), world.expert_action())
            action = int(generator.integers(6)) if generator.random() < 0.5 else world.expert_action()
            world.step(action)
            after = f"outcome {world.outcome}" if world.done else world.key()
            assert following.setdefault((key, action), after) == after
            if world.done:
                break
    assert again > 80


def test_clock_joins_states_that_differ_in_a_few_steps() -> None:
    coarse, exact = environment(clock=4), environment(clock=1)
    texts = set()
    for world in (coarse, exact):
        keys = [world.key()]
        for _ in range(4):
            texts.add(world.text().splitlines()[1])
            world.step(DONE)
            keys.append(world.key())
        assert len(set(keys)) == (2 if world is coarse else 5)
    assert texts == {"Steps left: 25 to 28.", *(f"Steps left: {left}." for left in (25, 26, 27, 28))}


def test_text_tells_mission_hand_front_and_what_was_seen() -> None:
    world = environment(3)
    assert world.text().splitlines() == [
        "Mission: pick up the blue box.",
        "Steps left: 28.",
        "Carrying: nothing.",
        "In front: nothing.",
        "Seen: green key 2 right; locked green door 3 ahead 3 right.",
    ]
    texts = []
    while not world.done:
        texts.append(world.text())
        world.step(world.expert_action())
    assert any("In front: green key." in text for text in texts)
    assert any("Carrying: green key.\nIn front: locked green door." in text for text in texts)
    assert any("Standing in a doorway." in text for text in texts)
    assert "In front: blue box." in texts[-1]


def test_texts_of_different_states_of_a_task_differ() -> None:
    world = environment()
    texts = [world.text()]
    for action in (LEFT, FORWARD):
        world.step(action)
        texts.append(world.text().replace(f"Steps left: {28 - len(texts)}", "Steps left: 28"))
    assert len(set(texts)) == 3


def test_lost_expert_does_nothing() -> None:
    """The bot gives up once a box was opened; the episode goes on to its limit."""
    world = environment(3, step_limit=40)
    while "In front: blue box." not in world.text():
        world.step(world.expert_action())
    world.step(TOGGLE)
    assert world.expert_action() == DONE
    assert set(follow_expert(world)) == {DONE}
    assert world.outcome == 0.0


@pytest.mark.parametrize(("fumble", "slip"), [(0.9, 0.0), (0.0, 0.9)])
def test_weak_agent_errs_where_its_config_says(fumble: float, slip: float) -> None:
    agent, generator = DegradedBot(fumble, slip), np.random.default_rng(0)
    world = environment()
    rates: dict[bool, list[bool]] = {True: [], False: []}
    while not world.done:
        wanted = world.expert_action()
        rates[wanted in (PICKUP, DROP, TOGGLE)] += [agent.act(world, generator) != wanted for _ in range(100)]
        world.step(wanted)
    assert all(
        0.5 < np.mean(rates[handling]) < 1 if rate else not any(rates[handling])
        for handling, rate in ((True, fumble), (False, slip))
    )


def test_help_is_worth_more_than_going_alone() -> None:
    world = make_babyai(BabyAIConfig())
    success = {name: np.mean([run(world, task, name) for task in range(30)]) for name in (None, "help")}
    assert success[None] < 0.6
    assert success["help"] >= 0.95


def run(world: AssistedEnvironment, task: int, intervention: str | None) -> float:
    world.reset(f"{LEVEL}/{task}", seed=task)
    while not world.done:
        world.step(intervention)
    assert world.outcome is not None
    return world.outcome


@pytest.mark.parametrize(
    "level",
    [
        "BabyAI-KeyInBox-v0",
        "BabyAI-PutNextS5N2Carrying-v0",
        "BabyAI-OpenDoorsOrderN4Debug-v0",
        "BabyAI-UnlockToUnlock-v0",
        "BabyAI-NoSuchLevel-v0",
        "CartPole-v1",
    ],
)
def test_levels_without_an_expert_are_refused(level: str) -> None:
    with pytest.raises(ValueError, match=level):
        make_babyai(BabyAIConfig(level=level))


@pytest.mark.parametrize("task", ["BabyAI-Unlock-v0/3", f"{LEVEL}/x", f"{LEVEL}/-1", LEVEL, "3"])
def test_foreign_tasks_are_refused(task: str) -> None:
    with pytest.raises(ValueError, match=task):
        environment().reset(task)


@pytest.mark.parametrize(
    ("name", "value"), [("step_limit", 0), ("help_steps", 0), ("clock", 0), ("fumble", 1.5), ("slip", -0.1)]
)
def test_config_names_the_field_at_fault(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"BabyAIConfig\.{name} is {value}"):
        BabyAIConfig(**{name: value})  # type: ignore[arg-type]


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(ImportError, match=r"selfreg\[envs\]"):
        make_babyai(BabyAIConfig())


def test_generation_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    world = BabyAIEnvironment("BabyAI-PutNextLocal-v0", 28)
    for task in range(40):
        world.reset(f"BabyAI-PutNextLocal-v0/{task}")
    assert capfd.readouterr().out == ""


def test_split_is_disjoint_and_follows_the_seed() -> None:
    train, test = split_tasks(BabyAIConfig(), 60, 100, seed=1)
    assert (len(train), len(test), len({*train, *test})) == (60, 100, 160)
    assert (train, test) == split_tasks(BabyAIConfig(), 60, 100, seed=1)
    assert train != split_tasks(BabyAIConfig(), 60, 100, seed=2)[0]
    environment().reset(train[0])
