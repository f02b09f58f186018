"""Gymnasium environments, and help as an extra action, so that others' agents and algorithms fit.

Importing this module registers "selfreg/Household-v0", "selfreg/BabyAI-v0" and "selfreg/TextWorld-v0";
``gymnasium.make("selfreg.integrations.gymnasium:selfreg/Household-v0")`` imports it first.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.text_features import hashed_words
from selfreg.data import Step
from selfreg.envs.babyai.environment import BabyAIConfig, make_babyai, split_tasks
from selfreg.envs.household.environment import HouseholdConfig, household_tasks, make_household
from selfreg.envs.protocol import AssistedEnvironment, Intervention
from selfreg.envs.textworld.environment import TextWorldConfig, make_textworld, textworld_tasks

with require_extra("envs", "selfreg.integrations.gymnasium"):
    import gymnasium
    from gymnasium import spaces

MAX_TEXT = 4096
N_TASKS = 1000
REFUSALS = 100


class WorldEnv(gymnasium.Env):  # type: ignore[misc]
    """An environment of this package as a Gymnasium environment, with its own actions.

    The reward is the outcome, when the episode ends; the steps left are part of the state, so that running out of them
    terminates and does not truncate.

    Parameters
    ----------
    world : AssistedEnvironment
        Its agent and helpers are not used here, but by `HelpWrapper`.
    tasks : sequence of str
        `reset` draws one of them, unless its `options` name a "task".
    features : int
        0 shows the state as text; n > 0 as float32 (n,), 1 where a group of words hashed to that number is in the text.
    render_mode : str or None
        "ansi" renders the text.

    Raises
    ------
    ValueError
        If there are no tasks or `features` is negative.

    Examples
    --------
    >>> import gymnasium
    >>> env = gymnasium.make("selfreg.integrations.gymnasium:selfreg/Household-v0", kinds=("moved",))
    >>> text, info = env.reset(seed=0)
    >>> text.split()[0], env.action_space
    ('Task:', Discrete(12))
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (Gymnasium's own declaration)

    def __init__(
        self, world: AssistedEnvironment, tasks: Sequence[str], features: int = 0, render_mode: str | None = None
    ) -> None:
        if not tasks:
            raise ValueError("tasks is empty; expected at least one")
        self.world, self.tasks, self.render_mode = world, list(tasks), render_mode
        self.features = validate.integer("features", features, 0)
        self.instead: Callable[[], Step] | None = None  # what the next step does, whatever its action: see HelpWrapper
        self.charge = 0
        self.action_space = spaces.Discrete(len(world.environment.action_names))
        self.observation_space = spaces.Text(MAX_TEXT, charset=string.printable)
        if features:
            self.observation_space = spaces.Box(0.0, 1.0, (features,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a task, drawn or named by ``options["task"]``."""
        super().reset(seed=seed)
        self.instead, self.charge = None, 0
        task = (options or {}).get("task", self.tasks[int(self.np_random.integers(len(self.tasks)))])
        self.world.reset(task, int(self.np_random.integers(2**31)))
        return self.observation(), {"task": task, "key": self.world.state().key}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one action."""
        instead, self.instead = self.instead, None
        self.charge = (self.world.take(int(action)) if instead is None else instead()).charge
        world = self.world
        info = {"outcome": world.outcome} if world.done else {"key": world.state().key}
        return self.observation(), float(world.outcome or 0.0), world.done, False, info

    def observation(self) -> Any:
        """Observation of the moment that the world is at."""
        world = self.world
        text = world.environment.text() if world.done else world.state().state or ""
        if not self.features:
            return text[:MAX_TEXT]
        result = np.zeros(self.features, np.float32)
        result[hashed_words(text, self.features)] = 1.0
        return result

    def render(self) -> str | None:
        """Text of the state."""
        return self.world.environment.text() if self.render_mode == "ansi" else None


class HelpWrapper(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):  # type: ignore[misc]
    """Help as extra actions, and the remaining budget in the observation.

    The world's help types follow the environment's own actions. With `base_policy`, its own actions give way to one,
    0: let the world's agent act; what is learned is when to request help. A request that the budget cannot pay does
    nothing and sets ``info["refused"]``; ``info["action_mask"]``, int8, says which actions can be taken. An
    episode is truncated after 100 refusals. Every step passes through the wrappers inside, also those of help and of
    refused requests.

    Parameters
    ----------
    env : gymnasium.Env
        A `WorldEnv`, wrapped or not.
    budget : int
        Budget units of an episode.
    base_policy : bool

    Raises
    ------
    TypeError
        If there is no `WorldEnv` inside.
    ValueError
        If the budget is negative, or the world offers no help; in a step, if the action is unknown or the episode is
        over.

    Examples
    --------
    >>> import gymnasium
    >>> from selfreg.integrations.gymnasium import HelpWrapper
    >>> env = HelpWrapper(gymnasium.make("selfreg/Household-v0"), budget=3, base_policy=True)
    >>> env.action_space, env.observation_space["budget_left"]
    (Discrete(2), Discrete(4))
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(1)
    >>> int(observation["budget_left"]), info["charge"]
    (2, 1)
    """

    def __init__(self, env: Any, budget: int, base_policy: bool = False) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, budget=budget, base_policy=base_policy)
        gymnasium.Wrapper.__init__(self, env)
        if not isinstance(self.unwrapped, WorldEnv):
            raise TypeError(f"HelpWrapper needs a WorldEnv inside; got {type(self.unwrapped).__name__}")
        self.world = self.unwrapped.world
        self.helps: list[Intervention] = list(self.world.interventions.values())
        if not self.helps:
            raise ValueError("the world offers no help; expected at least one intervention")
        if any(len(one.units) > 1 for one in self.helps):
            raise ValueError(f"help costs units of {len(self.helps[0].units)} budgets; expected one budget")
        self.budget, self.base_policy = validate.integer("budget", budget, 0), base_policy
        self.own = 1 if base_policy else int(env.action_space.n)
        self.action_space = spaces.Discrete(self.own + len(self.helps))
        left = spaces.Discrete(self.budget + 1)
        self.observation_space = spaces.Dict({"state": env.observation_space, "budget_left": left})
        self.left, self.refused = self.budget, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the whole budget."""
        self.left, self.refused = self.budget, 0
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_budget(observation), info | {"action_mask": self.action_mask()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, or request help."""
        if not 0 <= (action := int(action)) < self.action_space.n:
            raise ValueError(f"action is {action}; expected 0 to {self.action_space.n - 1}")
        if self.world.done:
            raise ValueError("the episode is over; expected reset() before the next step()")
        help_type = self.helps[action - self.own] if action >= self.own else None
        refused = help_type is not None and help_type.units[0] > self.left
        self.refused += refused
        if refused:
            self.unwrapped.instead = self.world.state
        elif help_type is not None or self.base_policy:
            self.unwrapped.instead = partial(self.world.step, None if help_type is None else help_type.name)
        observation, reward, terminated, truncated, info = self.env.step(
            action if self.unwrapped.instead is None else 0
        )
        charge = self.unwrapped.charge
        self.left -= charge
        info |= {"refused": refused, "charge": charge, "action_mask": self.action_mask()}
        return self._with_budget(observation), reward, terminated, truncated or self.refused >= REFUSALS, info

    def action_mask(self) -> Any:
        """Which actions can be taken with the budget left, int8 (actions,)."""
        return np.array([1] * self.own + [one.units[0] <= self.left for one in self.helps], np.int8)

    def _with_budget(self, observation: Any) -> dict[str, Any]:
        return {"state": observation, "budget_left": np.int64(self.left)}


def household_env(
    tasks: Sequence[str] | None = None,
    kinds: Sequence[str] = ("place", "moved", "person"),
    interventions: Sequence[Intervention] | None = None,
    features: int = 0,
    render_mode: str | None = None,
    **settings: Any,
) -> WorldEnv:
    """Household: `tasks`, or a thousand of the `kinds`; `settings` are those of `HouseholdConfig`."""
    world = make_household(HouseholdConfig(**settings), interventions)
    return WorldEnv(world, tasks or household_tasks(N_TASKS, 0, 0, kinds)[0], features, render_mode)


def babyai_env(
    tasks: Sequence[str] | None = None,
    interventions: Sequence[Intervention] | None = None,
    features: int = 0,
    render_mode: str | None = None,
    **settings: Any,
) -> WorldEnv:
    """BabyAI: `tasks`, or a thousand of the level; `settings` are those of `BabyAIConfig`."""
    config = BabyAIConfig(**settings)
    return WorldEnv(
        make_babyai(config, interventions), tasks or split_tasks(config, N_TASKS, 0, 0)[0], features, render_mode
    )


def textworld_env(
    tasks: Sequence[str] | None = None,
    interventions: Sequence[Intervention] | None = None,
    features: int = 0,
    render_mode: str | None = None,
    **settings: Any,
) -> WorldEnv:
    """TextWorld: `tasks`, or a thousand of the level; `settings` are those of `TextWorldConfig`."""
    config = TextWorldConfig(**settings)
    return WorldEnv(
        make_textworld(config, interventions),
        tasks or textworld_tasks(N_TASKS, 0, 0, config.level)[0],
        features,
        render_mode,
    )


for _name, _maker in (("Household", "household_env"), ("BabyAI", "babyai_env"), ("TextWorld", "textworld_env")):
    if f"selfreg/{_name}-v0" not in gymnasium.registry:
        gymnasium.register(f"selfreg/{_name}-v0", f"selfreg.integrations.gymnasium:{_maker}")
