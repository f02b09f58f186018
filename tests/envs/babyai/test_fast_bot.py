"""The bot sees and advises what minigrid's own bot does."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import gymnasium
import minigrid  # noqa: F401  (registers the levels)
import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Door, Wall
from minigrid.utils.baby_ai_bot import BabyAIBot

from selfreg.envs.babyai.bot import DisappearedBoxError, FastBot, View, visible_cells

LEVELS = (
    "BabyAI-GoToLocalS5N2-v0",
    "BabyAI-PutNextLocal-v0",
    "BabyAI-UnlockPickup-v0",
    "BabyAI-BlockedUnlockPickup-v0",
    "BabyAI-KeyCorridorS3R2-v0",
    "BabyAI-GoToSeqS5R2-v0",
    "BabyAI-FindObjS5-v0",
    "BabyAI-BossLevel-v0",
)


def advice(bot: Any, action: int | None) -> int | str:
    try:
        return int(bot.replan(action))
    except (AssertionError, DisappearedBoxError) as error:
        return repr(error)


@pytest.mark.parametrize("level", LEVELS)
def test_same_sight_and_advice_as_of_minigrid(level: str) -> None:
    world = gymnasium.make(level).unwrapped
    world.gen_obs = dict
    for seed in range(6):
        with contextlib.redirect_stdout(io.StringIO()):
            world.reset(seed=seed)
        generator, action = np.random.default_rng(seed), None
        theirs, ours = BabyAIBot(world), FastBot(world)
        for _ in range(80):
            wanted = advice(theirs, action)
            assert advice(ours, action) == wanted
            np.testing.assert_array_equal(ours.vis_mask, theirs.vis_mask)
            assert [repr(goal) for goal in ours.stack] == [repr(goal) for goal in theirs.stack]
            if isinstance(wanted, str):
                break
            action = int(generator.integers(6)) if generator.random() < 0.3 else wanted
            if any(world.step(action)[2:4]):
                break


def test_same_cells_in_view_as_of_minigrid_in_random_grids() -> None:
    generator = np.random.default_rng(0)
    world = gymnasium.make("BabyAI-GoToLocal-v0").unwrapped
    world.reset(seed=0)
    for _ in range(300):
        width, height = generator.integers(3, 12, size=2).tolist()
        world.grid = Grid(width, height)
        things = [None, None, None, Wall(), Ball("red"), Door("red"), Door("red", is_open=True)]
        world.grid.grid = [things[i] for i in generator.integers(len(things), size=width * height)]
        world.width, world.height = width, height
        world.agent_pos = tuple(generator.integers((width, height)))
        world.agent_dir = int(generator.integers(4))
        assert sorted(visible_cells(world.grid, view_of(world))) == sorted(cells_of_minigrid(world))


def view_of(world: Any) -> View:
    x, y = map(int, world.agent_pos)
    return View(x, y, world.agent_dir, world.agent_view_size)


def cells_of_minigrid(world: Any) -> list[int]:
    _, mask = world.gen_obs_grid()
    cells = [(x, y) for x in range(world.width) for y in range(world.height)]
    views = {(x, y): world.relative_coords(x, y) for x, y in cells}
    return [y * world.width + x for (x, y), view in views.items() if view is not None and mask[view]]
