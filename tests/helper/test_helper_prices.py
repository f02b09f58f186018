"""Each help type has its own price: helpers request the one that gains most at its price."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import HelperConfig, Labels, label, train_helper
from selfreg.helper.judges import ModelJudge, StepJudge, UsageJudge
from selfreg.helper.models import AUTO, CANDIDATES, FITTED_Q
from selfreg.helper.one_step import QueryJudge
from selfreg.helper.pricing import plan_at_price
from selfreg.helper.rule_list import learn_rules
from selfreg.helper.selection import make_splits

PRICES = {"cheap": 0.05, "dear": 0.5}


def labels_of(logs: list[Trajectory], costs: dict[str, int] | None = None) -> Labels:
    model = estimate_mdp(logs, Features(["step"]), costs=costs)
    return label(logs, model, selfreg.solve(model.mdp, 2))


@pytest.fixture(scope="module")
def labels() -> Labels:
    """Queries that were answered alone (0.2), with cheap (0.7) and with dear help (0.9)."""
    return labels_of(
        [
            Trajectory(f"query {i}", f"{i}/{help}", float(i % 10 < won), (Step(f"query {i % 3}", intervention=help),))
            for i in range(60)
            for help, won in ((None, 2), ("cheap", 7), ("dear", 9))
        ]
    )


@pytest.fixture(scope="module")
def steps() -> Labels:
    """Chance decided at each of two steps who was helped; dear help takes two units."""
    rng, logs = np.random.default_rng(0), []
    for i in range(300):
        taken = [str(one) for one in rng.choice(["nohelp", "cheap", "dear"], 2)]
        won = float(rng.random() < 0.3 + 0.3 * ("dear" in taken))
        told = tuple(Step("go", intervention=None if one == "nohelp" else one) for one in taken)
        logs.append(Trajectory(f"task {i % 30}", str(i), won, told))
    return labels_of(logs, {"cheap": 1, "dear": 2})


@pytest.mark.parametrize("form", [AUTO, *(form for form in CANDIDATES if form != FITTED_Q)])  # of several decisions
def test_the_help_is_requested_that_gains_most_at_its_own_price(labels: Labels, form: str) -> None:
    config = HelperConfig(form=form, history=0)
    for price, action in ((0.0, "dear"), (PRICES, "cheap"), ({"cheap": 0.9, "dear": 1.5}, "nohelp")):
        helper = train_helper(labels, replace(config, price=price))
        if action != "nohelp" or form in (AUTO, "gain", "tfidf", "words"):  # a rule of thumb requests something
            assert helper.decide(["query 1"], (1,)).action == action


def test_rules_to_print_count_each_price(labels: Labels) -> None:
    assert [rule.help for rule in learn_rules(labels).rules] == ["dear"]
    assert [rule.help for rule in learn_rules(plan_at_price(labels, PRICES)).rules] == ["cheap"]


@pytest.mark.parametrize("judge", [QueryJudge.of, ModelJudge, StepJudge.of, UsageJudge])
def test_forms_are_compared_at_the_price_of_what_they_request(labels: Labels, steps: Labels, judge) -> None:
    told = steps if judge == StepJudge.of else labels
    prices, config = told.prices(PRICES), HelperConfig(form="first-k", history=0)
    for price, name in (({"cheap": 0.9}, "dear"), ({"dear": 0.9}, "cheap")):
        helpers = [
            train_helper(told, replace(config, price=price)) for split in make_splits(sorted(set(told.tasks)), 0)
        ]
        found = judge(told, prices, *([0.5] if judge is UsageJudge else [])).forecast(helpers)
        units = sum(told.model.mdp.costs[name])
        assert found.requests > 0
        assert found.paid == pytest.approx(PRICES[name] * found.requests / units)


def test_a_number_is_the_price_of_a_unit(steps: Labels) -> None:
    assert steps.prices(0.02).tolist() == [0.0, 0.02, 0.04]
    assert steps.prices({"dear": 0.3}).tolist() == [0.0, 0.0, 0.3]
    with pytest.raises(ValueError, match="price of 'dear' is -1; expected a number >= 0"):
        HelperConfig(price={"dear": -1})
    with pytest.raises(ValueError, match="price of 'dear' is inf; expected a number >= 0 and below infinity"):
        HelperConfig(price={"dear": float("inf")})
