"""Tables and targets of `python -m benchmarks evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selfreg._util.bootstrap import Interval
from selfreg.cli.forecasting import in_words
from selfreg.evaluate import ForecastOutcome, Row, compare, paired
from selfreg.evaluate.policies import OPTIMUM, PLAN_NEAREST, PLAN_PRM, TUNED, policy_order

BUDGETS = (1, 2, 3, 4)  # those that the targets name
SHARE, NEAR, MARGIN = 1 / 8, 0.01, 0.15
SEEN_NEAR, ENOUGH_SETTINGS, ENOUGH_LEVELS = 0.02, 8, 5
OPPONENTS = ("random at equal cost", "PRM threshold at equal cost")
RULES = ("first-k", "last-k", "every-n", TUNED, "PRM threshold", "random")


class Result(NamedTuple):
    """What a setting found: the form of its helper, its episodes, and the evaluation of its summary.json."""

    name: str
    form: str
    rows: list[Row]
    evaluation: dict[str, Any]
    seconds: dict[str, float]

    def outcome(self, policy: str, budget: int | None) -> dict[str, Any]:
        """Success and help of a policy."""
        found = [o for o in self.evaluation["outcomes"] if (o["policy"], o["budget"]) == (policy, budget)]
        if not found:
            raise KeyError((policy, budget))
        return dict(found[0])

    def difference(self, other: str, budget: int) -> Interval:
        """Helper minus another policy."""
        found = [d for d in self.evaluation["differences"] if (d["other"], d["budget"]) == (other, budget)]
        return Interval(found[0]["mean"], found[0]["low"], found[0]["high"])

    def has(self, policy: str) -> bool:
        """Whether the policy took part."""
        return any(row.policy == policy for row in self.rows)

    @property
    def budgets(self) -> list[int]:
        """Budgets of the helper."""
        return sorted({row.budget for row in self.rows if row.policy == "helper" and isinstance(row.budget, int)})

    @property
    def unlimited(self) -> tuple[Interval, float]:
        """Always minus never, and the help that always uses."""
        return paired(self.rows, ("always", None), ("never", 0)), float(self.outcome("always", None)["help"]["mean"])


def shown(value: Interval) -> str:
    """An interval as text."""
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def print_setting(result: Result) -> None:
    """All tables of a setting."""
    gain, used = result.unlimited
    never, always = (result.outcome(*key)["success"]["mean"] for key in (("never", 0), ("always", None)))
    seconds = f"{sum(result.seconds.values()):.0f} s"
    print(f"\n== {result.name}: {result.evaluation['tasks']} test tasks, {seconds}")
    print(f"never {never:.3f}, always {always:.3f} with {used:.2f} requests; always minus never {shown(gain)}")
    _print_curve(result)
    _print_stages(result)
    _print_unseen(result)
    for one in result.evaluation["forecasts"]:
        real = {name: Interval(**one[name]) for name in ("success", "usage")}
        print(ForecastOutcome(**(one | real)).words)
    for one in result.evaluation.get("outlooks", []):
        print(in_words(one))


def _print_curve(result: Result) -> None:
    policies = {o["policy"] for o in result.evaluation["outcomes"]} - {"never", "always"}
    head = "".join(f" | budget {b}: success, help" for b in result.budgets)
    print(f"{'policy':26s}{head}")
    for policy in sorted(policies, key=policy_order):
        cells = [result.outcome(policy, b) for b in result.budgets]
        text = "".join(
            " | {mean:.3f} [{low:.3f}, {high:.3f}]".format(**cell["success"]) + f" {cell['help']['mean']:.2f}"
            for cell in cells
        )
        print(f"{policy:26s}{text}")
    for other in (*OPPONENTS, "tuned PRM threshold", "plan"):
        text = "".join(f" | {shown(result.difference(other, b))}" for b in result.budgets)
        print(f"helper minus {other:28s}{text}")


def stages(result: Result, b: int) -> list[tuple[str, Interval]]:
    """What is lost between always-help and the helper, stage by stage, in success."""
    chain: list[tuple[str, tuple[str, int | None]]] = [("always", ("always", None))]
    if result.has(OPTIMUM):
        chain.append(("the budget", (OPTIMUM, b)))
    chain.append(("the estimated model" if result.has(OPTIMUM) else "budget and model", ("plan", b)))
    chain.append(("the helper", ("helper", b)))
    return [(chain[i + 1][0], paired(result.rows, chain[i][1], chain[i + 1][1])) for i in range(len(chain) - 1)]


def _print_stages(result: Result) -> None:
    for b in result.budgets:
        print(f"lost on the way, budget {b}: " + "; ".join(f"{name} {shown(lost)}" for name, lost in stages(result, b)))


def _print_unseen(result: Result) -> None:
    for b in result.budgets:
        share = result.outcome("plan", b)["unseen"]
        against = "; ".join(
            f"{name} {shown(paired(result.rows, (name, b), ('helper', b)))}"
            for name in ("plan", PLAN_PRM, PLAN_NEAREST)
            if result.has(name)
        )
        print(f"unseen states, budget {b}: {100 * share:.1f}% of the plan's steps; minus the helper: {against}")


class Headline(NamedTuple):
    """Whether a policy keeps within a point of always-help at an eighth of its interventions."""

    budget: int | None
    gap: Interval | None
    share: float

    @property
    def met(self) -> bool:
        """Whether the mean gap is at most a point."""
        return self.gap is not None and self.gap.mean <= NEAR


def headline(result: Result, policy: str) -> Headline:
    """Always minus the policy at the largest budget with which it uses no more than an eighth of always' help."""
    used = result.unlimited[1]
    spent = {b: result.outcome(policy, b)["help"]["mean"] / used for b in result.budgets}
    fitting = [b for b in result.budgets if spent[b] <= SHARE]
    if not fitting:
        return Headline(None, None, min(spent.values()))
    best = max(fitting)
    return Headline(best, paired(result.rows, ("always", None), (policy, best)), spent[best])


