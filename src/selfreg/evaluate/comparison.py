"""Success against help used: intervals clustered by task, baselines at equal cost, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util.bootstrap import Interval, bootstrap, interval
from selfreg.evaluate.closed_loop import Row

Floats = npt.NDArray[np.float64]


class Outcome(NamedTuple):
    """Success and help of one policy under one budget (None: unlimited).

    Attributes
    ----------
    policy : str
    budget : int, str (several budgets, such as "2,1"), or None
    success, help : Interval
        Means over tasks; help in budget units per episode.
    steps : float
        Mean decisions per episode.
    unseen : float or None
        Share of decisions at states that the plan lacks; None for other policies.
    """

    policy: str
    budget: int | str | None
    success: Interval
    help: Interval
    steps: float
    unseen: float | None


class Difference(NamedTuple):
    """Success of the helper minus that of another policy, paired by task."""

    budget: int | str
    other: str
    difference: Interval

    @property
    def words(self) -> str:
        """The difference as a sentence."""
        low, high = self.difference.low, self.difference.high
        verdict = "beats" if low > 0 else "falls short of" if high < 0 else "is not significantly different from"
        return f"budget {self.budget}: the helper {verdict} {self.other}"


class Comparison(NamedTuple):
    """Outcomes of all policies, and the helper against each other one, per budget."""

    outcomes: list[Outcome]
    differences: list[Difference]


class _Entry(NamedTuple):
    success: Floats  # mean per task
    help: Floats
    steps: float
    unseen: float


def at_cost(costs: Floats, successes: Floats, target: float) -> float:
    """Success of the mixture of two neighbouring members of a family whose mean cost is `target`.

    A mixture draws one of the two policies for each episode, and costs exactly `target` on average. Outside of the
    range of the family it is the nearest member.
    """
    order = np.argsort(costs, kind="stable")
    return float(np.interp(target, costs[order], successes[order]))


def compare(rows: Sequence[Row], families: Sequence[str] = ("random", "PRM threshold")) -> Comparison:
    """Compare policies by episode rows.

    Parameters
    ----------
    rows : sequence of Row
        Of `run_closed_loop`, with policies `never`, `always`, the members of `families` without a budget, and per
        budget `helper` and others to compare it with, such as `first-k`, `last-k`, `every-n`, `plan`.
    families : sequence of str
        Policies with a setting. They are shown at the mean cost of the helper under each budget, as the mixture of two
        neighbouring members; `never` and `always` are members too. They meet the helper's cost on average only, while
        the helper has a limit in every episode. Where the helper costs more than all of them, the member of the highest
        cost is shown at its own cost.

    Returns
    -------
    Comparison
        Intervals are 95% percentile bootstrap intervals over tasks; each resample has its own mixtures.

    Raises
    ------
    ValueError
        If there are fewer than two tasks, a policy was not run on all of them, or `never` or `always` is missing beside
        a family.
    """
    tasks = several_tasks(row.task for row in rows)
    entries = _entries(rows, tasks)
    for end in (("never", 0, 0.0), ("always", None, 0.0)):
        if end not in entries and any(name in families for name, _, _ in entries):
            raise ValueError(f"{end[0]!r} has no episodes under budget {end[1]}; families are compared with it")
    samples = bootstrap(len(tasks))
    outcomes = [
        _outcome(name, budget, entry, samples)
        for (name, budget, _), entry in entries.items()
        if name not in families and name != "helper"
    ]
    differences = []
    for budget in sorted({row.budget for row in rows if row.policy == "helper" and row.budget is not None}):
        helper = entries["helper", budget, 0.0]
        outcomes.append(_outcome("helper", budget, helper, samples))
        for family in families:
            members = [entry for (name, _, _), entry in entries.items() if name == family]
            if members:
                members += [entries["never", 0, 0.0], entries["always", None, 0.0]]
                outcome, difference = _match(family, budget, helper, members, samples)
                outcomes.append(outcome)
                differences.append(difference)
        for (name, other, _), entry in entries.items():
            if other == budget and name not in (*families, "helper"):
                gap = helper.success - entry.success
                differences.append(Difference(budget, name, interval(gap.mean(), gap[samples].mean(axis=1))))
    return Comparison(outcomes, differences)


def paired(rows: Sequence[Row], first: tuple[str, int | str | None], second: tuple[str, int | str | None]) -> Interval:
    """Success of one policy minus that of another, each as (name, budget): mean and 95% interval, paired by task.

    Raises
    ------
    ValueError
        If one of them has no episodes, or several settings, or lacks a task of the other; for a single task.

    Examples
    --------
    >>> from selfreg.evaluate import Row, paired
    >>> rows = [Row("plan", 0.0, 1, f"task {i}", 0, 1.0, 1, 5, 0) for i in range(40)]
    >>> rows += [row._replace(policy="never", budget=0, success=float(i % 2)) for i, row in enumerate(rows)]
    >>> round(paired(rows, ("plan", 1), ("never", 0)).mean, 3)
    0.5
    """
    chosen = [row for row in rows if (row.policy, row.budget) in (first, second)]
    for name in (first, second):
        settings = {row.setting for row in chosen if (row.policy, row.budget) == name}
        if len(settings) != 1:
            problem = "several settings" if settings else "no episodes"
            raise ValueError(f"{name[0]!r} has {problem} under budget {name[1]}")
    tasks = several_tasks(row.task for row in chosen)
    entries = {key[:2]: entry for key, entry in _entries(chosen, tasks).items()}
    gap = entries[first].success - entries[second].success
    return interval(gap.mean(), gap[bootstrap(len(tasks))].mean(axis=1))


def several_tasks(names: Iterable[str]) -> list[str]:
    """Distinct tasks in order of appearance; ValueError for fewer than two, which give no interval."""
    tasks = list(dict.fromkeys(names))
    if len(tasks) < 2:
        raise ValueError(f"the rows are of {len(tasks)} task(s); intervals over tasks need at least two")
    return tasks


def _entries(rows: Sequence[Row], tasks: Sequence[str]) -> dict[tuple[str, int | str | None, float], _Entry]:
    place = {task: i for i, task in enumerate(tasks)}
    groups: dict[tuple[str, int | str | None, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.policy, row.budget, row.setting), []).append(row)
    result = {}
    for key, group in groups.items():
        index = np.array([place[row.task] for row in group])
        episodes = np.bincount(index, minlength=len(tasks))
        if not episodes.all():
            without = tasks[int(np.argmin(episodes))]
            raise ValueError(f"{key[0]!r} under budget {key[1]} was not run on task {without!r}")
        steps = sum(row.steps for row in group)
        result[key] = _Entry(
            np.bincount(index, [row.success for row in group], len(tasks)) / episodes,
            np.bincount(index, [row.help for row in group], len(tasks)) / episodes,
            steps / len(group),
            sum(row.unseen for row in group) / steps,
        )
    return result


def _outcome(name: str, budget: int | str | None, entry: _Entry, samples: npt.NDArray[np.int64]) -> Outcome:
    success = interval(entry.success.mean(), entry.success[samples].mean(axis=1))
    used = interval(entry.help.mean(), entry.help[samples].mean(axis=1))
    return Outcome(name, budget, success, used, entry.steps, entry.unseen if name.startswith("plan") else None)


def _match(
    family: str, budget: int | str, helper: _Entry, members: Sequence[_Entry], samples: npt.NDArray[np.int64]
) -> tuple[Outcome, Difference]:
    """The family at the helper's mean cost, and the helper's success minus its."""
    costs, successes = np.stack([m.help for m in members]), np.stack([m.success for m in members])
    mean = at_cost(costs.mean(axis=1), successes.mean(axis=1), helper.help.mean())
    drawn = np.array(
        [at_cost(costs[:, s].mean(axis=1), successes[:, s].mean(axis=1), helper.help[s].mean()) for s in samples]
    )
    # Where the helper costs more than all members, the family spends as much as its most expensive one.
    means = costs.mean(axis=1)
    target = float(np.clip(helper.help.mean(), means.min(), means.max()))
    ranges = costs[:, samples].mean(axis=2)
    spent = np.clip(helper.help[samples].mean(axis=1), ranges.min(axis=0), ranges.max(axis=0))
    steps = float(np.interp(target, *_sorted(means.tolist(), [m.steps for m in members])))
    outcome = Outcome(family, budget, interval(mean, drawn), interval(target, spent), steps, None)
    gap = helper.success[samples].mean(axis=1) - drawn
    other = f"{family} at equal cost"
    return outcome, Difference(budget, other, interval(helper.success.mean() - mean, gap))


def _sorted(x: Sequence[float], y: Sequence[float]) -> tuple[Floats, Floats]:
    order = np.argsort(x, kind="stable")
    return np.asarray(x)[order], np.asarray(y)[order]
