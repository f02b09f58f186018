"""minigrid's bot with a faster way to find what it sees, where most of its time went.

The rules are those of minigrid's `Grid.process_vis`. Cells in view are read row by row, from the agent's own row on; a
row is a number with a bit for each cell, so that a row that came before is looked up.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

from minigrid.core.constants import DIR_TO_VEC
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

__all__ = ["DisappearedBoxError", "FastBot"]


class FastBot(BabyAIBot):  # type: ignore[misc]
    """A bot with the same advice as minigrid's."""

    def _process_obs(self) -> None:
        """Add what is in view to what was seen."""
        world = self.mission.unwrapped
        x, y = world.agent_pos
        seen = visible_cells(world.grid, View(int(x), int(y), int(world.agent_dir), world.agent_view_size))
        self.vis_mask.T.flat[seen] = True


class View(NamedTuple):
    """Where the agent stands, its direction, and the width of the square that it looks at."""

    x: int
    y: int
    direction: int
    size: int


def visible_cells(grid: Any, view: View) -> list[int]:
    """Places in `grid.grid` of the cells that an agent sees."""
    things, seen = grid.grid, list[int]()
    visible = 1 << view.size // 2
    for row in _rows(view, grid.width, grid.height):
        clear = sum([bit for bit, place in row if things[place] is None or things[place].see_behind()])
        visible, ahead = _look_along(visible, clear, view.size)
        seen += [place for bit, place in row if visible & bit]
        visible = ahead
    return seen


@lru_cache(maxsize=4096)
def _rows(view: View, width: int, height: int) -> list[list[tuple[int, int]]]:
    """Rows in view, the agent's own first: for each cell inside of the grid its bit and its place."""
    (ahead_x, ahead_y), half = DIR_TO_VEC[view.direction].tolist(), view.size // 2
    rows = []
    for ahead in range(view.size):
        cells = [
            (1 << i, view.x + ahead * ahead_x - right * ahead_y, view.y + ahead * ahead_y + right * ahead_x)
            for i, right in enumerate(range(-half, view.size - half))
        ]
        rows.append([(bit, y * width + x) for bit, x, y in cells if 0 <= x < width and 0 <= y < height])
    return rows


@cache
def _look_along(visible: int, clear: int, size: int) -> tuple[int, int]:
    """Cells of a row that are visible, and those that this makes visible in the next row.

    From a visible cell that one can see through, its neighbours are visible, and the cells ahead of it and of them.
    The row is read to the right and back to the left, once each.
    """
    ahead = 0
    ways = [(i, i + 1) for i in range(size - 1)] + [(i, i - 1) for i in range(size - 1, 0, -1)]
    for here, beside in ways:
        if visible & clear & 1 << here:
            visible |= 1 << beside
            ahead |= 1 << here | 1 << beside
    return visible, ahead
