"""Outcomes that another file or folder holds, joined to episodes."""

from __future__ import annotations

from collections.abc import Mapping

from selfreg._util.extras import require_extra
from selfreg.data.trajectory import Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec


def join_outcome(trajectory: Trajectory, outcomes: Mapping[str, float | None]) -> Trajectory:
    """The trajectory with its outcome, looked up by its episode, else by its task; as it is where there is none."""
    outcome = outcomes.get(trajectory.episode, outcomes.get(trajectory.task))
    if outcome is None:
        return trajectory
    return msgspec.structs.replace(trajectory, outcome=outcome, truncated=False)
