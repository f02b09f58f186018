"""Estimation: counts, abstractions, borrowing, the prior, and the check that budget 0 is the unhelped rate."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import selfreg
from selfreg.data import Step, Trajectory, read_trajectories
from selfreg.estimate import ExactKey, Features, count, estimate_mdp, load_classes
from selfreg.estimate.counts import list_moves
from selfreg.estimate.score_bins import from_description


def episode(name: str, outcome: float | None, *steps: str, task: str = "t", truncated: bool = False) -> Trajectory:
    """Steps as "state" or "state+help"."""
    made = tuple(Step(s.split("+")[0], intervention=s.split("+")[1] if "+" in s else None) for s in steps)
    return Trajectory(task, name, outcome, made, truncated)


class Scorer:
    """A stand-in with the PRM's interface whose scores are written in the text."""

    def text(self, steps):
        return steps[-1].state

    def score(self, texts):
        return np.array([float(text) for text in texts])


@st.composite
def logs(draw):
    """Episodes that are helped at no step or at some steps, over few observations."""
    n = draw(st.integers(1, 12))
    episodes = []
    for i in range(n):
        helped = draw(st.booleans()) if i else False
        states = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
        steps = [s + ("+help" if helped and draw(st.booleans()) else "") for s in states]
        episodes.append(episode(str(i), draw(st.sampled_from([0.0, 0.5, 1.0])), *steps))
    return episodes


@given(logs())
def test_budget_zero_is_the_unhelped_success_rate(episodes) -> None:
    unhelped = [t for t in episodes if not t.helped]
    # Unhelped steps of helped episodes would add transitions that unhelped episodes did not make.
    # They begin as the unhelped ones do: the start distribution is that of all episodes.
    helped_only = [
        Trajectory(
            "t", f"{u.episode} {t.episode}", t.outcome, (Step(u.steps[0].state, intervention="help"), *t.steps[1:])
        )
        for u, t in product(unhelped, episodes)
        if t.helped and all(s.intervention for s in t.steps)
    ]
    model = estimate_mdp(unhelped + helped_only, Features(["step", "class"], {"a": "a", "b": "b"}))
    value = model.success(selfreg.solve(model.mdp, 2))
    assert value[0] == pytest.approx(np.mean([t.outcome for t in unhelped]), abs=1e-12)
    assert np.all(np.diff(value) >= -1e-12)


@given(logs())
def test_counts_add_up(episodes) -> None:
    counts = count(episodes, ExactKey())
    total = sum(matrix.sum() for matrix in counts.transitions.values())
    assert total == pytest.approx(sum(len(t.steps) for t in episodes))
    assert counts.starts.sum() == len(episodes)
    ends = sum(matrix[:, [-2]].sum() for matrix in counts.transitions.values())
    assert ends == pytest.approx(sum(t.outcome for t in episodes))


def test_exact_key_keeps_tasks_apart_and_uses_the_key() -> None:
    one = Trajectory("t", "e", 1.0, (Step("text", key="k"), Step("text")))
    assert [ExactKey().encode(one, i) for i in range(2)] == [("t", "k"), ("t", "text")]
    assert ExactKey(step=True).encode(one, 1) == ("t", "text", 1)


def test_states_seen_only_after_help_borrow_from_a_coarser_class_or_fail() -> None:
    features = Features(["step", "class"], {"good": "good", "bad": "bad"})
    logs = [
        episode("0", 0.0, "start", "bad"),
        episode("1", 1.0, "start+help", "good+help"),
        episode("2", 1.0, "start+help", "good+help", "late+help"),
    ]
    model = estimate_mdp(logs, features)
    rows = model.mdp.transitions["nohelp"].toarray()
    good, late = model.index[(1, "good")], model.index[(2, "other")]
    assert model.borrowed[[good, late]].all()
    assert rows[good, -1] == 1.0  # the row of step 1, class bad: failure
    assert rows[late, -1] == 1.0  # nothing at step 2 was ever done alone
    assert any("2 of 4 states were never visited without help" in note for note in model.notes)


