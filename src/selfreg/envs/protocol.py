"""What an environment, a base policy and a form of help are, and the three put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.data import NOHELP, Step

TASKS = 2**20
AFTER = " after "  # in a key, before who took the step before
HELPER_STREAM = 2  # separates chance in the helpers from that in the base policy and in requests


@runtime_checkable
class Environment(Protocol):
    """A task world with an expert: what Phase I needs to know about it.

    `text` describes the state completely, for people and language models. `key` is its exact identity within a
    task: two moments with equal keys must have the same future under the same actions, whatever led there.
    """

    @property
    def action_names(self) -> Sequence[str]:
        """Names of the actions 0, 1, ..."""

    @property
    def done(self) -> bool:
        """Whether the episode is over."""

    @property
    def outcome(self) -> float | None:
        """Success in [0, 1]; None while the episode goes on."""

    def reset(self, task: str) -> None:
        """Begin the episode that `task` names; the same name gives the same start."""

    def step(self, action: int) -> None:
        """Take one action."""

    def text(self) -> str:
        """Describe the current state completely."""

    def key(self) -> str:
        """Identify the current state exactly."""

    def expert_action(self) -> int:
        """Return what the expert would do now."""

    def save(self) -> Any:
        """Return what `restore` needs to come back to this moment: plain data that any process can use."""

    def restore(self, saved: Any) -> None:
        """Come back to a moment that `save` returned, here or in another environment with the same settings."""


@runtime_checkable
class BasePolicy(Protocol):
    """The agent that may be helped, or one that helps."""

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action; all chance comes from `generator`."""


@runtime_checkable
class ExplicitPolicy(BasePolicy, Protocol):
    """A policy that can say how likely each action is: what an exact model needs of it."""

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (actions,)."""


class Expert:
    """Does what the environment's expert would do."""

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Return the expert's action; it is not random."""
        return environment.expert_action()

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return 1 for the expert's action."""
        return certain(environment, environment.expert_action())


def draw_tasks(name: Callable[[int, int], str], n_train: int, n_test: int, seed: int) -> tuple[list[str], list[str]]:
    """Different tasks for training and for testing, by the name of the i-th with a number below `TASKS`.

    Raises
    ------
    ValueError
        For a negative number, or more tasks than there are.
    """
    for label, value in (("n_train", n_train), ("n_test", n_test)):
        validate.integer(label, value, 0)
    validate.seed("seed", seed)
    if n_train + n_test > TASKS:
        raise ValueError(f"{n_train + n_test} tasks; expected at most {TASKS}")
    numbers = np.random.default_rng(seed).choice(TASKS, n_train + n_test, replace=False)
    tasks = [name(i, int(number)) for i, number in enumerate(numbers)]
    return tasks[:n_train], tasks[n_train:]


def certain(environment: Environment, action: int) -> npt.NDArray[np.float64]:
    """Return the distribution of a policy that takes `action`, float64 (actions,)."""
    result = np.zeros(len(environment.action_names))
    result[action] = 1.0
    return result


@dataclass(frozen=True)
class Intervention:
    """A form of help: somebody takes over for some environment steps.

    Raises
    ------
    ValueError
        If the name is empty or "nohelp", `steps` is below 1, or `cost` or `reading` is negative.
    TypeError
        If `helper` cannot act, or a number is not an integer.
    """

    name: str = field(default="help", metadata={"help": "name of the help type"})
    steps: int | None = field(
        default=1, metadata={"help": "environment steps that the helper takes; None is all that are left (a latch)"}
    )
    cost: int = field(default=1, metadata={"help": "budget units that one use takes"})
    helper: BasePolicy = field(default_factory=Expert, metadata={"help": "who takes over; by default the expert"})
    reading: int = field(
        default=0,
        metadata={
            "help": "environment steps that pass while the helper reads what was done, before it acts; none at the "
            "beginning of an episode, and none where it took the step before too"
        },
    )

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or self.name == NOHELP:
            raise ValueError(f"Intervention.name is {self.name!r}; expected a name other than {NOHELP!r}")
        if isinstance(self.helper, type) or not isinstance(self.helper, BasePolicy):
            raise TypeError(f"Intervention {self.name!r} has helper={self.helper!r}; expected a policy with act()")
        if self.steps is not None:
            validate.integer(f"Intervention {self.name!r}: steps", self.steps, 1)
        validate.integer(f"Intervention {self.name!r}: reading", self.reading, 0)
        # An int of NumPy's could not be written to a log.
        object.__setattr__(self, "cost", validate.integer(f"Intervention {self.name!r}: cost", self.cost, 0))


