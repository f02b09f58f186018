"""More baselines: help at fixed times, and a PRM threshold tuned on validation tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from selfreg.data import Step
from selfreg.envs import AssistedEnvironment
from selfreg.evaluate.closed_loop import Contestant, Row, run_closed_loop
from selfreg.evaluate.policies import Scorer, Threshold

TUNED = "tuned PRM threshold"


@dataclass
class LastK:
    """Asks for `help` in the last `k` decisions up to number `horizon`, and after it, while there is budget.

    Nobody knows when an episode will end; `horizon` is a guess made beforehand, such as the median number of
    decisions of unhelped episodes of the training tasks.

    Raises
    ------
    ValueError
        If `k` or `horizon` is below 1.
    """

    help: str
    k: int
    horizon: int
    name: str = "last-k"

    def __post_init__(self) -> None:
        for field, value in (("k", self.k), ("horizon", self.horizon)):
            if value < 1:
                raise ValueError(f"LastK.{field} is {value}; expected at least 1")

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The help type from decision `horizon` - k + 1 on."""
        return self.help if budget_left != 0 and len(steps) > self.horizon - self.k else None


@dataclass
class EveryN:
    """Asks for `help` at every n-th decision, the first time at decision number n, while there is budget.

    Raises
    ------
    ValueError
        If `n` is below 1.
    """

    help: str
    n: int
    name: str = "every-n"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"EveryN.n is {self.n}; expected at least 1")

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The help type at decisions n, 2n, ..."""
        return self.help if budget_left != 0 and len(steps) % self.n == 0 else None


class Tuned(NamedTuple):
    """A threshold chosen on validation tasks.

    Attributes
    ----------
    policy : Threshold
        Asks below the threshold that did best.
    candidates : list of (threshold, success, help)
        What every candidate did on the validation tasks: success rate and mean budget units.
    """

    policy: Threshold
    candidates: list[tuple[float, float, float]]


def tune_threshold(
    make_world: Callable[[], AssistedEnvironment],
    prm: Scorer,
    help: str,
    thresholds: Sequence[float],
    tasks: Sequence[str],
    budget: int,
    *,
    episodes_per_task: int = 2,
    seed: int = 0,
) -> Tuned:
    """Choose the PRM threshold that succeeds most under a budget on validation tasks; see `tune_thresholds`."""
    chosen = tune_thresholds(
        make_world, prm, help, thresholds, tasks, [budget], episodes_per_task=episodes_per_task, seed=seed
    )
    return chosen[budget]


def tune_thresholds(
    make_world: Callable[[], AssistedEnvironment],
    prm: Scorer,
    help: str,
    thresholds: Sequence[float],
    tasks: Sequence[str],
    budgets: Sequence[int],
    *,
    episodes_per_task: int = 2,
    seed: int = 0,
) -> dict[int, Tuned]:
    """Choose the PRM threshold that succeeds most on validation tasks, for each of several budgets.

    Parameters
    ----------
    make_world : callable
    prm : Scorer
    help : str
        Help type to ask for.
    thresholds : sequence of float
        Candidates, such as quantiles of the PRM's scores on training states.
    tasks : sequence of str
        Validation tasks: neither trained on nor reported on.
    budgets : sequence of int
        Budget units of an episode, never overspent.
    episodes_per_task, seed : int

    Returns
    -------
    dict of int to Tuned
        By budget. Of equals the one that asks less, then the lower threshold.

    Raises
    ------
    ValueError
        If there are no thresholds or no tasks.
    """
    if not len(thresholds) or not len(tasks):
        raise ValueError("tune_threshold needs at least one threshold and one validation task")
    known: dict[str, float] = {}
    candidates = sorted({float(threshold) for threshold in thresholds})
    policies = {t: Threshold(prm, help, t, TUNED, known) for t in candidates}
    contestants = [Contestant(TUNED, b, policies[t], t) for b in budgets for t in candidates]
    rows = run_closed_loop(
        make_world, partial(list, contestants), tasks, episodes_per_task=episodes_per_task, seed=seed, workers=1
    )
    return {b: _best([row for row in rows if row.budget == b], policies) for b in budgets}


def _best(rows: Sequence[Row], policies: Mapping[float, Threshold]) -> Tuned:
    table = []
    for t in policies:
        mine = [row for row in rows if row.setting == t]
        table.append((t, float(np.mean([r.success for r in mine])), float(np.mean([r.help for r in mine]))))
    best = min(table, key=lambda entry: (-entry[1], entry[2], entry[0]))
    return Tuned(replace(policies[best[0]], known={}), table)
