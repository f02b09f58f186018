"""One episode under a policy and a budget that cannot be overspent."""

from __future__ import annotations

from typing import NamedTuple

from selfreg.data import Step, Trajectory
from selfreg.decisions import Decision, DecisionPolicy, policy_name, start_episode
from selfreg.envs.protocol import AssistedEnvironment


class Episode(NamedTuple):
    """An episode with the decision of each of its steps."""

    trajectory: Trajectory
    decisions: list[Decision]


def run_episode(
    world: AssistedEnvironment,
    task: str,
    seed: int,
    policy: DecisionPolicy,
    budget: int | None = None,
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
    budget : int or None
        Budget units of the episode; None for unlimited help.
    episode : str or None
        Identity of the episode; by default the task and the seed.

    Returns
    -------
    Trajectory
        `fields` holds the seed, the policy's name, the budget, and the number of requests that were refused.

    Raises
    ------
    ValueError
        If the budget is negative or the policy requests an unknown help type.

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
    budget: int | None = None,
    episode: str | None = None,
) -> Episode:
    """As `run_episode`, with the decisions."""
    if budget is not None and budget < 0:
        raise ValueError(f"budget is {budget}; expected 0 or more, or None for unlimited help")
    world.reset(task, seed)
    return continue_episode(world, task, seed, policy, budget, f"{task}#{seed}" if episode is None else episode)


def continue_episode(
    world: AssistedEnvironment, task: str, seed: int, policy: DecisionPolicy, budget: int | None, episode: str
) -> Episode:
    """Run an episode from the current moment of the world."""
    start_episode(policy, task, seed)
    steps: list[Step] = []
    decisions: list[Decision] = []
    left, refused = budget, 0
    while not world.done:
        decisions.append(policy.decide([*steps, world.state()], None if left is None else (left,)))
        request = decisions[-1].action if decisions[-1].requests_help else None
        if request is not None and not _affordable(world, request, left):
            request, refused = None, refused + 1
        steps.append(world.step(request))
        left = None if left is None else left - steps[-1].charge
    trajectory = Trajectory(
        task=task,
        episode=episode,
        outcome=world.outcome,
        steps=tuple(steps),
        fields={
            "seed": seed,
            "policy": policy_name(policy),
            "budget": budget,
            "refused": refused,
        },
    )
    return Episode(trajectory, decisions)


def _affordable(world: AssistedEnvironment, request: str, left: int | None) -> bool:
    # An unknown name passes; step() raises for it.
    return left is None or request not in world.interventions or world.interventions[request].cost <= left
