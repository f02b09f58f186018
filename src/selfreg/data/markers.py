"""Runs that a helper did alone, taken for what it would do if it took over: an assumption, and marked as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from selfreg._util.extras import require_extra
from selfreg.data.trajectory import NOHELP, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec

# Field that names the help type of a run that was taken for help.
ASSUMED = "assumed_takeover"


def assume_takeover(trajectories: Iterable[Trajectory], help_type: str, *, cost: int = 1) -> Iterator[Trajectory]:
    """Take every step of runs that a helper did alone for a step of help.

    What a helper does from the start on is not what it would do with a run that the agent has begun: nothing in such
    logs shows a hand-off. Where there are no others, this says so on purpose. The episodes are marked
    (`assumed_takeover` in their fields), and models estimated from them carry a note that every report shows first.

    Parameters
    ----------
    trajectories : iterable of Trajectory
        Without help in them.
    help_type : str
        What to call the helper.
    cost : int
        Budget units of a step, >= 0.

    Yields
    ------
    Trajectory

    Raises
    ------
    ValueError
        For an episode with help in it, "nohelp" as the help type, or a negative cost.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory, assume_takeover
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> agent = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(10)]
    >>> expert = [Trajectory(f"t{i}", f"e{i}", 1.0, (Step("go"),)) for i in range(10)]
    >>> model = estimate_mdp(agent + list(assume_takeover(expert, "expert")), Features(["step"]))
    >>> print(model.notes[0])
    assume_takeover: what 'expert' does when it takes over was copied from 10 episodes that it did alone, from the \
start; that it does as well in the middle of the agent's runs is assumed.
    """
    if help_type == NOHELP or not help_type:
        raise ValueError(f"help_type is {help_type!r}; expected the name of a help type")
    if cost < 0:
        raise ValueError(f"cost is {cost}; expected an int >= 0")
    for trajectory in trajectories:
        if trajectory.helped:
            raise ValueError(f"episode {trajectory.episode!r} has help in it; expected runs that the helper did alone")
        steps = tuple(msgspec.structs.replace(step, intervention=help_type, cost=cost) for step in trajectory.steps)
        yield msgspec.structs.replace(trajectory, steps=steps, fields={**trajectory.fields, ASSUMED: help_type})
