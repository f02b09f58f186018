"""Actions that were never tried in a state do what they did in similar states, so that waiting is worth what it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import selfreg
from selfreg._util.text_features import hashed_words
from selfreg._util.text_index import GROUPS
from selfreg.data import NOHELP, Step, Trajectory
from selfreg.estimate import ExactKey, Features, StateAbstraction, estimate_mdp
from selfreg.helper import Helper, HelperConfig, Labels, label, train_helper
from selfreg.helper.filling import NEIGHBOURS, add_missing_help, fill_untried

HISTORY = HelperConfig(history=0)
EARLY, LATE, ALONE = 0.75, 0.95, 0.05  # success with help at the first step, with help at the last one, without


def labelled(logs: list[Trajectory], abstraction: StateAbstraction) -> Labels:
    model = estimate_mdp(logs, abstraction)
    return label(logs, model, selfreg.solve(model.mdp, 1))


def wandering(tasks: int = 3, episodes: int = 40) -> list[Trajectory]:
    """Random walks over few texts, each action tried in some of them."""
    rng, logs = np.random.default_rng(5), []
    for i in range(tasks * episodes):
        words = rng.choice(["red", "green", "blue", "grey", "old"], size=(3, 2))
        steps = tuple(
            Step(f"a {a} door, a {b} key", intervention="help" if rng.random() < 0.1 else None) for a, b in words
        )
        logs.append(Trajectory(f"task {i % tasks}", str(i), float(rng.random() < 0.4), steps))
    return logs


def test_rows_are_means_of_the_most_similar_states_of_the_task() -> None:
    labels = labelled(wandering(), ExactKey())
    model, mdp, filled = labels.model, labels.model.mdp, fill_untried(labels)
    keys = {state: (task, text) for (task, text), state in zip(model.counts.keys, range(mdp.n_states), strict=False)}
    groups = {state: set(hashed_words(text, GROUPS).tolist()) for state, (_, text) in keys.items()}

    def similarity(one: int, other: int) -> float:
        return len(groups[one] & groups[other]) / (len(groups[one]) * len(groups[other])) ** 0.5

    lacking = 0
    for name, rows in mdp.transitions.items():
        tried, matrix = mdp.available(name) if name != NOHELP else ~model.borrowed, rows.toarray()
        for state in keys:
            wanted = matrix[state]
            if not tried[state]:
                lacking += 1
                donors = [other for other in keys if keys[other][0] == keys[state][0] and tried[other]]
                donors.sort(key=partial(similarity, state), reverse=True)
                wanted = matrix[donors[:NEIGHBOURS]].mean(axis=0)
            np.testing.assert_allclose(filled.transitions[name].toarray()[state], wanted, atol=1e-12)
    assert lacking > 10


@pytest.mark.parametrize("abstraction", [Features(["step"]), ExactKey(step=True)])
def test_classes_of_states_and_states_with_their_step_are_left_as_they_are(abstraction: StateAbstraction) -> None:
    labels = labelled(wandering(), abstraction)
    known, filled = add_missing_help(labels.model.mdp), labels.filled
    for name, rows in known.transitions.items():
        np.testing.assert_array_equal(filled.transitions[name].toarray(), rows.toarray())


def late_help(tasks: int = 12, episodes: int = 60) -> list[Trajectory]:
    """Help at the last step is best, but half of the states there were seen once, so with one action.

    It may be any step from the second to the fifth.
    """
    rng, logs = np.random.default_rng(2), []
    for i in range(tasks * episodes):
        early, late = rng.random(2) < 0.3
        chance = LATE if late else EARLY if early else ALONE
        told, waits = "told" if early else "calm", int(rng.integers(4))
        texts = ["begin: calm.", *[f"middle: {told}."] * waits, f"end: {told}. part {rng.integers(2) or i}."]
        asked = ["help" if early else None, *[None] * waits, "help" if late else None]
        steps = tuple(Step(text, intervention=help_type) for text, help_type in zip(texts, asked, strict=True))
        logs.append(Trajectory(f"task {i % tasks}", str(i), float(rng.random() < chance), steps))
    return logs


@pytest.fixture(scope="module")
def late_labels() -> Labels:
    return labelled(late_help(), ExactKey())


def decisions(helper: Helper) -> list[str]:
    return [helper.decide([text], (1,)).action for text in ("begin: calm.", "end: calm. part 1.")]


def test_waiting_is_worth_what_help_does_in_similar_states(late_labels: Labels) -> None:
    kept, filled = (train_helper(late_labels, replace(HISTORY, form="words", fill=fill)) for fill in (False, True))
    assert decisions(kept) == ["help", "help"]
    assert decisions(filled) == ["nohelp", "help"]
    assert filled.figures["success"] == pytest.approx(LATE, abs=0.1)


def test_auto_tries_its_best_form_with_it(late_labels: Labels) -> None:
    helper = train_helper(late_labels, HISTORY)
    figures = helper.figures
    assert decisions(helper) == ["nohelp", "help"]
    tried, requests = (name for name in figures if name.startswith("forecast_") and name.endswith("_filled"))
    form = tried.removeprefix("forecast_").removesuffix("_filled")
    assert requests == f"forecast_requests_{form}_filled"
    assert figures[tried] > figures[f"forecast_{form}"] + 0.1
    taken = helper.classifier.form + "_filled" * int(figures["fill"])
    assert taken in (form + "_filled", "fitted-q")  # which needs no model of states
    assert figures[f"forecast_{taken}"] == pytest.approx(LATE, abs=0.1)
    given = train_helper(late_labels, replace(HISTORY, fill=True))
    assert decisions(given) == ["nohelp", "help"]
    assert not [name for name in given.figures if name.endswith("_filled")]
