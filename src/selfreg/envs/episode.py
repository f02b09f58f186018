"""One episode under a policy and a budget that cannot be overspent."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from selfreg.data import Step, Trajectory
from selfreg.decisions import Decision, DecisionPolicy, policy_name, start_episode
from selfreg.envs.protocol import AssistedEnvironment

# Units of an episode's budget, or of each of several; None where there is no limit.
Budget: TypeAlias = int | tuple[int, ...] | None


class Episode(NamedTuple):
    """An episode with the decision of each of its steps."""

    trajectory: Trajectory
    decisions: list[Decision]


def run_episode(
    world: AssistedEnvironment,
    task: str,
    seed: int,
    policy: DecisionPolicy,
    budget: Budget = None,
    episode: str | None = None,
) -> Trajectory:
    """Run one episode. The agent goes on alone where the budget cannot pay for a request.

    Chance in the base policy comes from `seed` alone, so that policies are compared on the same luck.

    Parameters
    ----------
    world : AssistedEnvironment
        Where the episode takes place; it is reset first.
    task : str
        Name of the task.
    seed : int
        Seed of the base policy and of `policy`.
    policy : DecisionPolicy
        Decides when to request help.
    budget : int, tuple of int, or None
        Budget units of the episode, of each budget where there are several; None for unlimited help.
    episode : str or None
        Identity of the episode; by default the task and the seed.

    Returns
    -------
    Trajectory
        `fields` holds the seed, the policy's name, the budget, and the number of requests that were refused.

    Raises
    ------
    ValueError
        If the budget is negative or of another number of budgets than the help costs, or the policy requests an unknown
        help type.

    Examples
    --------
    >>> from selfreg.envs import make_household, run_episode
    >>> from selfreg.evaluate import Always
    >>> episode = run_episode(make_household(), "household-place/3", 0, Always("help"), budget=2)
    >>> episode.cost, episode.fields["policy"]
    (2, 'always')
    """
    return run_with_decisions(world, task, seed, policy, budget, episode).trajectory


def run_with_decisions(
    world: AssistedEnvironment,
    task: str,
    seed: int,
    policy: DecisionPolicy,
    budget: Budget = None,
    episode: str | None = None,
) -> Episode:
    """As `run_episode`, with the decisions."""
    _check_budget(world, budget)
    world.reset(task, seed)
    return continue_episode(world, task, seed, policy, budget, f"{task}#{seed}" if episode is None else episode)


def continue_episode(
    world: AssistedEnvironment, task: str, seed: int, policy: DecisionPolicy, budget: Budget, episode: str
) -> Episode:
    """Run an episode from the current moment of the world."""
    start_episode(policy, task, seed)
    steps: list[Step] = []
    decisions: list[Decision] = []
    left, refused = (budget,) if isinstance(budget, int) else budget, 0
    while not world.done:
        decisions.append(policy.decide([*steps, world.state()], left))
        request = decisions[-1].action if decisions[-1].requests_help else None
        if request is not None and not _affordable(world, request, left):
            request, refused = None, refused + 1
        steps.append(world.step(request))
        if request is not None and left is not None:
            units = world.interventions[request].units
            left = tuple(have - cost for have, cost in zip(left, units, strict=True))
    trajectory = Trajectory(
        task=task,
        episode=episode,
        outcome=world.outcome,
        steps=tuple(steps),
        fields={
            "seed": seed,
            "policy": policy_name(policy),
            "budget": budget_text(budget),
            "refused": refused,
        },
    )
    return Episode(trajectory, decisions)


def budget_text(budget: Budget) -> int | str | None:
    """A budget as a scalar: several ones as a text, such as "2,1"."""
    return ",".join(map(str, budget)) if isinstance(budget, tuple) else budget


def _check_budget(world: AssistedEnvironment, budget: Budget) -> None:
    units = (budget,) if isinstance(budget, int) else budget
    if units is None:
        return
    if min(units, default=-1) < 0:
        raise ValueError(f"budget is {budget}; expected 0 or more, or None for unlimited help")
    costs = {name: one.cost for name, one in world.interventions.items() if len(one.units) != len(units)}
    if costs:
        raise ValueError(f"budget is {budget}, and help costs {costs}; expected a budget for each unit of a cost")


def _affordable(world: AssistedEnvironment, request: str, left: tuple[int, ...] | None) -> bool:
    # An unknown name passes; step() raises for it.
    if left is None or request not in world.interventions:
        return True
    return all(cost <= have for cost, have in zip(world.interventions[request].units, left, strict=True))