def test_help_that_was_never_tried_in_a_state_has_a_row_by_its_class_alone() -> None:
    features = Features(["step", "class"], {"x": "x", "y": "y"})
    logs = [episode("0", 0.0, "x"), episode("1", 0.0, "y"), episode("2", 1.0, "y+help")]
    x = (0, "x")
    plain = estimate_mdp(logs, features, shrink=False)
    assert not plain.mdp.available("help")[plain.index[x]]
    assert any("In 1 of 2 states no help was tried; help is not available" in note for note in plain.notes)
    lent = estimate_mdp(logs, features)
    assert lent.mdp.available("help")[lent.index[x]]


def test_low_count_rows_are_shrunk_towards_the_prm() -> None:
    logs = [episode("0", 1.0, "0.25"), episode("1", 1.0, "0.25"), episode("2", 1.0, "0.5+help", "0.75+help")]
    model = estimate_mdp(logs, ExactKey(), kappa=2.0, prm=Scorer())
    rows = model.mdp.transitions["nohelp"].toarray()
    assert rows[0, -2] == pytest.approx((2 + 2 * 0.25) / 4)
    assert rows[model.index[("t", "0.75")], -2] == pytest.approx(0.75)
    assert model.borrowed[model.index[("t", "0.75")]]


def test_truncated_episodes_are_worth_what_the_prm_says() -> None:
    logs = [episode("0", None, "0.25", truncated=True), episode("1", 1.0, "0.25")]
    with pytest.raises(ValueError, match="episode '0' is truncated and has no outcome"):
        estimate_mdp(logs, ExactKey())
    model = estimate_mdp(logs, ExactKey(), prm=Scorer())
    assert model.success(selfreg.solve(model.mdp, 0))[0] == pytest.approx((0.25 + 1) / 2)


def test_costs_come_from_the_log_or_from_the_caller() -> None:
    dear = Trajectory("t", "d", 1.0, (Step("a", intervention="person", cost=3),))
    model = estimate_mdp([dear, episode("0", 0.0, "a")], ExactKey())
    assert dict(model.mdp.costs) == {"person": (3,)}
    other = Trajectory("t", "e", 1.0, (Step("a", intervention="person", cost=2),))
    with pytest.raises(ValueError, match="'person' cost 3 in episode 'd' and 2 in episode 'e'"):
        estimate_mdp([dear, other, episode("0", 0.0, "a")], ExactKey())
    given_cost = estimate_mdp([dear, other, episode("0", 0.0, "a")], ExactKey(), costs={"person": (1, 2)})
    assert dict(given_cost.mdp.costs) == {"person": (1, 2)}
    charged = Trajectory("t", "f", 1.0, (Step("a", cost=1),))
    with pytest.raises(ValueError, match="charges 1 for a step without help"):
        estimate_mdp([charged], ExactKey())
    with pytest.raises(ValueError, match="costs names 'robot', which is not in these logs"):
        estimate_mdp([dear, episode("0", 0.0, "a")], ExactKey(), costs={"robot": 1})


