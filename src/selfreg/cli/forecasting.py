"""The forecast of a run: the recommendation, and what every policy will attain on new tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.cli.prices import NO_PRICES, Prices
from selfreg.cli.terminal import remark, say, table
from selfreg.data import Trajectory
from selfreg.data.scorer import CachedScorer, StateScorer
from selfreg.decisions import DecisionPolicy
from selfreg.estimate import EstimatedModel, estimate_mdp, forecast
from selfreg.estimate.forecasting.results import PolicyForecasts
from selfreg.helper import HelperConfig, Labels, label
from selfreg.helper.models import CANDIDATES
from selfreg.helper.pricing import plan_at_price
from selfreg.helper.rule_list import RuleList, learn_rules
from selfreg.planning.hard import solve
from selfreg.runs import RunFolder

SCHEMA = "selfreg.summary/2"
# Forms of helpers that are trained in seconds, and so once more for each fold of tasks.
QUICK_FORMS = CANDIDATES
# Share of a fold's tasks that are held out for figures, which nobody reads: one task.
NO_TEST = 1e-9
UNPRICED = (
    "The plan is for the most success within the budget, whatever a request costs. Prices count in the recommendation, "
    "the helper and the rules to print."
)


def add_forecast(
    run: RunFolder,
    trajectories: Sequence[Trajectory],
    model: EstimatedModel,
    budget: int | tuple[int, ...],
    helper: HelperConfig | None = None,
    prices: Prices = NO_PRICES,
    seed: int = 0,
) -> None:
    """Add "recommendation" and "forecast" to summary.json, or a note that says why there is none."""
    given = prices.of_help(model.mdp.actions[1:])
    price, summary, trainer = given.in_units_of_success(), run.summary(), None
    prm = CachedScorer(run.prm()) if run.has("prm") else None
    if helper is not None and helper.form in QUICK_FORMS:
        trainer = _Trainer(run, model, budget, helper, prm)
    elif helper is not None:
        remark(f"note: helpers of the form {helper.form!r} take long to train; the forecast is without one")
    rules = _RuleTrainer(run, model, budget, HelperConfig(price=price), prm) if isinstance(budget, int) else None
    try:
        result = forecast(
            trajectories, model.abstraction, budget, helper=trainer, beside=rules, price=price,
            costs=dict(model.mdp.costs), prm=prm, seed=seed,
        )  # fmt: skip
    except ValueError as error:
        found: dict[str, Any] = {"recommendation": None, "forecast": [], "forecast_note": f"no forecast: {error}"}
    else:
        found = result.to_json()
        found["rules"] = None if rules is None else _rules(trajectories, result, rules)
    notes = [note for note in summary["notes"] if note != UNPRICED]
    if any(price.values()):
        notes.append(UNPRICED)
        remark(f"note: {UNPRICED}")
    run.write_summary(summary | {"schema": SCHEMA, "prices": given.to_json(), "notes": notes} | found)


def prices_of(run: RunFolder) -> Prices:
    """Those of its forecast; none where summary.json is missing or damaged."""
    try:
        return Prices(**(run.summary().get("prices") or {}))
    except ValueError:
        return NO_PRICES


def renew_forecast(run: RunFolder, prices: Prices) -> None:
    """Forecast anew at these prices, with the helper that the run has."""
    model, recorded = run.model(), run.settings().get("helper")
    budget = run.solution(model).budget
    names = {field.name for field in fields(HelperConfig)}
    settings = {name: value for name, value in (recorded or {}).items() if name in names}
    helper = HelperConfig(**settings) if recorded else None
    limit = budget[0] if len(budget) == 1 else budget
    add_forecast(run, run.trajectories(), model, limit, helper, prices)


def _rules(trajectories: Sequence[Trajectory], result: PolicyForecasts, trainer: _RuleTrainer) -> dict[str, Any] | None:
    """Rules to print, with what they will attain on new tasks: they are learned anew in each fold of tasks."""
    chosen = result.recommendation if result.recommended else result.outlooks[-1]
    mine = next((one for one in result.beside if one.budget == chosen.budget), None)
    rules = trainer(trajectories).rules if mine is not None else ()
    if mine is None or not rules:
        return None
    rivals = [one for one in result.outlooks if one.policy in ("plan", "helper") and one.budget == chosen.budget]
    other, alone = rivals[-1], result.outlooks[0]
    gain = other.success.mean - alone.success.mean
    known = mine.identified and other.identified and gain > 0
    kept = (mine.success.mean - alone.success.mean) / gain if known else None
    found = {"rules": [str(rule) for rule in rules], "of": other.policy, "kept": kept}
    return mine.to_json() | {"policy": "rules"} | found


class _Trainer:
    """Trains the run's helper from other episodes, with the run's settings."""

    def __init__(
        self,
        run: RunFolder,
        model: EstimatedModel,
        budget: int | tuple[int, ...],
        config: HelperConfig,
        prm: StateScorer | None,
    ) -> None:
        self.model, self.budget, self.config, self.prm = model, budget, config, prm
        trained = run.settings().get("helper", {})
        self.calibrated, self.usage = bool(trained.get("calibrated")), trained.get("usage")

    def __call__(self, episodes: Sequence[Trajectory]) -> DecisionPolicy:
        with require_extra("ml", "training a helper"):
            from selfreg.helper import calibrate, ration
            from selfreg.helper.train import train_bare
        labels, config = self.label(episodes, self.model.kappa), self.config
        if not self.calibrated and self.usage is None:  # so that it learns from about as many tasks as the run's helper
            config = replace(config, test_share=NO_TEST)
        helper = train_bare(labels, config)
        if self.calibrated:
            helper = calibrate(helper, labels)
        return helper if self.usage is None else ration(helper, labels, self.usage)

    def label(self, episodes: Sequence[Trajectory], kappa: float) -> Labels:
        """Labels of the plan of these episodes, with so many pseudo-counts."""
        helped = {step.intervention for t in episodes for step in t.steps}
        costs = {name: cost for name, cost in self.model.mdp.costs.items() if name in helped}
        fitted = estimate_mdp(episodes, self.model.abstraction, kappa=kappa, prm=self.prm, costs=costs)
        return label(episodes, fitted, solve(fitted.mdp, self.budget))


class _RuleTrainer(_Trainer):
    """Learns rules instead, from counts alone."""

    def __call__(self, episodes: Sequence[Trajectory]) -> RuleList:
        return learn_rules(plan_at_price(self.label(episodes, 0.0), self.config.price))


def show_forecast(summary: dict[str, Any]) -> None:
    """Print the recommendation, and the forecast of never, always, plan and helper."""
    if summary.get("forecast_note"):
        say(summary["forecast_note"])
    chosen = summary.get("recommendation")
    if not chosen:
        return
    say(chosen["words"])
    say(chosen["reason"])
    for line in chosen["by_help"]:
        say(line)
    shown = [one for one in summary["forecast"] if one["policy"] != "rule" or _same(one, chosen)]
    rows = [
        [
            " ".join(filter(None, [one["policy"], one["rule"], one["help"]])),
            str(one["budget"]),
            _in_words(one["success"], one["identified"], 100.0, "%"),
            _in_words(one["requests"], one["identified"], 1.0, ""),
        ]
        for one in shown
    ]
    percent = f"{100 * chosen['confidence']:.0f}%"
    table("forecast on new tasks", ["policy", "budget", f"success ({percent} interval)", "requests a task"], rows)


def compare_with_realised(
    forecasts: Sequence[dict[str, Any]], outcomes: Sequence[dict[str, Any]], help_type: str
) -> list[dict[str, Any]]:
    """Forecasts of never, rules and helper beside the realised ones in closed loop; "inside" the interval or not.

    In closed loop rules request `help_type`.
    """
    realised = {(one["policy"], one["budget"]): one for one in outcomes}
    found = []
    for one in forecasts:
        name = "first-k" if one["policy"] == "always" else one["rule"] or one["policy"]
        other = realised.get((name, one["budget"]))
        if other is None or name == "plan":  # the plan in closed loop is made from logs of the same tasks
            continue
        if one["help"] not in (None, help_type):
            continue
        forecast_, mean = one["success"], other["success"]["mean"]
        inside = forecast_["low"] <= mean <= forecast_["high"]
        found.append({"policy": name, "budget": one["budget"], "forecast": forecast_, "requests": one["requests"],
                      "realised": mean, "realised_requests": other["help"]["mean"], "inside": inside})  # fmt: skip
    return found


def in_words(one: dict[str, Any]) -> str:
    """A forecast beside the realised value, as a line."""
    forecast_ = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**one["forecast"])
    place = "inside" if one["inside"] else "outside"
    return (
        f"budget {one['budget']}: {one['policy']}, forecast success {forecast_}, realised {one['realised']:.3f} "
        f"({place}); requests {one['requests']['mean']:.2f}, realised units {one['realised_requests']:.2f}"
    )


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("policy", "rule", "help", "budget"))


def _in_words(interval: dict[str, float], identified: bool, scale: float, unit: str) -> str:
    """A mean with its interval; bounds alone where there is no estimate."""
    mean, low, high = (scale * interval[name] for name in ("mean", "low", "high"))
    digits = 1 if unit else 2
    bounds = f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{mean:.{digits}f}{unit} ({bounds})" if identified else f"between {bounds.replace(' to ', ' and ')}{unit}"
