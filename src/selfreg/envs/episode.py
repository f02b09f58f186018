"""One episode under a help policy and a budget that cannot be overspent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from selfreg.data import Step, Trajectory
from selfreg.envs.protocol import AssistedEnvironment


class HelpPolicy(Protocol):
    """Decides at every step whether to ask for help; an attribute `name`, if there is one, is recorded."""

    def start(self, task: str, seed: int) -> None:
        """Forget the last episode; all chance in the decisions of the new one comes from `seed`."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """Return the name of a help type, or None to go on alone.

        Parameters
        ----------
        steps : sequence of Step
            The episode so far; the last one is the current state, without action and intervention.
        budget_left : int or None
            Budget units left; None where help is unlimited.
        """


def run_episode(
    world: AssistedEnvironment,
    task: str,
    seed: int,
    policy: HelpPolicy,
    budget: int | None = None,
    episode: str | None = None,
) -> Trajectory:
    """Run one episode; a request that the budget cannot pay is not executed, and the agent goes on alone.

    Chance in the base policy comes from `seed` alone, so that two help policies are compared on the same luck.

    Parameters
    ----------
    world : AssistedEnvironment
        Where the episode takes place; it is reset first.
    task : str
        Name of the task.
    seed : int
        Seed of the base policy and of `policy`.
    policy : HelpPolicy
        Decides when to ask.
    budget : int or None
        Budget units for the episode; None for unlimited help.
    episode : str or None
        Identity of the episode; None makes one of the task and the seed.

    Returns
    -------
    Trajectory
        `fields` holds seed, policy, budget, and how many requests were refused.

    Raises
    ------
    ValueError
        If the budget is negative or the policy asks for an unknown help type.
    """
    if budget is not None and budget < 0:
        raise ValueError(f"budget is {budget}; expected 0 or more, or None for unlimited help")
    world.reset(task, seed)
    return run_on(world, task, seed, policy, budget, f"{task}#{seed}" if episode is None else episode)


def run_on(
    world: AssistedEnvironment, task: str, seed: int, policy: HelpPolicy, budget: int | None, episode: str
) -> Trajectory:
    """Run an episode from the moment that the world is at."""
    policy.start(task, seed)
    taken: list[Step] = []
    left, refused = budget, 0
    while not world.done:
        request = policy.decide([*taken, world.state()], left)
        if request is not None and not _affordable(world, request, left):
            request, refused = None, refused + 1
        taken.append(world.step(request))
        left = None if left is None else left - taken[-1].charge
    return Trajectory(
        task=task,
        episode=episode,
        outcome=world.outcome,
        steps=tuple(taken),
        fields={
            "seed": seed,
            "policy": str(getattr(policy, "name", type(policy).__name__)),
            "budget": budget,
            "refused": refused,
        },
    )


def _affordable(world: AssistedEnvironment, request: str, left: int | None) -> bool:
    # An unknown name passes, for step() to name it.
    return left is None or request not in world.interventions or world.interventions[request].cost <= left
