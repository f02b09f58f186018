"""Runs of a helper on its own, taken as help: an assumption, and marked as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from functools import partial

from selfreg._util.extras import require_extra
from selfreg.data.stream import TrajectoryStream
from selfreg.data.trajectory import NOHELP, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec

# Field with the help type of a run that was taken as help.
ASSUMED = "assumed_takeover"


def assume_takeover(trajectories: Iterable[Trajectory], help_type: str, *, cost: int = 1) -> TrajectoryStream:
    """Take every step of a helper's own runs as a step of help.

    What a helper does from the start is not what it would do in a run that the agent has begun: such logs show no
    hand-off. Use it if there are no other logs. The episodes are marked (`assumed_takeover` in their fields), and
    models estimated from them carry a note that every report shows first.

    Parameters
    ----------
    trajectories : iterable of Trajectory
        Without help in them.
    help_type : str
        Name of the help.
    cost : int
        Budget units of a step, >= 0.

    Returns
    -------
    TrajectoryStream
        An iterable, as `read_trajectories` returns it: each iteration goes through `trajectories` again. An iterator,
        which can be read once only, is read at once.

    Raises
    ------
    ValueError
        For "nohelp" as the help type or a negative cost; while reading, for an episode with help in it.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory, assume_takeover
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> agent = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(10)]
    >>> expert = [Trajectory(f"t{i}", f"e{i}", 1.0, (Step("go"),)) for i in range(10)]
    >>> model = estimate_mdp(agent + list(assume_takeover(expert, "expert")), Features(["step"]))
    >>> print(model.notes[0])
    assume_takeover: the effect of 'expert' is that of 10 episodes that it ran alone from the start. That it does as \
well in the middle of the agent's runs is an assumption.
    """
    if help_type == NOHELP or not help_type:
        raise ValueError(f"help_type is {help_type!r}; expected the name of a help type")
    if cost < 0:
        raise ValueError(f"cost is {cost}; expected an int >= 0")
    runs = list(trajectories) if isinstance(trajectories, Iterator) else trajectories
    return TrajectoryStream(partial(_mark, runs, help_type, cost), partial(_count, runs))


def _count(trajectories: Iterable[Trajectory]) -> int:
    if not isinstance(trajectories, Sized):
        raise TypeError("the number of trajectories is not known before all are read")
    return len(trajectories)


def _mark(trajectories: Iterable[Trajectory], help_type: str, cost: int) -> Iterator[Trajectory]:
    for trajectory in trajectories:
        if trajectory.helped:
            raise ValueError(f"episode {trajectory.episode!r} has help in it; expected runs of the helper on its own")
        steps = tuple(msgspec.structs.replace(step, intervention=help_type, cost=cost) for step in trajectory.steps)
        yield msgspec.structs.replace(trajectory, steps=steps, fields={**trajectory.fields, ASSUMED: help_type})
