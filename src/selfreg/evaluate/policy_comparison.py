"""The policies of a comparison: the baselines, plans and helper under each budget, and those of other packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from selfreg.data import Trajectory
from selfreg.data.scorer import StateScorer
from selfreg.decisions import DecisionPolicy
from selfreg.envs import AssistedEnvironment
from selfreg.evaluate.closed_loop import ComparedPolicy, Row, run_closed_loop
from selfreg.evaluate.plans import Plan
from selfreg.evaluate.policies import POLICIES, TUNED, RegisteredPolicy, load_policy
from selfreg.prm.threshold import ThresholdPolicy

THRESHOLD_QUANTILES = (0.05, 0.1, 0.2, 0.35, 0.6)


@dataclass(frozen=True)
class PolicyComparison:
    """Settings of a comparison.

    Attributes
    ----------
    help : str
        Help type that the baselines request.
    budgets : sequence of int
    horizon : int
        Decisions that an unhelped episode takes (`median_length`), for last-k and every-n.
    thresholds : sequence of float
        Of the PRM threshold without a limit; quantiles of its scores on training states.
    tuned : mapping of int to float
        Threshold chosen on validation tasks, by budget; see `tune_thresholds`.
    plans : mapping of str to DecisionPolicy
        "plan", "plan, nearest where unseen", "optimum", as far as they take part.
    fallback : Plan, optional
        Plan that takes part as "plan, PRM where unseen": the tuned threshold decides where it has no decision.
    cost : int
        Budget units of a request for `help`: last-k and every-n place as many requests as a budget pays for.
    added : sequence of str
        Policies of other packages, by the names that `load_policy` takes.
    """

    help: str
    budgets: Sequence[int]
    horizon: int
    thresholds: Sequence[float]
    tuned: Mapping[int, float] = field(default_factory=dict)
    plans: Mapping[str, DecisionPolicy] = field(default_factory=dict)
    fallback: Plan | None = None
    cost: int = 1
    added: Sequence[str] = ()

    def policies(self, prm: StateScorer, helper: DecisionPolicy) -> list[ComparedPolicy]:
        """All registered policies that have what they need, and the added ones.

        Raises
        ------
        ValueError
            If an added policy, or the name of a plan, is unknown.
        """
        registered: list[RegisteredPolicy] = [*POLICIES, *map(load_policy, self.added)]
        unknown = set(self.plans) - {one.name for one in registered}
        if unknown:
            raise ValueError(f"unknown plan {sorted(unknown)[0]!r}; expected the name of a registered policy")
        setup = PolicySetup(self, prm, helper, {})
        return [
            ComparedPolicy(one.name, member.budget, member.policy, member.setting)
            for one in registered
            for member in one.members(setup)
        ]


class PolicySetup(NamedTuple):
    """What a registered policy is made of.

    Attributes
    ----------
    comparison : PolicyComparison
    prm : StateScorer
    helper : DecisionPolicy
    scores : dict of str to float
        The PRM's scores by text, shared by the policies that use them.
    """

    comparison: PolicyComparison
    prm: StateScorer
    helper: DecisionPolicy
    scores: dict[str, float]

    def requests(self, budget: int) -> int:
        """Requests that a budget pays for, at least 1."""
        return max(1, budget // max(1, self.comparison.cost))


def median_length(trajectories: Sequence[Trajectory]) -> int:
    """Median number of decisions of unhelped episodes; of all, where every one was helped."""
    lengths = [len(t.steps) for t in trajectories if not t.helped] or [len(t.steps) for t in trajectories]
    return max(1, int(np.median(lengths)))


def score_quantiles(
    prm: StateScorer,
    trajectories: Sequence[Trajectory],
    quantiles: Sequence[float] = THRESHOLD_QUANTILES,
    sample: int = 2000,
) -> list[float]:
    """Quantiles of the PRM's scores on a sample of the states of some episodes."""
    texts = list(dict.fromkeys(prm.text(t.steps[: i + 1]) for t in trajectories for i in range(len(t.steps))))
    chosen = np.random.default_rng(0).permutation(len(texts))[:sample]
    result: list[float] = np.quantile(prm.score([texts[i] for i in chosen]), quantiles).tolist()
    return result


class TunedThreshold(NamedTuple):
    """A threshold chosen on validation tasks.

    Attributes
    ----------
    policy : ThresholdPolicy
        With the threshold of the highest success.
    candidates : list of (threshold, success, help)
        Success rate and mean budget units of every candidate on the validation tasks.
    """

    policy: ThresholdPolicy
    candidates: list[tuple[float, float, float]]


def tune_thresholds(
    make_world: Callable[[], AssistedEnvironment],
    prm: StateScorer,
    help: str,
    thresholds: Sequence[float],
    tasks: Sequence[str],
    budgets: Sequence[int],
    *,
    episodes_per_task: int = 2,
    seed: int = 0,
) -> dict[int, TunedThreshold]:
    """Choose the PRM threshold of the highest success on validation tasks, for each of several budgets.

    Parameters
    ----------
    make_world : callable
    prm : StateScorer
    help : str
        Help type to request.
    thresholds : sequence of float
        Candidates, such as quantiles of the PRM's scores on training states.
    tasks : sequence of str
        Validation tasks: neither trained on nor reported on.
    budgets : sequence of int
        Budget units of an episode, never overspent.
    episodes_per_task, seed : int

    Returns
    -------
    dict of int to TunedThreshold
        By budget. Of ties the one with fewer requests, then the lower threshold.

    Raises
    ------
    ValueError
        If there are no thresholds or no tasks.
    """
    if not len(thresholds) or not len(tasks):
        raise ValueError("tune_thresholds needs at least one threshold and one validation task")
    scores: dict[str, float] = {}
    candidates = sorted({float(threshold) for threshold in thresholds})
    policies = {t: ThresholdPolicy(prm, help, t, name=TUNED, scores=scores) for t in candidates}
    compared = [ComparedPolicy(TUNED, b, policies[t], t) for b in budgets for t in candidates]
    rows = run_closed_loop(
        make_world, partial(list, compared), tasks, episodes_per_task=episodes_per_task, seed=seed, workers=1
    )
    return {b: _choose([row for row in rows if row.budget == b], policies) for b in budgets}


def _choose(rows: Sequence[Row], policies: Mapping[float, ThresholdPolicy]) -> TunedThreshold:
    table = []
    for t in policies:
        mine = [row for row in rows if row.setting == t]
        table.append((t, float(np.mean([r.success for r in mine])), float(np.mean([r.help for r in mine]))))
    best = min(table, key=lambda entry: (-entry[1], entry[2], entry[0]))
    return TunedThreshold(replace(policies[best[0]], scores={}), table)
