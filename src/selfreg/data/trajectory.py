"""The canonical trajectory, which all readers produce and all later stages read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from selfreg._util.extras import require_extra
from selfreg._util.json_text import normalize_json

with require_extra("logs", "selfreg.data"):
    import msgspec

Scalar: TypeAlias = str | int | float | bool | None

NOHELP = "nohelp"

# Names of help, in lower case, that stand for none: what other programs write where there was no help.
NO_HELP_WORDS = frozenset(("", NOHELP, "none", "null", "false", "nan", "no", "n/a", "na", "nil", "-", "0"))
# Those that say that there was help, and not which.
HELP_WORDS = frozenset(("true", "yes", "1"))
SOME_HELP = "help"
# The largest cost of a step; sums over an episode stay exact.
MOST_COST = (1 << 31) - 1


def is_no_help(intervention: str) -> bool:
    """Whether the name of an intervention stands for no help."""
    return intervention.strip().lower() in NO_HELP_WORDS


def name_help(text: str) -> str | None:
    """The help type that a text of a log names: none for a no, "help" for a yes."""
    if is_no_help(text):
        return None
    return SOME_HELP if text.strip().lower() in HELP_WORDS else text


class Step(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step of an episode: what the agent saw, what was done, and whether with help.

    Attributes
    ----------
    state : str
        What the agent saw before it acted (an observation, or a complete description of the state).
    action : str or None
        What was done then, if the log says so.
    key : str or None
        Exact identity of the state (an environment's own hash), for tables.
    intervention : str or None
        Name of the help type that took this step; None for a step without help. "nohelp", "none", "null", "false",
        "no", "nan", "n/a", "na", "nil", "-" and "0", in any case, and blanks become None.
    cost : int or None
        Budget units of the step; None means 1 with help and 0 without.
    label : float or None
        Judgement of the step's action, in [0, 1]: 1 is good (or: no mistake so far), 0 bad; None without a judgement.
    """

    state: str
    action: str | None = None
    key: str | None = None
    intervention: str | None = None
    cost: int | None = None
    label: float | None = None

    def __post_init__(self) -> None:
        if self.intervention is not None and is_no_help(self.intervention):
            msgspec.structs.force_setattr(self, "intervention", None)
        if self.cost is not None and not 0 <= self.cost <= MOST_COST:
            raise ValueError(f"cost is {self.cost}; expected an int >= 0, at most {MOST_COST}")
        if self.label is not None and not 0.0 <= self.label <= 1.0:
            raise ValueError(f"label is {self.label:g}; expected a number in [0, 1]")

    @property
    def charge(self) -> int:
        """Budget units of the step."""
        if self.cost is not None:
            return self.cost
        return 0 if self.intervention is None else 1


class LoggedStep(Step, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A step with what a log says of who took it, from which marks of help are read (`HelpMarks`).

    Readers yield such steps; `read_trajectories` returns plain ones.

    Attributes
    ----------
    model : str or None
        The model that took the step.
    tools : tuple of str
        Names of the tools that it called.
    role : str or None
        The part of the system that took it, as some logs name it ("helper", "planner").
    decision : str or None
        What a person decided about the action: "approved", "rejected" or the log's own word.
    """

    model: str | None = None
    tools: tuple[str, ...] = ()
    role: str | None = None
    decision: str | None = None


class Trajectory(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One episode.

    Attributes
    ----------
    task : str
        Episodes of one task are repetitions; data are split by task, never by step.
    episode : str
        Identity of the episode, unique in a data set.
    outcome : float or None
        Success in [0, 1]; None only if `truncated`.
    steps : tuple of Step
        At least one.
    truncated : bool
        Whether the log ends before the outcome.
    fields : dict
        Free episode fields (agent, domain, ...), scalars only.
    """

    task: str
    episode: str
    outcome: float | None
    steps: tuple[Step, ...]
    truncated: bool = False
    fields: dict[str, Scalar] = {}

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps is empty; expected at least one step")
        if self.outcome is None and not self.truncated:
            raise ValueError("outcome is null; expected a number in [0, 1] (or truncated = true)")
        if self.outcome is not None and not 0.0 <= self.outcome <= 1.0:
            raise ValueError(f"outcome is {self.outcome:g}; expected a number in [0, 1]")

    @property
    def helped(self) -> bool:
        """Whether any step was taken by help."""
        return any(step.intervention is not None for step in self.steps)

    @property
    def cost(self) -> int:
        """Budget units of the episode."""
        return sum(step.charge for step in self.steps)


def state_text(steps: Sequence[Step], history: int = 0) -> str:
    """Text of the state after `steps`, as the PRM and the helper read it.

    JSON objects in it are on one line, with sorted keys, so that the order of keys and white space do not matter.

    Parameters
    ----------
    steps : sequence of Step
        The episode so far; the action of the last step is not part of the text.
    history : int
        Number of earlier steps before the current one. The first step, which states the task in most logs, is always
        included. 0 is the current state alone (for environments whose state text is complete). An action that the next
        observation repeats, as in logs of reasoning, is included once.

    Examples
    --------
    >>> from selfreg.data import Step, state_text
    >>> steps = [Step(state="2 + 2 = ?", action="5"), Step(state="wrong answer")]
    >>> print(state_text(steps, history=1))
    2 + 2 = ?
    > 5
    wrong answer
    """
    if not history or len(steps) == 1:
        return normalize_json(steps[-1].state)
    earlier = list(steps[max(0, len(steps) - 1 - history) : -1])
    if earlier[0] is not steps[0]:
        earlier.insert(0, steps[0])
    shown = []
    for step, following in zip(earlier, [*earlier[1:], steps[-1]], strict=True):
        shown.append(normalize_json(step.state))
        if step.action and step.action != following.state:
            shown.append("> " + normalize_json(step.action))
    return "\n".join([*shown, normalize_json(steps[-1].state)])