@pytest.mark.parametrize(
    ("logs", "options", "message"),
    [
        ([], {}, "no episodes"),
        ([episode("0", 1.0, "a+help")], {}, "every step was helped"),
        ([episode("0", 1.0, "a")], {"kappa": -1}, "kappa is -1"),
        ([episode("0", 1.0, "a")], {"kappa": 1}, "needs a PRM"),
    ],
)
def test_logs_that_cannot_be_estimated_from(logs, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_mdp(logs, ExactKey(), **options)


def test_consequences_are_noted() -> None:
    alone = estimate_mdp([episode("0", 1.0, "a")], ExactKey())
    assert alone.mdp.actions == ("nohelp",)
    assert any("help is not available in this model" in note for note in alone.notes)
    mixed = estimate_mdp([episode("0", 1.0, "a", "b+help")], ExactKey())
    assert any("No episode is without help" in note for note in mixed.notes)
    apart = estimate_mdp([episode("0", 0.0, "a", "b"), episode("1", 1.0, "a+help", "b+help")], ExactKey())
    assert any("help at every step or at none" in note for note in apart.notes)


def test_all_episodes_are_starts() -> None:
    # A coin a step: the only fully unhelped episode is short and lucky, and says nothing of the others' beginning.
    logs = [episode("0", 1.0, "easy"), *(episode(str(i), 0.0, "hard", "on+help", task=f"t{i}") for i in range(1, 4))]
    model = estimate_mdp(logs, ExactKey())
    assert model.start[[model.index[("t", "easy")], model.index[("t1", "hard")]]].tolist() == [0.25, 0.25]
    assert model.success(selfreg.solve(model.mdp, 0))[0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Features([]), "at least one name"),
        (lambda: Features(["step", "step"]), "duplicate name 'step'"),
        (lambda: Features(["class"]), "'class' needs classes"),
        (lambda: Features(["class"], {"a": "("}), "class 'a': '\\(' is not a regular expression"),
    ],
)
def test_bad_features(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_feature_that_no_episode_has_is_named() -> None:
    with pytest.raises(ValueError, match="unknown feature 'domain'; episode '0' has step, class, task"):
        estimate_mdp([episode("0", 1.0, "a")], Features(["domain"]))


def test_abstractions_describe_themselves() -> None:
    for abstraction in (ExactKey(step=True), Features(["step", "class"], {"a": "x"})):
        assert from_description(abstraction.describe()) == abstraction


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[class", "not TOML"),
        ("[other]\na = 'x'", r"expected a table \[class\]"),
        ("[class]\na = 1", "class 'a' is 1; expected a regular expression"),
        ("[class]\na = '('", "class 'a': '\\(' is not a regular expression"),
    ],
)
def test_bad_classes_files_name_file_and_entry(tmp_path, text, message) -> None:
    path = tmp_path / "classes.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"classes.toml: {message}"):
        load_classes(path)
    with pytest.raises(ValueError, match="no such file"):
        load_classes(tmp_path / "nothing.toml")


def test_first_class_wins(tmp_path) -> None:
    path = tmp_path / "classes.toml"
    path.write_text('[class]\nerror = "Error"\nany = "."\n')
    features = Features(["class"], load_classes(path))
    assert [features.classify(text) for text in ("An Error.", "fine", "")] == ["error", "any", "other"]


@pytest.mark.parametrize("actor", ["gpt-3.5-turbo-0613", "claude-instant-1", "vicuna-13b-v1.5"])
def test_mint_plan_starts_at_the_unhelped_rate(shared_data, actor) -> None:
    path = shared_data / "mint" / "mint_core.jsonl.gz"
    roles = {"task": "task_id", "outcome": "success", "intervention": "helper"}
    episodes = list(read_trajectories(path, "jsonl", roles=roles, where={"actor": [actor]}))
    model = estimate_mdp(episodes, Features(["domain", "step"]))
    value = model.success(selfreg.solve(model.mdp, 5))
    alone = [t.outcome for t in episodes if not t.helped]
    assert value[0] == pytest.approx(sum(alone) / len(alone), abs=1e-9)
    assert np.all(np.diff(value) >= 0)


def test_branches_of_episodes_are_no_starts() -> None:
    whole = Trajectory("t", "a", 1.0, (Step("s0"), Step("s1")))
    branch = Trajectory("t", "b", 0.0, (Step("s1", intervention="help"),), fields={"branch_of": "a", "branch_step": 1})
    counts = count([whole, branch], ExactKey())
    assert counts.starts.sum() == 1
    assert counts.visits["help"].sum() == 1
    assert list_moves([whole, branch], ExactKey()).counts().starts.tolist() == counts.starts.tolist()