class AssistedEnvironment:
    """An environment in which a base policy acts, unless an intervention is requested.

    One decision step is one environment step of the base policy, or all steps of one intervention (fewer where the
    episode ends first).

    Parameters
    ----------
    environment : Environment
        The world; it belongs to this object from now on. Its episodes must end, whatever the helpers do.
    policy : BasePolicy
        The agent.
    interventions : sequence of Intervention
        The forms of help on offer, by unique names. Where one of them has `reading`, text and key of a state also tell
        who acted last, which decides whether the helper must read.

    Raises
    ------
    ValueError
        If two interventions share a name, or one has `reading` and the environment no `idle_action`.
    """

    def __init__(self, environment: Environment, policy: BasePolicy, interventions: Sequence[Intervention]) -> None:
        self.environment = environment
        self.policy = policy
        self.interventions = {intervention.name: intervention for intervention in interventions}
        if len(self.interventions) < len(interventions):
            raise ValueError(f"interventions share a name: {[one.name for one in interventions]}")
        self._readers = {one.name for one in interventions if one.reading}
        if self._readers and not isinstance(getattr(environment, "idle_action", None), int):
            raise ValueError(
                f"intervention {min(self._readers)!r} has reading, and {type(environment).__name__} has no idle_action;"
                " expected the number of an action that does nothing"
            )
        self._begin(0, None)

    def _begin(self, seed: int, last: str | None) -> None:
        self._last = last
        self._state: Step | None = None
        # Helpers have chance of their own, so that a request does not change the agent's luck.
        self._generator = np.random.default_rng(seed)
        self._helper_generator = np.random.default_rng([seed, HELPER_STREAM])

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.environment.done

    @property
    def outcome(self) -> float | None:
        """Success in [0, 1]; None while the episode goes on."""
        return self.environment.outcome

    def reset(self, task: str, seed: int) -> None:
        """Begin an episode; `seed` alone decides the chance in the base policy and in the helpers."""
        self.environment.reset(task)
        self._begin(seed, None)

    def resume(self, saved: Any, seed: int, last: str | None = None) -> None:
        """Begin at a moment that the environment saved, with new luck: `seed` decides all chance from here on.

        `last` is who took the step before: a help type, "nohelp" for the agent, None at the beginning of an episode.
        """
        self.environment.restore(saved)
        self._begin(seed, last)

    def state(self) -> Step:
        """Return the current state, with neither action nor intervention."""
        if self._state is None:
            who = f"\nLast to act: {self.remembered(self._last)}." if self._readers else ""
            self._state = Step(state=self.environment.text() + who, key=self.key(self._last))
        return self._state

    def key(self, last: str | None) -> str:
        """Key of the environment's moment; with who took the step before (as for `resume`) where help must read."""
        key = self.environment.key()
        return f"{key}{AFTER}{self.remembered(last)}" if self._readers else key

    def remembered(self, last: str | None) -> str:
        """What of who took the step before decides who must read: nobody, a helper that reads, or the agent."""
        return _who(last if last is None or last in self._readers else NOHELP)

    def must_read(self, name: str, last: str | None) -> int:
        """Environment steps that the helper of this name reads for where `last` took the step before."""
        return 0 if last in (None, name) else self.interventions[name].reading

    def step(self, intervention: str | None = None) -> Step:
        """Take one decision step.

        Parameters
        ----------
        intervention : str or None
            Name of the help type to run; None lets the base policy act.

        Returns
        -------
        Step
            The state before the step, what was done, and the intervention with its cost.

        Raises
        ------
        ValueError
            If the episode is over, no intervention has this name, or whoever acts chooses an action that there is not.
        """
        if self.done:
            raise ValueError("the episode is over; expected reset() before the next step()")
        before = self.state()
        if intervention is None:
            actions, cost = [self._act(self.policy.act(self.environment, self._generator))], None
        else:
            help_type = self._intervention(intervention)
            actions, cost = self._take_over(help_type), help_type.cost
        self._state, self._last = None, intervention or NOHELP
        return Step(before.state, ", ".join(actions), before.key, intervention, cost)

    def take(self, action: int) -> Step:
        """Take one step with a given action, in place of the agent's; ValueError as for `step`, or for no action."""
        if self.done:
            raise ValueError("the episode is over; expected reset() before the next take()")
        before, self._state, self._last = self.state(), None, NOHELP
        return Step(before.state, self._act(action), before.key)

    def _act(self, action: int) -> str:
        names = self.environment.action_names
        if not 0 <= action < len(names):
            raise ValueError(f"action is {action}; expected 0 to {len(names) - 1}")
        self.environment.step(action)
        return names[action]

    def _take_over(self, help_type: Intervention) -> list[str]:
        actions: list[str] = []
        reading = self.must_read(help_type.name, self._last)
        while not self.done and len(actions) < reading:
            actions.append(self._act(self.environment.idle_action))  # type: ignore[attr-defined]
        most = None if help_type.steps is None else reading + help_type.steps
        while not self.done and (most is None or len(actions) < most):
            actions.append(self._act(help_type.helper.act(self.environment, self._helper_generator)))
        return actions

    def _intervention(self, name: str) -> Intervention:
        if name not in self.interventions:
            raise ValueError(f"intervention {name!r} is unknown; expected one of {sorted(self.interventions)} or None")
        return self.interventions[name]


def _who(last: str | None) -> str:
    return "nobody" if last is None else "the agent" if last == NOHELP else last
