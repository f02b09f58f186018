"""Trees: the same log-odds as scikit-learn's, combinations of words, and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier

from selfreg._util.text_features import ROLES_VERSION
from selfreg.helper import Helper, HelperConfig, HelperExamples, Labels, calibrate, train_helper
from selfreg.helper.models.trees import DEPTH, HASHED, Forest, TreesDecider, groups_of, informative_groups, read_all

TREES = HelperConfig(form="trees", history=0)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 4),
    columns=st.integers(1, 12),
    depth=st.integers(1, DEPTH),
    least=st.sampled_from([1, 30]),
)
def test_a_forest_gives_what_scikit_learn_gives(seed: int, classes: int, columns: int, depth: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.random((120, columns)) < rng.random(columns)
    decided = np.concatenate([np.arange(classes), rng.integers(classes, size=120 - classes)])
    model = GradientBoostingClassifier(n_estimators=7, max_depth=depth, min_samples_leaf=least, random_state=seed)
    model.fit(groups, decided)
    actions = np.sort(rng.choice(6, classes, replace=False))
    for count, raw in enumerate(model.staged_decision_function(groups), start=1):
        logits = np.zeros((len(groups), 6))
        Forest.of(model, actions, count).add(logits, groups)
        added = logits[:, actions[1:]] if classes == 2 else logits[:, actions]
        np.testing.assert_allclose(added - added[0], raw - raw[0], atol=1e-9)
        assert not logits[:, np.setdiff1d(np.arange(6), actions)].any()


def examples(lamps: NDArray[np.int64], flags: NDArray[np.bool_], asked: NDArray[np.bool_]) -> HelperExamples:
    """Two facts a text, among facts that say nothing; 20 texts a task."""
    names = ["mug", "pen", "cup", "box", "key"]
    texts = []
    for i, (near, full) in enumerate(flags.tolist()):
        thing = names[i // 20 % len(names)]
        seen = f"{thing} {'near' if near else 'far'}; bag {'full' if full else 'empty'}; lamp {int(lamps[i])}"
        texts.append(f"Task {i // 20}: find the {thing}.\nSeen: {seen}.")
    return HelperExamples(
        texts=texts,
        budgets=np.ones((len(texts), 1), dtype=np.int64),
        decisions=asked.astype(np.int64),
        weights=np.ones(len(texts)),
        tasks=[f"task {i // 20}" for i in range(len(texts))],
        actions=("nohelp", "help"),
    )


def either_or(n: int = 800) -> HelperExamples:
    rng = np.random.default_rng(0)
    flags = rng.random((n, 2)) < 0.5
    return examples(rng.integers(30, size=n), flags, flags[:, 0] != flags[:, 1])


def test_trees_learn_what_only_a_combination_says() -> None:
    either = either_or()
    assert train_helper(either, TREES).figures["agreement"] > 0.95
    assert train_helper(either, replace(TREES, form="words")).figures["agreement"] < 0.75


def test_three_actions_are_told_from_each_other() -> None:
    either = either_or()
    number = np.array([text.count("near") + 2 * (text.count("full") > 0) for text in either.texts]) % 3
    three = replace(either, decisions=number.astype(np.int64), actions=("nohelp", "hint", "take over"))
    helper = train_helper(three, TREES, costs={"hint": 1, "take over": 1})
    assert helper.figures["agreement"] > 0.95
    chosen = helper.choices(three.texts, three.budgets)
    assert set(chosen.tolist()) == {0, 1, 2}


def test_a_decision_that_was_never_right_is_never_taken() -> None:
    three = replace(either_or(), actions=("nohelp", "help", "other"))
    helper = train_helper(three, TREES, costs={"help": 1, "other": 1})
    assert helper.request_probabilities(three.texts, three.budgets)[:, 2].max() < 0.01


def test_groups_are_those_that_separate_decisions_in_many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    names, texts, tasks, votes = "abcdefgh", [], [], []
    for name in names:  # all of one mission
        for place, asked in (("door", True), ("wall", False), (name, False)):
            texts.append(f"Task: go.\nHere: {place}; {'left' if len(texts) % 5 else 'right'}.")
            tasks.append([name])
            votes.append([1.0 - asked, asked])
    monkeypatch.setattr("selfreg.helper.models.trees.MOST_GROUPS", 12)
    found = informative_groups(read_all(texts), tasks, np.array(votes)).tolist()
    held = [set(groups_of(text).tolist()) for text in texts]
    columns = [tuple(group in one for one in held) for group in found]
    door = tuple("door" in text for text in texts)
    assert door in columns
    assert len(set(columns)) == len(columns) <= 12  # each once
    assert not any(all(column) for column in columns)
    assert all(len({task for (task,), has in zip(tasks, column, strict=True) if has}) > 1 for column in columns)


def test_the_best_groups_are_taken_first(monkeypatch: pytest.MonkeyPatch) -> None:
    either = either_or()
    votes = either.votes((1,))
    asked = np.array(["near" in text for text in votes.texts], dtype=float)
    monkeypatch.setattr("selfreg.helper.models.trees.MOST_GROUPS", 1)
    (best,) = informative_groups(read_all(votes.texts), votes.tasks, np.column_stack([1 - asked, asked]))
    has = np.array([best in groups_of(text) for text in votes.texts])
    assert (has == (asked > 0)).all() or (has == (asked == 0)).all()


@pytest.mark.parametrize("text", ["", "the same", "Task: one.\nHere: two."])
def test_texts_that_are_all_alike_get_the_decision_of_most_weight(text: str) -> None:
    either = either_or(200)
    asked = (np.arange(200) % 4 != 0).astype(np.int64)
    alike = replace(either, texts=[text] * 200, decisions=asked)
    helper = train_helper(alike, TREES)
    assert helper.decide([text or "anything"], (1,)).action == "help"
    assert helper.request_probabilities([text], [[1]])[0, 1] == pytest.approx(0.75, abs=0.05)


def test_a_text_of_several_tasks_counts_in_each() -> None:
    """The rule of a light in ten tasks: two texts in all."""
    lights = HelperExamples(
        texts=["red light", "green light"] * 10,
        budgets=np.ones((20, 1), dtype=np.int64),
        decisions=np.array([1, 0] * 10),
        weights=np.ones(20),
        tasks=[f"task {i // 2}" for i in range(20)],
        actions=("nohelp", "help"),
    )
    votes = lights.votes((1,))
    assert [len(tasks) for tasks in votes.tasks] == [10, 10]
    assert len(informative_groups(read_all(votes.texts), votes.tasks, votes.weights[:, 1])) == 2  # red and green


def test_small_logs_grow_trees() -> None:
    either = either_or(80)
    near = replace(either, decisions=np.array(["near" in text for text in either.texts], dtype=np.int64))
    assert train_helper(near, TREES).figures["agreement"] > 0.95


def test_unlikely_and_light_decisions_keep_their_order() -> None:
    alike = replace(
        either_or(200), texts=["same"] * 200, weights=np.full(200, 1e-3), actions=("nohelp", "help", "never")
    )
    asked = (np.arange(200) % 4 == 0).astype(np.int64)
    helper = train_helper(replace(alike, decisions=asked), TREES, costs={"help": 1, "never": 1})
    chances = helper.request_probabilities(["same"], [[1]])[0]
    assert chances[0] > 0.7 > 0.3 > chances[1] > 0.2 > 0.01 > chances[2]


def test_trees_learn_a_plan_and_are_calibrated(light_labels: Labels) -> None:
    helper = train_helper(light_labels, TREES)
    texts = sorted({step.state for one in light_labels.trajectories for step in one.steps})
    requests = [helper.request_probabilities(texts, [[budget]] * len(texts))[:, 1] for budget in range(3)]
    assert not requests[0].any()
    assert 0.2 < (requests[1] > 0.5).mean() < 0.8
    calibrated = calibrate(helper, light_labels)
    assert calibrated.thresholds is not None


def test_a_damaged_file_names_the_folder(tmp_path: Path) -> None:
    helper = train_helper(either_or(200), TREES)
    helper.save(tmp_path / "helper")
    with np.load(tmp_path / "helper" / "weights.npz") as file:
        arrays = dict(file)
    for name, wrong in [
        ("split", arrays["split"] + 10_000),
        ("split", arrays["split"].astype(float)),
        ("leaf", arrays["leaf"][:, :-1]),
        ("leaf", arrays["leaf"] * np.nan),
        ("sizes", arrays["sizes"][:-1]),
        ("sizes", arrays["sizes"] + 1),
        ("sizes", arrays["sizes"] + [-1, 1]),
        ("intercept", arrays["intercept"][:, :1]),
        ("intercept", arrays["intercept"] + np.inf),
        ("action", arrays["action"] + 7),
        ("groups", arrays["groups"] + HASHED),
        ("groups", arrays["groups"] - HASHED),
        ("groups", arrays["groups"][:1]),
    ]:
        np.savez(tmp_path / "helper" / "weights.npz", **{**arrays, name: wrong})
        with pytest.raises(ValueError, match="helper' cannot be loaded"):
            Helper.load(tmp_path / "helper")
    np.savez(tmp_path / "helper" / "weights.npz", **arrays)
    texts = either_or(40).texts
    budgets = [[1]] * 40
    np.testing.assert_array_equal(
        Helper.load(tmp_path / "helper").request_probabilities(texts, budgets),
        helper.request_probabilities(texts, budgets),
    )


def test_trees_saved_before_roles_were_read_decide_as_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    either = either_or(200)
    with monkeypatch.context() as before:
        before.setattr(TreesDecider, "readers", TreesDecider.readers[:1])
        helper = train_helper(either, TREES)
        decided = helper.request_probabilities(either.texts, either.budgets)
    helper.save(tmp_path / "helper")
    path = tmp_path / "helper" / "selfreg.json"
    record = json.loads(path.read_text())
    assert record.pop("roles") == ROLES_VERSION
    path.write_text(json.dumps(record))
    loaded = Helper.load(tmp_path / "helper")
    np.testing.assert_array_equal(loaded.request_probabilities(either.texts, either.budgets), decided)
    with np.load(tmp_path / "helper" / "weights.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "helper" / "weights.npz", **{**arrays, "groups": arrays["groups"] + HASHED})  # of roles
    with pytest.raises(ValueError, match="not numbers of word groups"):
        Helper.load(tmp_path / "helper")
    np.savez(tmp_path / "helper" / "weights.npz", **arrays)
    path.write_text(json.dumps(record | {"roles": ROLES_VERSION + 1}))
    with pytest.raises(ValueError, match="train the helper again"):
        Helper.load(tmp_path / "helper")


def test_trees_read_roles() -> None:
    """The agent is where the map says: no word of it is in two tasks."""
    texts, asked = [], []
    for task in range(60):
        for k in range(6):
            place, other = f"place{task}", f"spot{task}"
            texts.append(f"Task {task}.\nMap: {place}.\nHere: {place if k % 2 else other}.\nTried: door {k}.")
            asked.append(k % 2)
    where = HelperExamples(
        texts, np.ones((360, 1), np.int64), np.array(asked), np.ones(360), [str(i // 6) for i in range(360)],
        ("nohelp", "help"),
    )  # fmt: skip
    assert train_helper(where, TREES).figures["agreement"] == 1.0
