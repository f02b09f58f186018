"""What counts as help: marks in the log, and runs of a helper on its own (an assumption, and marked as one)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

from selfreg._util.extras import require_extra
from selfreg.data.stream import TrajectoryStream
from selfreg.data.trajectory import NOHELP, LoggedStep, Step, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec

# Tools by which the agents of published benchmarks hand over to a person.
HELP_TOOLS = {"transfer_to_human_agents": "person"}


class HelpMarks(NamedTuple):
    """Facts of a step by which it counts as help. Each is a mapping of a pattern (as of file names) to a help type.

    A step whose log names its help keeps it. Otherwise the first mark that fits decides, in the order of the
    attributes; the help type "nohelp" means that it is none.

    Attributes
    ----------
    decisions : mapping
        What a person decided about the action: "approved", "rejected".
    tools : mapping
        Names of tools that the step calls. `transfer_to_human_agents`, as published benchmarks have it, is "person".
    roles : mapping
        The part of the system that took the step.
    models : mapping
        The model that took the step.

    Examples
    --------
    >>> from selfreg.data import HelpMarks
    >>> from selfreg.data.trajectory import LoggedStep
    >>> marks = HelpMarks(models={"gpt-4*": "strong"})
    >>> marks.mark_step(LoggedStep("a state", model="gpt-4o-2024-08-06")).intervention
    'strong'
    """

    decisions: Mapping[str, str] = {}
    tools: Mapping[str, str] = {}
    roles: Mapping[str, str] = {}
    models: Mapping[str, str] = {}

    def mark_step(self, step: LoggedStep) -> Step:
        """The step with its help, without the facts."""
        help_type = self._find_help(step) if step.intervention is None else step.intervention
        return Step(step.state, step.action, step.key, help_type, step.cost, step.label)

    def mark_trajectory(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory with the help of its steps, which become plain ones."""
        if not isinstance(trajectory.steps[0], LoggedStep):  # readers yield the one kind or the other
            return trajectory
        steps = tuple(self.mark_step(step) if isinstance(step, LoggedStep) else step for step in trajectory.steps)
        return msgspec.structs.replace(trajectory, steps=steps)

    def _find_help(self, step: LoggedStep) -> str | None:
        tools = self.tools if HELP_TOOLS.keys() <= self.tools.keys() else {**self.tools, **HELP_TOOLS}
        for marks, names in (
            (self.decisions, (step.decision,)),
            (tools, step.tools),
            (self.roles, (step.role,)),
            (self.models, (step.model,)),
        ):
            for pattern, help_type in marks.items():
                if any(name is not None and fnmatchcase(name, pattern) for name in names):
                    return None if help_type == NOHELP else help_type
        return None


# Field with the help type of a run that was taken as help.
ASSUMED = "assumed_takeover"


def assume_takeover(trajectories: Iterable[Trajectory], help_type: str, *, cost: int = 1) -> TrajectoryStream:
    """Take every step of a helper's own runs as a step of help.

    What a helper does from the start is not what it would do in a run that the agent has begun: such logs show no
    hand-off. Use it if there are no other logs. The episodes are marked (`assumed_takeover` in their fields), and
    models estimated from them carry a note that every report shows before its evidence.

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
