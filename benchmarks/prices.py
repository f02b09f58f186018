"""A budget a day for many tasks: a price of the moment against fixed limits for each task, simulated.

python -m benchmarks prices [--tasks 10000] [--days 3] [--share 0.3] [--form tfidf]

A helper is trained on logs of single tasks with budgets of up to 3 units. Then there is one budget a day, of `--share`
units a task; tasks arrive all day. Each decision is made by a `Recorder` over a ledger in memory, whose clock is that
of the simulation. All ways of spending meet the same tasks with the same luck. The bound is the best that any policy
could attain in expectation (`selfreg.frontier` of the true model); luck may exceed it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision
from selfreg.estimate import EstimatedModel, Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, label, train_helper
from selfreg.runtime import Budget, Ledger, PeriodPrice, Recorder, StepToDecide
from selfreg.runtime.prices import Price

DAY = 86_400.0
STAGES, MOST = 4, 3
# Of each kind of task: share, P(no trouble in a stage), P(the agent gets out of trouble alone), P(with help).
KINDS = {
    "routine": (0.4, 0.95, 0.8, 0.97),
    "tangled": (0.3, 0.7, 0.3, 0.9),
    "strange": (0.2, 0.5, 0.1, 0.6),
    "hopeless": (0.1, 0.3, 0.02, 0.1),
}
NAMES = list(KINDS)
TOGETHER = 50  # tasks that arrive at once


class Clock:
    """The time of the simulation."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Remembered:
    """A helper that decides once for each text and budget: there are few of both here."""

    def __init__(self, helper: Helper) -> None:
        self.helper, self.limits, self.costs = helper, helper.limits, helper.costs
        self._known: dict[tuple[str, BudgetLeft], Decision] = {}

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The helper's decision."""
        return self.decide_batch([steps], [budget_left])[0]

    def decide_batch(self, histories: Sequence[Sequence[Step]], budgets_left: Sequence[BudgetLeft]) -> list[Decision]:
        """The helper's decisions."""
        keys = [(one[-1].state, left) for one, left in zip(histories, budgets_left, strict=True)]
        new = {key: one for key, one in zip(keys, histories, strict=True) if key not in self._known}
        self._known |= zip(new, self.helper.decide_batch(list(new.values()), [left for _, left in new]), strict=True)
        return [self._known[key] for key in keys]


def text(kind: str, stage: int, trouble: bool) -> str:
    """What the policy reads."""
    return (
        f"Ticket: a {kind} case. Stage {stage + 1}. {'Error: the tool refused.' if trouble else 'The tool is ready.'}"
    )


def move(kind: str, trouble: bool, helped: bool, luck: float) -> str:
    """Whether a stage is passed, leads to trouble, or fails the task."""
    _, smooth, alone, with_help = KINDS[kind]
    if trouble:
        return "passed" if luck < (with_help if helped else alone) else "failed"
    return "passed" if luck < (max(smooth, with_help) if helped else smooth) else "trouble"


def true_model() -> tuple[selfreg.InterventionMDP, NDArray[np.float64]]:
    """The model of a task, and where tasks start."""
    places = [(kind, stage, trouble) for kind in NAMES for stage in range(STAGES) for trouble in (False, True)]
    n = len(places) + 2
    tables = {"nohelp": np.zeros((n, n)), "person": np.zeros((n, n))}
    for i, (kind, stage, trouble) in enumerate(places):
        for action, table in tables.items():
            _, smooth, alone, with_help = KINDS[kind]
            ahead = n - 2 if stage == STAGES - 1 else places.index((kind, stage + 1, False))
            behind = n - 1 if trouble else places.index((kind, stage, True))
            pair = (alone, with_help) if trouble else (smooth, max(smooth, with_help))
            table[i, ahead] = pair[action == "person"]
            table[i, behind] = 1 - table[i, ahead]
    start = np.zeros(n)
    for kind, (share, *_) in KINDS.items():
        start[places.index((kind, 0, False))] = share
    value = np.full(n, np.nan)
    value[-2:] = 1, 0
    return selfreg.InterventionMDP(tables, value, {"person": 1}), start


