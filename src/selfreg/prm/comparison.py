"""A PRM compared with baselines, trained and tested on the same tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from selfreg._util.bootstrap import Interval
from selfreg.data import Trajectory
from selfreg.prm.config import PRMConfig
from selfreg.prm.linear import BASELINES
from selfreg.prm.metrics import by_task, difference_by_task
from selfreg.prm.prm import PRM, collect_visits, score_visits, train_prm


class Contender(NamedTuple):
    """Figures of one model on held-out tasks, and the Brier score of the PRM minus its own (None for the PRM)."""

    name: str
    auroc: Interval
    brier: Interval
    ece: Interval
    gap: Interval | None


def with_baselines(
    prm: PRM, trajectories: Sequence[Trajectory], config: PRMConfig, kinds: Sequence[str] | None = None
) -> PRM:
    """Train baselines with the settings of `prm`; its facts gain the comparison on test tasks.

    Parameters
    ----------
    prm : PRM
        Of `train_prm(trajectories, config)`.
    trajectories : sequence of Trajectory
    config : PRMConfig
    kinds : sequence of str, optional
        By default all baselines except the PRM's own kind; 'embedding' only where `config.model` names an encoder.

    Examples
    --------
    >>> from selfreg.prm import PRMConfig, train_prm, with_baselines
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(f"task {i}", str(i), float(i % 2), (Step("It works." if i % 2 else "An error."),))
    ...     for i in range(40)
    ... ]
    >>> config = PRMConfig(kind="tfidf")
    >>> prm = train_prm(logs, config)
    >>> with_baselines(prm, logs, config).facts["baselines"]["words"].split(";")[0]
    'tfidf beats every other model here'
    """
    if kinds is None:
        kinds = [k for k in BASELINES if k != prm.kind and (k != "embedding" or config.model is not None)]
    others = [train_prm(trajectories, replace(config, kind=kind)) for kind in kinds]
    rows = compare_prms([prm, *others], trajectories, config)
    return replace(
        prm, facts={**prm.facts, "baselines": {"words": describe_comparison(rows), "rows": [_as_json(r) for r in rows]}}
    )


def compare_prms(prms: Sequence[PRM], trajectories: Sequence[Trajectory], config: PRMConfig) -> list[Contender]:
    """Figures on the test tasks of the first PRM; the others are compared with it.

    Examples
    --------
    >>> from selfreg.prm import PRMConfig, train_prm
    >>> from selfreg.prm.comparison import compare_prms
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(f"task {i}", str(i), float(i % 2), (Step("It works." if i % 2 else "An error."),))
    ...     for i in range(40)
    ... ]
    >>> config = PRMConfig(kind="tfidf")
    >>> prm = train_prm(logs, config)
    >>> constant = train_prm(logs, PRMConfig(kind="constant"))
    >>> [(row.name, row.auroc.mean) for row in compare_prms([prm, constant], logs, config)]
    [('tfidf', 1.0), ('constant', 0.5)]
    """
    rows: list[Contender] = []
    reference: Any = None
    for prm in prms:
        test = collect_visits(
            trajectories, replace(config, kind=prm.kind, history=prm.history, show_step=prm.show_step)
        )[1].select_tasks(prms[0].split["test"])
        score = score_visits(prm, test)
        auroc, brier, ece = (
            by_task(m, score, test.outcomes, test.tasks, test.weights) for m in ("auroc", "brier", "ece")
        )
        gap = None
        if reference is not None:
            gap = difference_by_task("brier", reference, score, test.outcomes, test.tasks, test.weights)
        reference = score if reference is None else reference
        rows.append(Contender(prm.kind, auroc, brier, ece, gap))
    return rows


def _as_json(row: Contender) -> dict[str, Any]:
    """JSON values: lists for intervals, None for what is unknown."""
    values: dict[str, Any] = {"name": row.name}
    for name in ("auroc", "brier", "ece", "gap"):
        numbers = getattr(row, name)
        values[name] = None if numbers is None else [None if math.isnan(v) else v for v in numbers]
    return values


def describe_comparison(rows: Sequence[Contender]) -> str:
    """Which model has the lowest Brier score, as a sentence."""
    prm, others = rows[0], [row for row in rows[1:] if row.gap is not None]
    if not others:
        return "There is nothing to compare with."
    best = max(others, key=lambda row: row.gap.mean)  # type: ignore[union-attr]
    assert best.gap is not None
    if best.gap.low == best.gap.high != 0:
        return "There is only one test task: too few to compare models."
    gap = f"{abs(best.gap.mean):.3f} (the difference lies in [{best.gap.low:+.3f}, {best.gap.high:+.3f}])"
    if best.gap.low > 0:
        return (
            f"A baseline wins on these data: {best.name} has a Brier score lower than that of {prm.name} by {gap}. "
            f"Choose it with --prm {best.name}."
        )
    if best.gap.high < 0:
        return f"{prm.name} beats every other model here; the nearest, {best.name}, by {gap} in Brier score."
    lower = best.name if best.gap.mean > 0 else prm.name
    return (
        f"{prm.name} and the baseline {best.name} do not differ significantly on these data: the Brier score of "
        f"{lower} is lower by {gap}. --prm {best.name} chooses the simpler one."
    )
