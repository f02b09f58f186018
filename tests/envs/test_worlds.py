"""Worlds in plain values, and forms of help from texts."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from selfreg.envs import (
    BABYAI_LEVELS,
    BabyAIConfig,
    ErringHelper,
    Expert,
    FixedAction,
    Situational,
    World,
    demonstrate,
    train_imitation,
)
from selfreg.envs.worlds import parse_help


def test_a_world_survives_json_and_pickle() -> None:
    world = World(
        "household", "moved,person", {"trust": 0.9, "step_limit": 9}, ("owner,steps=end,cost=2", "child,error=0.3")
    )
    again = World.of(json.loads(json.dumps(world.describe())))
    assert again.make().environment.step_limit == pickle.loads(pickle.dumps(world)).make().environment.step_limit == 9
    helps = again.make().interventions
    assert (helps["owner"].steps, helps["owner"].cost) == (None, 2)
    assert isinstance(helps["child"].helper, ErringHelper)
    assert {task.split("/")[0] for task in again.tasks(6, 0, 0)[0]} == {"household-moved", "household-person"}


def test_levels_have_their_own_limit_unless_it_is_set() -> None:
    level = "BabyAI-UnlockLocal-v0"
    assert World("babyai", level).config.step_limit == BABYAI_LEVELS[level]
    assert World("babyai", level, {"step_limit": 30}).config.step_limit == 30
    assert World().level == "BabyAI-UnlockPickup-v0"


def test_run_folders_from_before_are_read() -> None:
    config = BabyAIConfig(level="BabyAI-GoToLocal-v0", slip=0.3)
    assert World.of(dataclasses.asdict(config)).config == config


def test_more_tasks_are_others() -> None:
    world = World("household")
    train, test = world.tasks(10, 5, seed=0)
    more = world.more_tasks(8, 1, [*train, *test])
    assert len(set(more)) == 8
    assert set(more).isdisjoint([*train, *test])


def test_tasks_that_cannot_be_drawn_are_refused() -> None:
    for numbers, message in (
        ((2**20, 1, 0), "1048577 tasks; expected at most"),
        ((-1, 1, 0), "n_train is -1"),
        ((1, 1, -1), "seed is -1"),
    ):
        for name in ("babyai", "household", "textworld"):
            with pytest.raises(ValueError, match=message):
                World(name).tasks(*numbers)


def test_the_actions_of_a_family_are_those_of_its_worlds() -> None:
    for name in ("babyai", "household"):
        world = World(name)
        assert tuple(world.family.actions(world.level)) == tuple(world.make().environment.action_names)


def test_a_trained_actor_acts(tmp_path) -> None:
    world = World("household")
    environment = world.make().environment
    train_imitation(demonstrate(environment, world.tasks(3, 0, 0)[0]), environment.action_names).save(
        tmp_path / "actor.safetensors"
    )
    made = World("household", actor="actor.safetensors").make(tmp_path)
    made.reset(world.tasks(1, 0, 5)[0][0], 0)
    assert made.step().action in environment.action_names


@pytest.mark.parametrize(
    ("text", "steps", "cost", "helper"),
    [
        ("help", 1, 1, Expert),
        ("help,steps=4", 4, 1, Expert),
        ("friend,cost=0,steps=end", None, 0, Expert),
        ("child,error=0.5", 1, 1, ErringHelper),
        ("liar,wrong=wait", 1, 1, FixedAction),
        ("odd,error=1,where=a,b=c", 1, 1, Situational),
    ],
)
def test_forms_of_help(text: str, steps: int | None, cost: int, helper: type) -> None:
    found = parse_help(text)
    assert (found.name, found.steps, found.cost) == (text.split(",")[0], steps, cost)
    assert isinstance(found.helper, helper)


def test_where_takes_the_rest() -> None:
    helper = parse_help("liar,wrong=wait,where=^In hand: (mug|pen), really").helper
    assert isinstance(helper, Situational)
    assert helper.where.pattern == "^In hand: (mug|pen), really"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name"),
        ("nohelp", "name"),
        ("help,steps=0", "steps is 0"),
        ("help,steps=two", "steps=two; expected a whole number"),
        ("help,speed=2", "cannot read 'speed=2'"),
        ("help,steps=1,steps=2", "cannot read 'steps=2'"),
        ("help,error=2", "error is 2"),
        ("help,error=nan", "error is nan"),
        ("help,cost=1.5", r"cost=1\.5; expected a whole number"),
        ("steps=2,cost=1", "expected its name first"),
        ("help,error=0.1,wrong=wait", "exclude"),
        ("help,where=x", r"expected error= or wrong="),
        ("help,error=0.1,where=(", "not a regular expression"),
    ],
)
def test_help_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_help(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"environment": "chess"}, "environment is 'chess'"),
        ({"environment": "household", "level": "cook"}, "cook"),
        ({"settings": {"speed": 2}}, "no setting 'speed'"),
        ({"settings": {"help_steps": 0}}, "help_steps is 0"),
        ({"helps": ("a", "a")}, "share a name"),
        ({"helps": ("a,wrong=wait",)}, "action 'wait' is unknown"),
        ({"helps": ("a,wrong=jump,where=x",)}, "action 'jump' is unknown"),
        ({"environment": "household", "settings": {"step_limit": float("nan")}}, "step_limit is nan; expected an int"),
        ({"settings": {"help_steps": 2.5}}, r"help_steps is 2\.5; expected an int"),
        ({"settings": {"slip": "0.1"}}, "slip is '0.1'; expected a number"),
        ({"environment": "textworld", "settings": {"cache": 3}}, "cache is 3"),
    ],
)
def test_worlds_that_are_none(settings: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        World(**settings)


def test_misleading_help_misleads() -> None:
    """Help that waits until something is in hand, then is the expert's."""
    world = World("household", helps=("liar,wrong=wait,where=^In hand: nothing",)).make()
    world.reset("household-place/3", 0)
    assert world.step("liar").action == "wait"
    rng = np.random.default_rng(0)
    while "In hand: nothing" in world.state().state and not world.done:
        world.take(Expert().act(world.environment, rng))
    wanted = world.environment.action_names[world.environment.expert_action()]
    assert world.step("liar").action == wanted != "wait"


def test_textworld_is_a_world() -> None:
    world = World("textworld", "coin", {"stray": 0.5})
    assert (world.config.level, world.config.stray) == ("coin", 0.5)
    train, test = world.tasks(3, 2, seed=0)
    assert {task.split("/")[0] for task in (*train, *test)} == {"textworld-coin"}
    with pytest.raises(ValueError, match=r"TextWorldConfig\.level is 'chess'"):
        World("textworld", "chess")
