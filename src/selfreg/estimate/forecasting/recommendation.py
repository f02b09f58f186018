"""Which policy to deploy, by what the log can tell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import log
from typing import NamedTuple

import numpy as np

from selfreg.estimate.forecasting.candidates import Candidate
from selfreg.estimate.forecasting.identification import Identification
from selfreg.estimate.forecasting.logged_steps import Floats
from selfreg.estimate.forecasting.step_effects import Value

# Chances to recommend help that does nothing: by the gain of always requesting it, and by the gain of other policies.
ALWAYS_LEVEL, OTHER_LEVEL = 0.02, 0.005
# The same for comparisons within tasks. Nothing but noise can mislead these, and help that is not bought is lost too.
TASKS_LEVEL = 0.3
# Share of each level that is left to the gain alone where the effect of help on the next state can be tested too.
ALONE = 0.15
# Share of the samples in which a policy must gain where the effect of its help on the next state is what shows it.
LIKELY = 0.6
# Share of the samples in which a policy must be better to replace a simpler one.
BETTER = 0.9
# Quantile of the gains by which help types are compared: those of small budgets are known better.
CAREFUL = 0.25
# Share of the tasks without a known outcome up to which a policy counts as observed.
OBSERVED = 0.02


class Scored(NamedTuple):
    """A policy with its value.

    `bounds` is the value within tasks where `value` depends on an assumption. `gain` over going alone, less the price,
    float64 (1 + samples,), is None where the log does not show it. `immediate` is z of the effect of the policy's
    requests on the next state, where the log shows that.
    """

    candidate: Candidate
    value: Value
    bounds: Value | None
    gain: Floats | None
    immediate: float | None


def choose(scored: Sequence[Scored], found: Identification, tasks: int) -> int:
    """Index of the recommended policy; the first one goes on alone.

    Help is recommended if a policy that requests it gains by more than chance. Where chance decided at single steps, it
    is also recommended if the help improves the next state by more than chance, and the policy gains in most samples: a
    test with more power, and a check of what it leaves out. Then the best simple policy is taken; a plan or a helper
    replaces it where it is better in 90% of the samples. Tests over several policies are of their largest t-statistic.
    """
    if found.design == "none" or (found.design == "episodes" and not found.by_chance):
        return 0
    allowed = [i for i, one in enumerate(scored) if i and one.gain is not None]
    always = [i for i in allowed if scored[i].candidate.policy == "always"]
    top = [i for i in always if is_largest(scored, i)]
    if found.design != "steps":
        # Episodes that went as a policy decides are a selection, unless each task has one.
        others = [i for i in allowed if i not in always and scored[i].value.unknown[0] <= OBSERVED]
        always, allowed = top, [*top, *others] if found.design == "tasks" else top
    rest = [i for i in allowed if i not in always]
    gains = {i: gain for i in allowed if (gain := scored[i].gain) is not None}
    level = TASKS_LEVEL if found.design == "tasks" else ALWAYS_LEVEL
    shown = partial(_shown, scored, gains, tasks=tasks)
    if not shown(always, level) and not shown(rest, OTHER_LEVEL):
        return 0
    simple = [i for i in allowed if scored[i].candidate.simple]
    best = _prefer(gains, _best_type(scored, gains, top), simple)
    return _prefer(gains, [best], [i for i in allowed if i not in simple])


def _best_type(scored: Sequence[Scored], gains: dict[int, Floats], top: Sequence[int]) -> Sequence[int]:
    """Of always at its largest budgets, that of the help type whose gain at some budget is largest, carefully read."""

    def careful(i: int) -> float:
        mine = scored[i].candidate.help
        always = [j for j in gains if scored[j].candidate.policy == "always" and scored[j].candidate.help == mine]
        return max(float(np.quantile(gains[j][1:], CAREFUL)) for j in always)

    return sorted(top, key=careful)[-1:]


def is_largest(scored: Sequence[Scored], i: int) -> bool:
    """Whether this is always, and no other policy always requests the same help under a larger budget."""
    mine = scored[i].candidate
    return mine.policy == "always" and all(
        sum(other.candidate.budget) <= sum(mine.budget)
        for other in scored
        if other.candidate.policy == "always" and other.candidate.help == mine.help
    )


def _shown(scored: Sequence[Scored], gains: dict[int, Floats], which: Sequence[int], level: float, tasks: int) -> bool:
    """Whether the log shows at this level that any of these policies gains."""
    from scipy.special import ndtri  # slow to import

    effects = {i: z for i in which if (z := scored[i].immediate) is not None}
    if not effects:
        return _significant(gains, which, level, tasks)
    least = float(-ndtri((1.0 - ALONE) * level / len(effects)))
    improves = any(z > least and np.mean(gains[i][1:] > 0) > LIKELY for i, z in effects.items())
    return improves or _significant(gains, which, ALONE * level, tasks)


def _significant(gains: dict[int, Floats], which: Sequence[int], level: float, tasks: int) -> bool:
    """Whether any of these gains is above 0 by more than chance.

    The largest t-statistic is compared with its bootstrap distribution. That has no far tail, and is too narrow for few
    tasks; so it must also be significant by Student's t, for as many independent tests as the bootstrap distribution
    has at its `BETTER` quantile.
    """
    from scipy.special import ndtr, stdtrit  # slow to import

    if not which:
        return False
    table = np.stack([gains[i] for i in which])
    mean, samples = table[:, 0], table[:, 1:]
    spread = np.maximum(samples.std(axis=1), 1e-12)
    largest = ((samples - mean[:, None]) / spread[:, None]).max(axis=0)
    tests = max(1.0, log(BETTER) / min(-1e-12, log(ndtr(np.quantile(largest, BETTER)))))
    least = max(float(np.quantile(largest, 1.0 - level)), float(stdtrit(tasks - 1, (1.0 - level) ** (1.0 / tests))))
    return bool((mean / spread).max() > least)


def _prefer(gains: dict[int, Floats], current: Sequence[int], others: Sequence[int]) -> int:
    """The best of `current`, or the best of those of `others` that are better in more than 90% of the samples.

    One that gains over going alone in so many samples also replaces one that does not, if it gains more.
    """
    kept = max(current or others, key=lambda i: gains[i][0])
    sure = {i for i, gain in gains.items() if np.mean(gain[1:] > 0) > BETTER}
    better = [i for i in others if np.mean(gains[i][1:] > gains[kept][1:]) > BETTER or (i in sure and kept not in sure)]
    return max([kept, *better], key=lambda i: gains[i][0])
