"""Environments that remember: what they say is what a new one says, and known ways cost the world nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from selfreg.envs.babyai.environment import BabyAIEnvironment
from selfreg.envs.protocol import Environment
from selfreg.envs.replay import ReplayedEnvironment, remembered

LEVEL = "BabyAI-KeyCorridorS3R2-v0"


class Sum(ReplayedEnvironment):
    """Adds up actions to the number that the task names."""

    action_names = ("0", "1", "2")

    def __init__(self) -> None:
        super().__init__()
        self.total, self.wanted, self.begun, self.read = 0, 0, 0, 0

    def begin(self, task: str) -> None:
        self.wanted, self.total = int(task), 0
        self.begun += 1

    def take(self, action: int) -> float | None:
        if action < 0:
            raise ValueError("a negative action")
        self.total += action
        return float(self.total == self.wanted) if self.total >= self.wanted else None

    @remembered
    def text(self) -> str:
        """The sum."""
        self.read += 1
        return f"{self.total} of {self.wanted} after {self.steps_taken}"

    def key(self) -> str:
        """The sum."""
        return self.text()

    def expert_action(self) -> int:
        """One."""
        return 1


def run(world: Environment, task: str, actions: list[int]) -> list[Any]:
    world.reset(task)
    said: list[Any] = [world.text()]
    for action in actions:
        world.step(action)
        said.append((world.text(), world.outcome, world.done))
    return said


def test_a_known_way_costs_the_world_nothing() -> None:
    world = Sum()
    first = run(world, "5", [1, 2, 2])
    assert first[-1] == ("5 of 5 after 3", 1.0, True)
    begun, read, taken = world.begun, world.read, world.steps_taken
    assert run(world, "5", [1, 2, 2]) == first
    assert (world.begun, world.read, world.steps_taken) == (begun, read, taken) == (1, 4, 3)


def test_the_world_catches_up_where_a_way_is_left() -> None:
    world = Sum()
    run(world, "9", [1, 2, 2])
    assert run(world, "9", [1, 2, 0])[-1] == ("3 of 9 after 3", None, False)
    assert world.begun == 2
    assert run(world, "9", [1, 2, 0, 2])[-1] == ("5 of 9 after 4", None, False)
    assert world.begun == 2


def test_what_nobody_read_is_read_when_somebody_comes_back() -> None:
    world = Sum()
    world.reset("9")
    for action in (1, 2, 2):
        world.step(action)
    assert world.read == 0
    assert run(world, "9", [1])[-1][0] == "1 of 9 after 1"


def test_another_task_is_another_world() -> None:
    world = Sum()
    run(world, "5", [1])
    assert run(world, "7", [1])[-1][0] == "1 of 7 after 1"
    with pytest.raises(ValueError, match="invalid literal"):
        world.reset("seven")
    assert run(world, "5", [2, 2])[-1][0] == "4 of 5 after 2"


def test_an_action_that_fails_leaves_the_moment_as_it_is() -> None:
    world = Sum()
    run(world, "5", [2])
    with pytest.raises(ValueError, match="negative"):
        world.step(-1)
    assert world.text() == "2 of 5 after 1"
    world.step(1)
    assert world.text() == "3 of 5 after 2"


def test_too_many_moments_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfreg.envs.replay.MOST_MOMENTS", 4)
    world = Sum()
    run(world, "9", [1, 1])
    run(world, "9", [1, 2])
    assert world.begun == 2
    run(world, "9", [2])
    assert world.begun == 3
    assert run(world, "9", [1, 1])[-1][0] == "2 of 9 after 2"
    assert world.begun == 4


def test_saved_moments_are_task_and_actions() -> None:
    world, other = Sum(), Sum()
    run(world, "9", [1, 2])
    saved = world.save()
    assert saved == ("9", (1, 2))
    other.restore(saved)
    assert other.text() == world.text()


def test_babyai_says_what_a_new_world_says() -> None:
    """Random ways that often have the same beginning, with what is read at random."""
    world, generator = BabyAIEnvironment(LEVEL, 40, 4), np.random.default_rng(0)
    again = 0
    for episode in range(24):
        task = f"{LEVEL}/{episode // 12}"
        new = BabyAIEnvironment(LEVEL, 40, 4)
        world.reset(task)
        new.reset(task)
        while not new.done:
            for name in np.array(["text", "key", "expert_action"])[generator.random(3) < 0.5]:
                again += name in world.moment.read
                assert getattr(world, name)() == getattr(new, name)()
            action = int(generator.integers(6)) if generator.random() < 0.1 else new.expert_action()
            world.step(action)
            new.step(action)
            assert (world.outcome, world.save()) == (new.outcome, new.save())
    assert again > 50
