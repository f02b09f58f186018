"""Everyone who takes part in a comparison under budgets 1, 2, ...: baselines, plans and the helper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selfreg.data import Trajectory
from selfreg.envs import HelpPolicy, RandomHelp
from selfreg.evaluate.closed_loop import Contestant
from selfreg.evaluate.policies import Always, Never, Plan, Scorer, Threshold
from selfreg.evaluate.schedules import TUNED, EveryN, LastK

# Members of the families that are compared at equal cost; never and always close each family on both sides.
RATES = (0.03, 0.07, 0.12, 0.2, 0.35)
THRESHOLD_QUANTILES = (0.05, 0.1, 0.2, 0.35, 0.6)
PLAN_PRM, PLAN_NEAREST, OPTIMUM = "plan, PRM where unseen", "plan, nearest where unseen", "optimum"


@dataclass(frozen=True)
class PolicyComparison:
    """Settings of a comparison.

    Attributes
    ----------
    help : str
        Help type that the baselines ask for.
    budgets : sequence of int
    horizon : int
        Decisions that an unhelped episode takes (`usual_length`): last-k and every-n go by it.
    thresholds : sequence of float
        Of the PRM threshold without a limit; quantiles of its scores on training states.
    tuned : mapping of int to float
        Threshold chosen on validation tasks, by budget; see `tune_thresholds`.
    plans : mapping of str to Plan
        Plans by name.
    fallback : Plan, optional
        Plan that also takes part as `PLAN_PRM`: with the tuned threshold deciding where it knows nothing.
    cost : int
        Budget units of a request for `help`: last-k and every-n place as many requests as a budget pays.
    """

    help: str
    budgets: Sequence[int]
    horizon: int
    thresholds: Sequence[float]
    tuned: Mapping[int, float] = field(default_factory=dict)
    plans: Mapping[str, Plan] = field(default_factory=dict)
    fallback: Plan | None = None
    cost: int = 1

    def contestants(self, prm: Scorer, helper: HelpPolicy) -> list[Contestant]:
        """Everyone: never, always, random and PRM threshold without a limit, and the others for every budget."""
        known: dict[str, float] = {}  # the PRM's scores, shared by the thresholds
        alone = [Contestant("never", 0, Never()), Contestant("always", None, Always(self.help))]
        alone += [Contestant("random", None, RandomHelp(rate, [self.help]), rate) for rate in RATES]
        alone += [
            Contestant("PRM threshold", None, Threshold(prm, self.help, t, known=known), t) for t in self.thresholds
        ]
        return alone + [one for b in self.budgets for one in self._under(b, prm, helper, known)]

    def _under(self, b: int, prm: Scorer, helper: HelpPolicy, known: dict[str, float]) -> list[Contestant]:
        requests = max(1, b // max(1, self.cost))
        policies: dict[str, HelpPolicy] = {
            "first-k": Always(self.help),
            "last-k": LastK(self.help, requests, self.horizon),
            "every-n": EveryN(self.help, max(1, self.horizon // (requests + 1))),
            **self.plans,
        }
        if b in self.tuned:
            policies[TUNED] = Threshold(prm, self.help, self.tuned[b], TUNED, known)
            if self.fallback is not None:
                policies[PLAN_PRM] = Plan(self.fallback.abstraction, self.fallback.decisions, policies[TUNED])
        return [Contestant(name, b, policy) for name, policy in (policies | {"helper": helper}).items()]


def usual_length(trajectories: Sequence[Trajectory]) -> int:
    """Median number of decisions of unhelped episodes; of all where every one was helped."""
    lengths = [len(t.steps) for t in trajectories if not t.helped] or [len(t.steps) for t in trajectories]
    return max(1, int(np.median(lengths)))


def score_quantiles(
    prm: Any, trajectories: Sequence[Trajectory], quantiles: Sequence[float] = THRESHOLD_QUANTILES, sample: int = 2000
) -> list[float]:
    """Quantiles of the PRM's scores on a sample of the states in some episodes."""
    texts = list(dict.fromkeys(prm.text(t.steps[: i + 1]) for t in trajectories for i in range(len(t.steps))))
    chosen = np.random.default_rng(0).permutation(len(texts))[:sample]
    found: list[float] = np.quantile(prm.score([texts[i] for i in chosen]), quantiles).tolist()
    return found
