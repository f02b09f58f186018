"""The states that are chosen where the user names none."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, Features, count, count_logs
from selfreg.estimate.default_state import (
    LEAST_TASKS,
    MOST_STEPS,
    _sample,
    choose_features,
    find_edges,
    find_task_fields,
)
from selfreg.estimate.score_bins import from_description


def log(effect: float, n: int = 60, repetitions: int = 4, seed: int = 0, **more) -> list[Trajectory]:
    """Tasks of two domains, whose success rates differ by `effect`; a field that tells the outcome, and noise."""
    random = np.random.default_rng(seed)
    made = []
    for task in range(n):
        hard = task % 2
        noise = int(random.integers(4))
        for run in range(repetitions):
            won = float(random.random() < 0.5 + effect * (0.5 - hard))
            fields = {"domain": "ab"[hard], "noise": noise, "ended": won, "id": task, **more}
            steps = (Step("start"), Step("Error" if random.random() < 0.8 * (1 - won) else "fine"))
            made.append(Trajectory(f"t{task}", f"{task}/{run}", won, steps, fields=fields))
    return made


def test_a_field_of_the_task_is_chosen_where_it_predicts() -> None:
    chosen = choose_features(log(0.8), {"go": "^go"})
    assert chosen.features == Features(["step", "domain"])
    assert chosen.likelihoods["step,domain"] > chosen.likelihoods["step"]
    assert "states are --state step,domain" in chosen.describe()
    assert "step -0.69" in chosen.describe()


@pytest.mark.parametrize("seed", range(5))
def test_the_step_alone_where_no_field_does(seed) -> None:
    names = choose_features(log(0.0, seed=seed)).features.names
    assert list(names) in (["step"], ["step", "domain"], ["step", "noise"], ["step", "class"])
    assert "ended" not in names


def test_what_the_episode_determines_is_never_a_feature() -> None:
    assert find_task_fields(log(0.5)) == ["domain", "noise"]
    assert find_task_fields(log(0.5, repetitions=1)) == []
    assert find_task_fields([]) == []


def test_classes_are_tried() -> None:
    chosen = choose_features(log(0.0), {"error": "^Error"})
    assert "class" in chosen.features.names
    assert chosen.features.classes == {"error": "^Error"}


def test_likelihood_against_a_direct_count() -> None:
    """One state for all: each task is predicted from the tasks of the other folds."""
    import zlib

    episodes = [Trajectory(f"t{i}", str(i), float(i % 3 == 0), (Step("a"),)) for i in range(30)]
    found = choose_features(episodes).likelihoods["step"]
    expected = 0.0
    for one in episodes:
        fold = zlib.crc32(one.task.encode()) % 5
        others = [t.outcome for t in episodes if zlib.crc32(t.task.encode()) % 5 != fold]
        rate = (sum(others) + 1) / (len(others) + 2)
        p = (sum(others) + 2 * rate) / (len(others) + 2)
        expected += np.log(p if one.outcome else 1 - p) / 30
    assert found == pytest.approx(expected)


def test_all_failures_and_no_unhelped_episodes() -> None:
    lost = [Trajectory(f"t{i}", str(i), 0.0, (Step("a"),)) for i in range(10)]
    assert choose_features(lost).features.names == ["step"]
    helped = [Trajectory(f"t{i}", str(i), 1.0, (Step("a", intervention="x"),)) for i in range(10)]
    assert choose_features(helped).features.names == ["step"]


def test_values_that_python_calls_equal_are_different_states(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [f'{{"task":"t","episode":"{i}","outcome":1.0,"steps":[{{"state":"a"}}],"fields":{{"d":{d}}}}}'
             for i, d in enumerate(("1", "true", "1.0", '"1"'))]  # fmt: skip
    path.write_text("\n".join(lines))
    features = Features(["step", "d"])
    counted = count_logs(path, features, workers=1).counts
    assert counted.keys == ((0, 1), (0, "true"), (0, "1.0"), (0, "1"))
    from selfreg.data import read_trajectories

    assert count(read_trajectories(path), features).keys == counted.keys
    assert len(count_logs(path, ExactKey(), workers=1).counts.keys) == 1


def test_an_unknown_feature_is_an_error_that_names_each_other_once() -> None:
    one = Trajectory("t", "e", 1.0, (Step("a"),), fields={"task": "t", "domain": "x"})
    with pytest.raises(ValueError, match=r"unknown feature 'x'; episode 'e' has step, class, task, last_help, domain$"):
        Features(["x"]).fit([one])


def test_words_that_tell_success_are_classes() -> None:
    chosen = choose_features(log(0.0, n=100))
    assert list(chosen.features.names) == ["step", "class"]
    assert set(chosen.features.classes) <= {"error", "fine", "start"}
    assert "(classes of texts: " in chosen.describe()
    assert from_description(chosen.features.describe()) == chosen.features
    one = Trajectory("t", "e", 1.0, (Step("an ERROR: no"),))
    other = Trajectory("t", "e", 1.0, (Step("the terrors are fine"),))
    assert chosen.features.encode(one, 0) != chosen.features.encode(other, 0)


@pytest.mark.parametrize("seed", range(5))
def test_words_without_meaning_are_no_classes(seed) -> None:
    random = np.random.default_rng(seed)
    words = [f"{a}{b}{c}" for a in "kmnp" for b in "aeio" for c in "rst"]
    episodes = []
    for i in range(200):
        text = " ".join(random.choice(words, 6))
        episodes.append(Trajectory(f"t{i // 2}", str(i), float(random.random() < 0.5), (Step(text),)))
    assert list(choose_features(episodes).features.names) == ["step"]


def test_a_score_of_the_task_is_put_in_bins() -> None:
    random = np.random.default_rng(3)
    episodes = []
    for task in range(120):
        score = float(random.random())
        for run in range(4):
            won = float(random.random() < 0.1 + 0.8 * score)
            episodes.append(
                Trajectory(f"t{task}", f"{task}/{run}", won, (Step("a"),), fields={"score": score, "n": task})
            )
    assert list(find_edges(episodes)) == ["score"]
    chosen = choose_features(episodes)
    assert list(chosen.features.names) == ["step", "score"]
    assert len({chosen.features.encode(t, 0) for t in episodes}) == 4
    assert "'score' in bins at 0." in chosen.describe()
    assert from_description(chosen.features.describe()) == chosen.features
    assert len(count(episodes, chosen.features).keys) == 4
    with pytest.raises(ValueError, match="field 'score' is 'x'; expected a number"):
        chosen.features.encode(Trajectory("t", "e", 1.0, (Step("a"),), fields={"score": "x"}), 0)


def test_large_logs_are_sampled(monkeypatch) -> None:
    monkeypatch.setattr("selfreg.estimate.default_state.MOST_STEPS", 500)
    assert "domain" in choose_features(log(0.9, n=400)).features.names


@pytest.mark.parametrize("tasks", [1, 4, 30, 600])
def test_a_sample_of_a_large_log_has_tasks_and_few_steps(tasks: int) -> None:
    steps = tuple(Step("go") for _ in range(60))
    log = [Trajectory(f"t{i % tasks}", str(i), float(i % 2), steps) for i in range(1200)]
    sample = _sample(log)
    assert 0 < sum(len(t.steps) for t in sample) <= 1.1 * MOST_STEPS
    assert len({t.task for t in sample}) >= min(tasks, LEAST_TASKS)
    assert {t.outcome for t in sample} == {0.0, 1.0}
    assert _sample(log[:300]) == log[:300]
