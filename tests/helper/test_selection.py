"""The form that is forecast to do best is kept, a rule of thumb where nothing learnt is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import selfreg
from helper_cases import QUICK, WORDS, rule_examples, state
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, Labels, label, train_helper
from selfreg.helper.fitted_q import PooledSteps
from selfreg.helper.judges import FittedJudge, StepJudge
from selfreg.helper.models import CANDIDATES, GAIN, RULES
from selfreg.helper.models.rules import count_requests
from selfreg.helper.rules import train_rule
from selfreg.helper.selection import make_splits

AUTO = HelperConfig(history=0)
LENGTH = 5


def late_help(tasks: int = 15, episodes: int = 24, recurring: int | None = None) -> list[Trajectory]:
    """Help decides at the last of five steps, and only there; the texts say nothing.

    Of ten episodes so many have keys that recur, the others keys of their own.
    """
    rng, logs = np.random.default_rng(3), []
    for i in range(tasks * episodes):
        helped = rng.random(LENGTH) < 0.4
        keys = [None if recurring is None else str(t) if i % 10 < recurring else f"{i} {t}" for t in range(LENGTH)]
        steps = tuple(
            Step(state(str(rng.choice(WORDS)), rng), key=key, intervention="help" if h else None)
            for h, key in zip(helped, keys, strict=True)
        )
        logs.append(Trajectory(f"task {i % tasks}", str(i), float(rng.random() < (0.95 if helped[-1] else 0.1)), steps))
    return logs


@pytest.fixture(scope="module")
def late_labels() -> Labels:
    model = estimate_mdp(late_help(), Features(["step"]), shrink=False)
    return label(late_help(), model, selfreg.solve(model.mdp, 2))


@pytest.fixture(scope="module")
def late_helper(late_labels: Labels) -> Helper:
    return train_helper(late_labels, AUTO)


def test_a_rule_is_deployed_where_it_wins(late_helper: Helper) -> None:
    assert late_helper.classifier.form == "last-k"
    decided = [late_helper.decide(["any text"] * n, (1,)).action for n in range(1, LENGTH + 1)]
    assert decided == ["nohelp"] * (LENGTH - 1) + ["help"]
    assert late_helper.decide(["any text"] * LENGTH, (0,)).action == "nohelp"
    assert late_helper.figures["success"] == pytest.approx(late_helper.figures["success_plan"], abs=0.02)


def test_what_is_kept_is_not_forecast_to_be_worse_than_any_candidate(late_helper: Helper, light_labels: Labels) -> None:
    for helper in (late_helper, train_helper(light_labels, AUTO)):
        gain = {
            form: helper.figures[f"forecast_{form}"] - AUTO.price * helper.figures[f"forecast_requests_{form}"]
            for form in CANDIDATES
            if form != GAIN  # these episodes have several decisions
        }
        assert f"forecast_{GAIN}" not in helper.figures
        assert gain[helper.classifier.form] == max(gain.values())


@pytest.mark.parametrize(("recurring", "judged"), [(10, "fitted"), (3, "steps"), (None, "steps")])
def test_states_with_keys_that_recur_are_compared_by_fitted_q_others_at_the_logged_steps(
    recurring: int | None, judged: str
) -> None:
    logs = late_help(recurring=recurring)
    model = estimate_mdp(logs, ExactKey() if recurring else Features(["step"]), shrink=False)
    labels = label(logs, model, selfreg.solve(model.mdp, 2))
    prices, charges = labels.prices(AUTO.price), dict.fromkeys(labels.actions[1:], (1,))
    pooled = PooledSteps.of(labels, AUTO.history, AUTO.seed)
    judge = FittedJudge.of(lambda: pooled, prices) if judged == "fitted" else StepJudge.of(labels, prices)
    assert judge is not None
    figures, splits = train_helper(labels, AUTO).figures, make_splits(sorted(set(labels.tasks)), AUTO.seed)
    for form in ("first-k", "last-k"):
        found = judge.forecast(
            [train_rule(labels, one, charges, replace(AUTO, form=form), lambda: judge) for one in splits]
        )
        assert figures[f"forecast_{form}"] == pytest.approx(found.success, abs=1e-12)


def test_with_a_usage_forms_are_compared_at_it(late_labels: Labels) -> None:
    helper = train_helper(late_labels, AUTO, usage=0.5)
    forms = [form for form in CANDIDATES if form != GAIN]
    assert [helper.figures[f"forecast_requests_{form}"] for form in forms] == pytest.approx(
        [0.5] * len(forms), abs=1e-6
    )
    assert helper.classifier.form == "last-k"
    # with two units the rule is for the last two steps: a quarter of the last ones, which decide, get help
    assert helper.figures["forecast_last-k"] == pytest.approx(0.1 + 0.25 * 0.85, abs=0.06)
    assert helper.figures["forecast_last-k"] >= max(helper.figures[f"forecast_{form}"] for form in forms)


@pytest.mark.parametrize("form", RULES)
def test_rules_are_saved_and_loaded(form: str, light_labels: Labels, tmp_path: Path) -> None:
    helper = train_helper(light_labels, replace(AUTO, form=form))
    helper.save(tmp_path / "helper")
    loaded = Helper.load(tmp_path / "helper")
    histories = [["first red key"], ["first red key", "second green lamp"], ["a", "b", "c"]]
    for left in (0, 1, 2, 9):
        budgets = [(left,)] * len(histories)
        assert loaded.decide_batch(histories, budgets) == helper.decide_batch(histories, budgets)
    assert (loaded.classifier.form, loaded.thresholds) == (form, helper.thresholds)


def test_a_damaged_rule_is_refused(late_helper: Helper, tmp_path: Path) -> None:
    late_helper.save(tmp_path / "helper")
    record = tmp_path / "helper" / "selfreg.json"
    record.write_text(record.read_text().replace('"cost"', '"price"'))
    with pytest.raises(ValueError, match="its rule is missing 'cost'"):
        Helper.load(tmp_path / "helper")


def test_examples_have_no_forecast_so_the_loss_chooses() -> None:
    helper = train_helper(rule_examples(), AUTO)
    assert helper.classifier.form in ("tfidf", "words", "trees")
    assert helper.figures["agreement_weighted"] > 0.9
    with pytest.raises(ValueError, match="fitted to labels"):
        train_helper(rule_examples(), replace(QUICK, form="last-k"))


def test_every_task_is_held_out_once() -> None:
    tasks = [f"task {i}" for i in range(17)]
    splits = make_splits(tasks, 1)
    assert sorted(task for split in splits for task in split["test"]) == sorted(tasks)
    for split in splits:
        assert sorted(task for part in split.values() for task in part) == sorted(tasks)
        assert all(split.values())
    drawn = [task for split in make_splits(tasks, 1, most=7) for task in split["test"]]
    assert len(drawn) == len(set(drawn)) == 7
    assert set(drawn) < set(tasks)
    with pytest.raises(ValueError, match="at least 3"):
        make_splits(["a", "b"], 0)


def test_requests_that_budgets_pay_for() -> None:
    budgets = np.array([[0, 5], [4, 1], [4, 9]])
    assert count_requests(budgets, (2, 1), 10).tolist() == [0, 1, 2]
    assert count_requests(budgets, (1, 0), 3).tolist() == [0, 3, 3]
    assert count_requests(budgets, (0, 0), 7).tolist() == [7, 7, 7]


def test_a_rule_takes_the_help_type_that_does_better() -> None:
    """Of two help types the strong one undoes most of the harm; the states of the model show no harm."""
    rng, logs = np.random.default_rng(4), []
    for i in range(600):
        steps, chance = [], 0.95
        for _ in range(4):
            harm, who = rng.random() < 0.5, rng.choice(["", "junior", "senior"], p=[0.6, 0.2, 0.2])
            chance -= harm * {"": 0.3, "junior": 0.25, "senior": 0.05}[who]
            steps.append(Step("harm" if harm else "calm", intervention=who or None))
        logs.append(Trajectory(f"task {i // 4}", str(i), float(rng.random() < max(chance, 0)), tuple(steps)))
    model = estimate_mdp(logs, Features(["step"]))
    labels = label(logs, model, selfreg.solve(model.mdp, 2))
    helper = train_helper(labels, replace(AUTO, form="first-k"))
    assert helper.decide(["harm"], (2,)).action == "senior"