def on_seen(rows: Sequence[Row], budget: int) -> tuple[Interval | None, float]:
    """Plan minus helper on episodes in which the plan met no unseen state (of two tasks or more), and their share."""
    known = {(row.task, row.seed) for row in rows if (row.policy, row.budget) == ("plan", budget) and not row.unseen}
    total = sum((row.policy, row.budget) == ("plan", budget) for row in rows)
    mine = [row for row in rows if (row.task, row.seed) in known]
    several = len({task for task, _ in known}) > 1
    return (paired(mine, ("plan", budget), ("helper", budget)) if several else None), len(known) / total


def _mark(lower: Interval) -> str:
    return "" if lower.low > 0 else "(-)" if lower.high < 0 else "(=)"


def print_summary(results: Sequence[Result]) -> None:
    """A row for each setting, in Markdown: the table of docs/evaluation.md."""
    print("\n== summary; of differences no mark: interval above zero, (=): it holds zero, (-): below\n")
    head = (
        "setting",
        "never",
        "always (requests)",
        "helper",
        "requests",
        *(f"helper less {other}" for other in OPPONENTS),
        "plan of the test task",
        "plan less helper where the plan knew all states",
    )
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for result in results:
        budgets = [b for b in result.budgets if b in BUDGETS]
        never, always = (result.outcome(*key)["success"]["mean"] for key in (("never", 0), ("always", None)))
        helper, plan = ([result.outcome(name, b) for b in budgets] for name in ("helper", "plan"))
        against = ([result.difference(other, b) for b in budgets] for other in OPPONENTS)
        seen = [on_seen(result.rows, b)[0] for b in budgets]
        cells = (
            f"{result.name} ({result.form})",
            f"{never:.3f}",
            f"{always:.3f} ({result.unlimited[1]:.1f})",
            " ".join(f"{one['success']['mean']:.3f}" for one in helper),
            " ".join(f"{one['help']['mean']:.2f}" for one in helper),
            *(" ".join(f"{one.mean:+.2f}{_mark(one)}" for one in some) for some in against),
            " ".join(f"{one['success']['mean']:.3f}" for one in plan),
            " ".join("none" if one is None else f"{one.mean:+.2f}" for one in seen),
        )
        print(f"| {' | '.join(cells)} |")