def tasks(count: int, random: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Kinds of tasks, and their luck."""
    shares = [share for share, *_ in KINDS.values()]
    for kind in random.choice(NAMES, count, p=shares):
        yield str(kind), random.random(2 * STAGES)


def logs(count: int, seed: int) -> list[Trajectory]:
    """Episodes with help at random."""
    random, episodes = np.random.default_rng(seed), []
    for i, (kind, luck) in enumerate(tasks(count, random)):
        steps, stage, trouble, outcome = [], 0, False, None
        while outcome is None:
            helped = bool(random.random() < 0.3)
            steps.append(Step(text(kind, stage, trouble), intervention="person" if helped else None))
            outcome, stage, trouble = _after(kind, stage, trouble, helped, luck[len(steps) - 1])
        episodes.append(Trajectory(f"task {i}", f"episode {i}", outcome, tuple(steps)))
    return episodes


def _after(kind: str, stage: int, trouble: bool, helped: bool, luck: float) -> tuple[float | None, int, bool]:
    found = move(kind, trouble, helped, luck)
    if found == "failed":
        return 0.0, stage, trouble
    if found == "trouble":
        return None, stage, True
    return (1.0 if stage == STAGES - 1 else None), stage + 1, False


def train(count: int, form: str, seed: int) -> tuple[Helper, EstimatedModel]:
    """A helper for budgets of one task, and the estimated model."""
    classes = {f"{kind} {stage} {trouble}": re.escape(text(kind, stage, trouble))
               for kind in NAMES for stage in range(STAGES) for trouble in (False, True)}  # fmt: skip
    episodes = logs(count, seed)
    model = estimate_mdp(episodes, Features(["class"], classes))
    return train_helper(label(episodes, model, selfreg.solve(model.mdp, MOST)), HelperConfig(form=form)), model


def simulate(
    recorder: Recorder, clock: Clock, arrivals: Callable[[int], list[float]], count: int, days: int, seed: int
) -> tuple[float, float]:
    """Successes and units a task."""
    random, won = np.random.default_rng(seed), 0.0
    for day in range(days):
        todo = list(tasks(count, random))
        for first, share in zip(range(0, count, TOGETHER), arrivals(count), strict=True):
            clock.now = (day + share) * DAY
            batch = {f"{day}/{first + i}": one for i, one in enumerate(todo[first : first + TOGETHER])}
            won += _run_together(recorder, batch)
    used = sum(entry.cost[0] for entry in recorder.ledger.entries("charged"))
    return won / (days * count), used / (days * count)


def _run_together(recorder: Recorder, batch: dict[str, tuple[str, NDArray[np.float64]]]) -> float:
    """Successes of tasks that arrived at once."""
    places, won = dict.fromkeys(batch, (0, False)), 0.0
    for i in range(2 * STAGES):
        steps = [StepToDecide(run, i, [Step(text(batch[run][0], *place))]) for run, place in places.items()]
        for step, decision in zip(steps, recorder.decide_many(steps), strict=True):
            run = str(step.run_id)
            kind, luck = batch[run]
            outcome, *place = _after(kind, *places[run], decision.requests_help, luck[i])
            if decision.requests_help:
                recorder.settle(run, i)
            places[run] = place[0], bool(place[1])
            if outcome is not None:
                won += outcome
                del places[run]
    return won


def evenly(count: int) -> list[float]:
    """Arrivals as expected."""
    return [first / count for first in range(0, count, TOGETHER)]


def at_noon(count: int) -> list[float]:
    """Arrivals around noon, where the price expects them all day."""
    return [0.5 + 0.5 * (2 * share - 1) ** 3 for share in evenly(count)]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 0.3, 0.6])
    parser.add_argument("--logs", type=int, default=3000)
    parser.add_argument("--form", default="tfidf")
    options = parser.parse_args(argv)
    helper, model = train(options.logs, options.form, seed=0)
    policy, expected = Remembered(helper), selfreg.frontier(model.mdp, model.start)
    bound = selfreg.frontier(*true_model())
    days = {"as expected": (evenly, 1.0), "around noon": (at_noon, 1.0), "half as many again": (evenly, 1.5)}
    print(f"{options.days} days of {options.tasks} tasks; success (units a task)")
    for share in options.share:
        for name, (arrivals, load) in days.items():
            count, units = int(options.tasks * load), round(options.tasks * share)
            print(f"{share:g} units a task, {name}: bound {bound.at(units / count).success:.4f}", flush=True)
            ways: dict[str, tuple[int, Price | None]] = {f"limit {k}": (k, None) for k in range(MOST + 1)}
            for way, (limit, price) in (ways | {"price": (MOST, PeriodPrice(expected, options.tasks))}).items():
                clock = Clock()
                budgets = [Budget(units, period="day"), Budget(limit, scope="run")]
                recorder = Recorder(policy, Ledger(budgets, clock=clock), price=price)
                won, used = simulate(recorder, clock, arrivals, count, options.days, seed=1)
                print(f"  {way:10} {won:.4f} ({used:.3f})", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
