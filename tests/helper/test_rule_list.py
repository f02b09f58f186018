"""Rules to print: what they learn from labels, and what they decide."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.helper import label
from selfreg.helper.rule_list import Rule, RuleList, learn_rules


def logs(rng: np.random.Generator, episodes: int = 1200) -> list[Trajectory]:
    """Help matters at the second error of an episode only; elsewhere it changes nothing."""
    found = []
    for i in range(episodes):
        steps, errors, outcome = [], 0, 0.8
        for number in range(4):
            error = rng.random() < 0.5
            errors += error
            helped = rng.random() < 0.5
            if error and errors == 2:
                outcome = 0.9 if helped else 0.1
            text = "Error in the tool" if error else "All is well"
            key = f"{number} {error} {errors} {outcome if errors > 2 or (errors == 2 and not error) else ''}"
            steps.append(Step(text, intervention="person" if helped else None, key=key))
        found.append(Trajectory(f"t{i % 4}", str(i), float(rng.random() < outcome), tuple(steps)))
    return found


def test_the_second_error_is_found() -> None:
    episodes = logs(np.random.default_rng(0))
    model = estimate_mdp(episodes, ExactKey())
    rules = learn_rules(label(episodes, model, selfreg.solve(model.mdp, 1))).rules
    assert (rules[0].help, rules[0].word in ("error", "the", "tool"), rules[0].times) == ("person", True, 2)


def test_help_that_does_nothing_gives_no_rules() -> None:
    episodes = [
        Trajectory(f"t{i % 9}", f"{i}{help}", float(i % 2), (Step("a state", intervention=help, key="s"),))
        for i in range(90)
        for help in (None, "person")
    ]
    model = estimate_mdp(episodes, ExactKey())
    assert learn_rules(label(episodes, model, selfreg.solve(model.mdp, 1))).rules == ()


def test_rules_count_units_where_a_request_takes_several() -> None:
    episodes = [
        Trajectory(f"t{i}", f"{i}{help}", float(bool(help)), (Step("an error", intervention=help, key="s"),))
        for i in range(20)
        for help in (None, "person")
    ]
    model = estimate_mdp(episodes, ExactKey(), costs={"person": 2})
    (rule,) = learn_rules(label(episodes, model, selfreg.solve(model.mdp, 3))).rules
    assert str(rule) == "Request person at every step, while at least 2 units are left."
    assert RuleList((rule,)).decide([Step("an error")], (1,)).action == "nohelp"


def test_several_budgets_are_refused() -> None:
    episodes = [Trajectory("t", "e", 1.0, (Step("a", intervention="person", cost=1), Step("b")))]
    model = estimate_mdp(episodes, ExactKey(), costs={"person": (1, 0)})
    with pytest.raises(ValueError, match="2 budgets; expected one"):
        learn_rules(label(episodes, model, selfreg.solve(model.mdp, (1, 1))))


@pytest.mark.parametrize(
    ("rule", "texts", "left", "action"),
    [
        (Rule("person", "error"), ["ok", "an ERROR"], (1,), "person"),
        (Rule("person", "error"), ["error", "ok"], (1,), "nohelp"),
        (Rule("person", "error", times=2), ["error", "ok", "error"], (1,), "person"),
        (Rule("person", "error", times=2), ["ok", "error"], (1,), "nohelp"),
        (Rule("person", step=3), ["a", "b"], (1,), "nohelp"),
        (Rule("person", step=3), ["a", "b", "c"], None, "person"),
        (Rule("person", left=2), ["a"], (1,), "nohelp"),
        (Rule("person", left=2), ["a"], (2,), "person"),
    ],
)
def test_a_rule_decides_as_it_reads(rule, texts, left, action) -> None:
    assert RuleList((rule,)).decide([Step(text) for text in texts], left).action == action


def test_a_rule_is_a_sentence() -> None:
    assert str(Rule("person", "timeout", times=2, step=3, left=2)) == (
        'Request person when the state says "timeout" for the second time or more from step 3 on, '
        "while at least 2 requests are left."
    )
