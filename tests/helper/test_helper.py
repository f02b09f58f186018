"""The helper: learns when to ask, for every budget; decides within the ledger."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helper_cases import NEEDED, QUICK, WORDS, rule_examples, state
from selfreg.data import Step, Trajectory
from selfreg.helper import Helper, HelperExamples, train_helper
from selfreg.prm import PRMConfig, train_prm
from selfreg.runtime.ledger import Ledger


@pytest.fixture(scope="module")
def helper() -> Helper:
    return train_helper(rule_examples(), QUICK)


def test_learns_a_rule_that_depends_on_the_budget(helper: Helper) -> None:
    assert helper.figures["agreement"] > 0.95
    assert helper.figures["agreement_weighted"] > 0.95
    assert helper.figures["majority"] < 0.7
    assert helper.figures["constant_decision"] == 0
    rng = np.random.default_rng(1)
    asked = {
        (word, budget): [helper.decide([state(word, rng)], (budget,)).action == "help" for _ in range(20)]
        for word in NEEDED
        for budget in range(4)
    }
    for (word, budget), answers in asked.items():
        assert np.mean(answers) == pytest.approx(float(budget >= NEEDED[word]), abs=0.11), (word, budget)


def test_more_budget_than_was_trained_reads_as_the_largest(helper: Helper) -> None:
    assert helper.limits == (3,)
    np.testing.assert_array_equal(
        helper.request_probabilities(["red door"], [[40]]), helper.request_probabilities(["red door"], [[3]])
    )


def test_deciding_is_pure(helper: Helper) -> None:
    ledger = Ledger(3)
    first = helper.decide(["green door", "blue door"], ledger.left)
    assert first == helper.decide([Step(state="green door"), Step(state="blue door")], ledger.left)
    assert (first.action, first.budget_left, ledger.left) == ("help", (3,), (3,))
    assert first.request_probability > 0.5
    assert first.success_probability == {}
    assert first.reason.startswith("help: P(request) ")


def test_never_asks_for_what_the_ledger_cannot_pay(helper: Helper) -> None:
    broke = helper.decide(["blue door"], (0,))
    assert (broke.action, broke.request_probability) == ("nohelp", 0)
    assert broke.reason == "nohelp: budget 0 cannot pay for help (cost 1)"
    dear = replace(helper, costs={"help": (3,)})
    assert dear.decide(["blue door"], (2,)).action == "nohelp"
    assert dear.decide(["blue door"], (3,)).action == "help"


def test_save_and_load(helper: Helper, tmp_path: Path) -> None:
    helper.save(tmp_path / "helper")
    loaded = Helper.load(tmp_path / "helper")
    examples = rule_examples(30)
    texts, budgets = [*examples.texts, "", "red " * 500], np.concatenate([examples.budgets, [[2], [2]]])
    np.testing.assert_allclose(
        loaded.request_probabilities(texts, budgets), helper.request_probabilities(texts, budgets), atol=1e-6
    )
    assert replace(loaded, classifier=helper.classifier) == helper


def test_long_states_do_not_push_out_the_budget(helper: Helper) -> None:
    state = "lamp " * 500 + "red door"
    few, many = helper.request_probabilities([state, state], [[1], [3]])[:, 1]
    assert abs(few - many) > 1e-3


def test_probabilities_come_in_batches(helper: Helper) -> None:
    examples = rule_examples(40)
    together = helper.request_probabilities(examples.texts, examples.budgets)
    alone = [helper.request_probabilities([t], [b])[0] for t, b in zip(examples.texts, examples.budgets, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1)
    assert helper.request_probabilities([], np.empty((0, 1), dtype=np.int64)).shape == (0, 2)


def test_threads_decide_the_same(helper: Helper) -> None:
    rng = np.random.default_rng(2)
    states = [state(word, rng) for word in NEEDED for _ in range(10)]
    expected = [helper.decide([state], (2,)) for state in states]
    answers: list[list[object]] = [[] for _ in range(4)]

    def work(worker: int) -> None:
        answers[worker] = [helper.decide([state], (2,)) for state in states]

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 4


def test_prm_says_how_likely_success_without_help_is(helper: Helper) -> None:
    logs = [
        Trajectory(task=f"task {i}", episode=str(i), outcome=float(i % 2), steps=(Step(state=WORDS[i % 2]),))
        for i in range(10)
    ]
    prm = train_prm(logs, PRMConfig(hidden_size=16, layers=1, epochs=1))
    decision = helper.with_prm(prm).decide(["blue door"], (1,))
    assert decision.success_probability == {"nohelp": pytest.approx(prm.score(["blue door"])[0], abs=1e-6)}


def test_history_is_shown_as_in_training(helper: Helper) -> None:
    steps = [Step(state="green lamp", action="go"), Step(state="blue door")]
    shown = replace(helper, history=1).decide(steps, (2,)).request_probability
    assert shown == helper.request_probabilities(["green lamp\n> go\nblue door"], [[2]])[0, 1]
    assert shown != helper.decide(steps, (2,)).request_probability


@pytest.mark.parametrize("form", ["features", "tfidf"])
def test_several_help_types_and_budgets(form: str) -> None:
    """Red is a case for the model while it can be paid, blue for the person; green for nobody."""
    rng, rows = np.random.default_rng(0), []
    for i in range(300):
        word = str(rng.choice(["red", "green", "blue"]))
        text = state(word, rng)
        for model in range(2):
            for person in range(2):
                decision = {"red": model, "blue": 2 * person, "green": 0}[word]
                rows.append((text, [model, person], decision, 1.0, f"task {i % 20}"))
    texts, budgets, decisions, weights, tasks = map(list, zip(*rows, strict=True))
    actions = ("nohelp", "model", "person")
    examples = HelperExamples(texts, np.array(budgets), np.array(decisions), np.array(weights), tasks, actions)
    with pytest.raises(ValueError, match="costs are needed where there are 2 budgets"):
        train_helper(examples, QUICK)
    helper = train_helper(examples, replace(QUICK, form=form), costs={"model": (1, 0), "person": (0, 1)})
    assert helper.figures["agreement"] > 0.95
    assert helper.decide(["red door lamp"], (1, 1)).action == "model"
    assert helper.decide(["blue door lamp"], (1, 1)).action == "person"
    torn = helper.decide(["blue door lamp"], (1, 0))
    assert torn.action != "person"
    assert torn.reason.endswith("cannot pay for person (cost 0 1)")
    with pytest.raises(ValueError, match=r"budget_left is \(1,\); expected 2 number"):
        helper.decide(["red door"], (1,))


def test_merged_examples_vote_by_weight() -> None:
    examples = HelperExamples(
        ["a", "a", "a", "b"],
        np.array([[1], [1], [2], [1]]),
        np.array([0, 1, 1, 0]),
        np.array([3.0, 1.0, 2.0, 0.0]),
        ["t"] * 4,
        ("nohelp", "help"),
    )
    votes = examples.votes((2,))
    assert votes.texts == ["a"]
    np.testing.assert_array_equal(votes.weights, [[[0, 0], [3, 1], [0, 2]]])


def test_equal_decisions_still_make_a_helper() -> None:
    examples = rule_examples(60)
    never = replace(examples, decisions=np.zeros_like(examples.decisions), weights=np.zeros_like(examples.weights))
    helper = train_helper(never, QUICK)
    assert helper.figures["constant_decision"] == 1
    assert helper.figures["agreement"] == 1
    assert "agreement_weighted" not in helper.figures
    assert helper.decide(["red door"], (3,)).action == "nohelp"


def test_errors_name_the_culprit(helper: Helper) -> None:
    examples = rule_examples(6, tasks=3)
    with pytest.raises(TypeError, match="steps is a str"):
        helper.decide("red door", (1,))
    with pytest.raises(ValueError, match="steps is empty"):
        helper.decide([], (1,))
    with pytest.raises(ValueError, match="2 task"):
        train_helper(rule_examples(6, tasks=2), QUICK)
    with pytest.raises(ValueError, match=r"decisions\[\d+\] is 'help' at cost \(3,\), over its budget \[\d\]"):
        train_helper(replace(examples, decisions=np.ones_like(examples.decisions)), QUICK, costs={"help": 3})
    with pytest.raises(TypeError, match=r"cost of 'help' is 1\.5"):
        train_helper(examples, QUICK, costs={"help": 1.5})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="costs are given for"):
        train_helper(examples, QUICK, costs={"person": 1})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("budgets", np.array([1, 2]), "budgets have shape"),
        ("budgets", np.array([[1], [-1]]), r"budgets\[1\] is -1"),
        ("decisions", np.array([0, 2]), r"decisions\[1\] is 2"),
        ("decisions", np.array([0]), "decisions has shape"),
        ("weights", np.array([1.0, np.nan]), r"weights\[1\] is nan"),
        ("tasks", ["t"], "there are 1 tasks"),
    ],
)
def test_examples_are_checked(field: str, value: object, message: str) -> None:
    good = HelperExamples(
        ["a", "b"], np.array([[1], [2]]), np.array([0, 1]), np.ones(2), ["t", "u"], ("nohelp", "help")
    )
    with pytest.raises(ValueError, match=message):
        replace(good, **{field: value})
    with pytest.raises(TypeError, match="budgets have dtype float64"):
        replace(good, budgets=np.array([[1.5], [2.0]]))
