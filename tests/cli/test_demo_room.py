"""`selfreg demo` says, before it collects, where even help at every step wins little."""

from __future__ import annotations

import pytest

from selfreg.cli.collect import make_world
from selfreg.cli.demo import TRIED, describe_room

pytest.importorskip("minigrid", reason="minigrid is missing")


@pytest.mark.parametrize(
    ("level", "limits"), [("BabyAI-PickupAbove-v0", True), ("BabyAI-FindObjS7-v0", True), ("", False)]
)
def test_a_level_whose_step_limit_leaves_little_is_named(level: str, limits: bool) -> None:
    world = make_world("babyai", level, None, None)
    text = describe_room(world, world.tasks(TRIED, 2, 0)[0], 0)
    assert text.startswith("there is little to win here") == limits
    assert ("--set step_limit=" in text) == limits