def print_forecasts(results: Sequence[Result]) -> None:
    """At how many settings and budgets what was realised lies inside its forecast, and outside what the plan says."""
    for name in ("helper", "never", "first-k", "last-k", "every-n"):
        found = [one for r in results for one in r.evaluation.get("outlooks", []) if one["policy"] == name]
        if found:
            inside = sum(one["inside"] for one in found)
            width = np.mean([one["forecast"]["high"] - one["forecast"]["low"] for one in found])
            error = np.mean([one["forecast"]["mean"] - one["realised"] for one in found])
            print(
                f"forecast of {name}: realised inside of the 90% interval in {inside} of {len(found)} (target of the "
                f"helper 85%), mean width {width:.3f}, mean error {error:+.3f}"
            )
    plans = [one["success_inside"] for result in results for one in result.evaluation["forecasts"]]
    print(f"plan's predicted success outside of the interval of realised success: {plans.count(False)} of {len(plans)}")


def print_seconds(results: Sequence[Result]) -> None:
    """Seconds that each stage of the pipeline took in all settings."""
    spent: dict[str, float] = {}
    for result in results:
        for stage, seconds in result.seconds.items():
            spent[stage] = spent.get(stage, 0.0) + seconds
    each = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in spent.items())
    print(f"seconds of the stages in {len(results)} settings: {each}; together {sum(spent.values()):.0f}")


def print_targets(results: Sequence[Result]) -> None:
    """Each target with its figures, met or missed."""
    print("\n== targets")
    print_headline(results)
    print_opponents(results)
    print_rules(results)
    print_forecasts(results)
    for result in results:
        for b in [b for b in result.budgets if b in BUDGETS]:
            gap, share = on_seen(result.rows, b)
            if gap is None:
                print(f"plan minus helper, {result.name}, budget {b}: no episode without an unseen state")
                continue
            verdict = "met" if gap.mean <= SEEN_NEAR else "missed"
            print(
                f"plan minus helper where the plan knew all states ({100 * share:.0f}% of episodes), {result.name}, "
                f"budget {b}: {shown(gap)}: {verdict} (target {SEEN_NEAR:.2f})"
            )


def print_headline(results: Sequence[Result]) -> None:
    """Success near always-help at an eighth of its interventions."""
    count = 0
    for result in results:
        gain, used = result.unlimited
        if gain.mean < MARGIN:
            print(f"headline, {result.name}: does not count, always beats never by {100 * gain.mean:.1f} points only")
            continue
        for policy in ["helper", "plan", *([OPTIMUM] if result.has(OPTIMUM) else [])]:
            one = headline(result, policy)
            count += policy == "helper" and one.met
            if one.budget is None or one.gap is None:
                print(f"headline, {result.name}, {policy}: no budget uses an eighth of {used:.2f} requests or less")
                continue
            verdict = "within" if one.met else "not within"
            print(
                f"headline, {result.name}, {policy}: {verdict} 1 point of always at budget {one.budget} with "
                f"{100 * one.share:.1f}% of its requests; always minus {policy} {shown(one.gap)}"
            )
    verdict = "met" if count >= ENOUGH_LEVELS else "missed"
    print(f"headline target (helper, {ENOUGH_LEVELS} settings or more): {verdict} ({count} of {len(results)})")


def print_opponents(results: Sequence[Result]) -> None:
    """The helper above random and the PRM threshold, at equal cost, for every budget."""
    count = 0
    for result in results:
        lost = [
            f"{other}, budget {b}"
            for b in BUDGETS
            if b in result.budgets
            for other in OPPONENTS
            if not result.difference(other, b).low > 0
        ]
        count += not lost
        said = f"not: {'; '.join(lost)}" if lost else "all clear"
        print(f"helper above equal-cost baselines, {result.name}: {said}")
    verdict = "met" if count >= ENOUGH_SETTINGS else "missed"
    print(f"equal-cost target ({ENOUGH_SETTINGS} settings or more): {verdict} ({count} of {len(results)})")


def print_rules(results: Sequence[Result]) -> None:
    """The helper less each rule of thumb that is mixed to its mean cost, and how often it is significantly worse."""
    count = worse = 0
    for result in results:
        differences = compare(result.rows, [name for name in RULES if result.has(name)]).differences
        for other in dict.fromkeys(one.other for one in differences if one.other.endswith(" at equal cost")):
            some = [one.difference for one in differences if one.other == other and one.budget in BUDGETS]
            count += len(some)
            worse += sum(one.high < 0 for one in some)
            marked = "; ".join(f"{shown(one)}{_mark(one)}" for one in some)
            print(f"helper minus {other}, {result.name}: {marked}")
    verdict = "met" if not worse else "missed"
    print(f"never significantly below a rule of thumb at equal cost: {verdict} ({worse} of {count} differences)")
