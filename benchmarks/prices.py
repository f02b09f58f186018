"""A budget a day for many tasks: a price of the moment against fixed limits for each task, simulated.

python -m benchmarks prices [--tasks 2000] [--days 5] [--share 0.3] [--form tfidf]

A helper is trained on logs of single tasks with budgets of up to 3 units. Then there is one budget a day, of `--share`
units a task. Each decision is made by a `Recorder` over a ledger in memory, whose clock is that of the simulation. All
ways of spending meet the same tasks with the same luck. The even price expects `--tasks` tasks a day, spread evenly;
the price expects what the recorder of a fixed limit saw of the same days, by the hour of the week.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision
from selfreg.estimate import EstimatedModel, Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, label, train_helper
from selfreg.runtime import Budget, Ledger, PeriodPrice, Recorder, StepToDecide, estimate_arrivals
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
TOGETHER = 20  # tasks that arrive at once
MONDAY = 4  # days since 1970
Arrival = Callable[[int], list[float]]  # when the tasks of a day come, as shares of it


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
    labels = label(episodes, model, selfreg.solve(model.mdp, MOST))
    return train_helper(labels, HelperConfig(form=form, history=0)), model  # it gets one state, not the steps before


class Spending(NamedTuple):
    """Successes and units of each day."""

    won: NDArray[np.float64]
    used: NDArray[np.float64]


def simulate(recorder: Recorder, clock: Clock, arrivals: Arrival, first_day: int, days: int, seed: int) -> Spending:
    """Days of tasks that arrive as `arrivals` says."""
    random, won, used = np.random.default_rng(seed), np.zeros(days), np.zeros(days)
    for day in range(days):
        shares = arrivals(day)
        todo = list(tasks(len(shares), random))
        for first in range(0, len(shares), TOGETHER):
            clock.now = (first_day + day + shares[first]) * DAY
            batch = {f"{first_day + day}/{first + i}": one for i, one in enumerate(todo[first : first + TOGETHER])}
            won[day] += _run_together(recorder, batch)
        entries = recorder.ledger.entries("charged")
        used[day] = sum(entry.cost[0] for entry in entries) - used[:day].sum()
    return Spending(won, used)


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
    return [i / count for i in range(count)]


def at_noon(count: int) -> list[float]:
    """Arrivals around noon."""
    return [0.5 + 0.5 * (2 * share - 1) ** 3 for share in evenly(count)]


def at_work(count: int) -> list[float]:
    """Arrivals from nine to five."""
    return [(9 + 8 * share) / 24 for share in evenly(count)]


def patterns(count: int) -> dict[str, Arrival]:
    """When tasks come, day by day, where `count` a day are expected; day 0 is a Monday."""
    return {
        "as expected": lambda day: evenly(count),
        "around noon": lambda day: at_noon(count),
        "nine to five, Monday twice": lambda day: at_work(2 * count if day == 0 else count * 3 // 4),
        "half as many": lambda day: evenly(count // 2),
        "half as many again": lambda day: evenly(count * 3 // 2),
    }


def spend(
    policy: Remembered, arrivals: Arrival, units: int, limit: int, days: int, price: Price | None
) -> tuple[Spending, Recorder]:
    """Spending with a budget of `units` a day; the tasks are the same whatever the price and the limit."""
    clock = Clock()
    ledger = Ledger([Budget(units, period="day"), Budget(limit, scope="run")], clock=clock)
    recorder = Recorder(policy, ledger, price=price)
    return simulate(recorder, clock, arrivals, MONDAY, days, seed=1), recorder


def interval(differences: NDArray[np.float64]) -> str:
    """Mean with a 95% interval over days."""
    n = len(differences)
    half = float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / n**0.5) if n > 1 else math.nan
    return f"{differences.mean():.4f} [{differences.mean() - half:.4f}, {differences.mean() + half:.4f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 0.3, 0.6])
    parser.add_argument("--logs", type=int, default=3000)
    parser.add_argument("--form", default="tfidf")
    options = parser.parse_args(argv)
    helper, model = train(options.logs, options.form, seed=0)
    policy, expected = Remembered(helper), selfreg.frontier(model.mdp, model.start)
    print(f"{options.days} days, {options.tasks} tasks a day expected; success (share of the units that was used)")
    print("| units a task | arrivals | limit 1 | limit 2 | limit 3 | even price | price | price less best limit |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for share in options.share:
        units = round(options.tasks * share)
        for name, arrivals in patterns(options.tasks).items():
            count = np.array([len(arrivals(day)) for day in range(options.days)])
            found = {}
            for limit in range(1, MOST + 1):
                found[limit], recorder = spend(policy, arrivals, units, limit, options.days, None)
            # The same days, with a fixed limit, say when tasks come.
            seen = estimate_arrivals(recorder.decisions())
            prices = PeriodPrice(expected, options.tasks), PeriodPrice(expected, seen)
            ways = [*found.values(), *(spend(policy, arrivals, units, MOST, options.days, one)[0] for one in prices)]
            cells = [f"{one.won.sum() / count.sum():.4f} ({one.used.sum() / units / options.days:.2f})" for one in ways]
            best = max(found.values(), key=lambda one: float(one.won.sum()))
            cells.append(interval((ways[-1].won - best.won) / count))
            print(f"| {share:g} | {name} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
