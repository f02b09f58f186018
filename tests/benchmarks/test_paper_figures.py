"""The paper's method as a whole: labels of the searched policy, the usage that was asked for, interventions counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed (extra 'rl')")

import selfreg
from benchmarks import evaluation, paper
from selfreg.data import NOHELP
from selfreg.envs import CollectConfig, collect
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.helper import HelperConfig, train_helper

SIZE = paper.Size(tasks=8, episodes=16, test_tasks=3, updates=3, epochs=1, samples=1_024)
SETTING = paper.SETTINGS["household-moved"]


def test_labels_are_those_of_the_searched_policies_and_the_usage_is_met() -> None:
    tasks = SETTING.world.tasks(24, 0, 0)[0]
    logs = list(collect(SETTING.world.make, tasks, CollectConfig(episodes_per_task=32, workers=1)))
    model = estimate_mdp(logs, ExactKey())
    search = selfreg.reward_search(model.mdp, model.start, SETTING.usage)
    assert search.mixture.usage == pytest.approx(SETTING.usage)
    examples = paper.searched_examples(logs, model, search)
    assert set(examples.budgets.ravel().tolist()) == {1}
    assert examples.support.min() >= 1
    # The heaviest decision for help is in a state where going on alone is worse by its weight, at the searched price.
    assert {examples.actions[one] for one in examples.decisions} == {NOHELP, paper.HELP}
    states = {(one.task, step.state): model.state(one, t) for one in logs for t, step in enumerate(one.steps)}
    requested = np.flatnonzero(examples.decisions == 1)
    heaviest = int(requested[np.argmax(examples.weights[requested])])
    state = states[examples.tasks[heaviest], examples.texts[heaviest]]
    [solved] = [selfreg.solve_penalized(model.mdp, [search.mixture.penalties[0]])]
    alone = (model.mdp.transitions[NOHELP] @ solved.value)[state, 0]
    assert solved.value[state, 0] - alone >= examples.weights[heaviest] * 0.99 > 0.0
    helper = train_helper(examples, HelperConfig(form="tfidf"))
    met, usage = paper.meet_usage(helper, logs, model, SETTING.usage)
    assert abs(usage - SETTING.usage) < 0.5
    more, larger = paper.meet_usage(helper, logs, model, 4.0)
    assert larger > usage
    assert more.thresholds[1] < met.thresholds[1]


def test_a_run_is_whole_and_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "QUICK", SIZE)
    arguments = ["--paper", "--quick", "--out", str(tmp_path)]
    evaluation.main(arguments)
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[2:]] == ["never", "random", "PRM threshold", "PPO", "helper", "always"]
    folder = tmp_path / "household-moved"
    figures = json.loads((folder / paper.FIGURES).read_text())
    training = figures["training"]
    assert training["PPO"]["decisions"] == len(paper.PRICES) * SIZE.samples
    # An untrained PPO requests help about every second time; Phase I at its mean rate.
    assert 0.2 < training["PPO"]["interventions"] / training["PPO"]["decisions"] < 0.8
    assert 0.1 < training["helper"]["interventions"] / training["helper"]["decisions"] < 0.4
    assert (folder / "lm" / "model.safetensors").is_file()
    before = (folder / paper.FIGURES).stat().st_mtime_ns
    evaluation.main(arguments)
    assert capsys.readouterr().out == printed
    assert (folder / paper.FIGURES).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds a run of other sizes"):
        evaluation.main([*arguments, "--seed", "1"])


def test_unknown_settings_are_named() -> None:
    with pytest.raises(SystemExit, match="--paper has no setting 'coin'"):
        evaluation.main(["--paper", "--settings", "coin"])


def test_the_language_model_learns(tmp_path: Path) -> None:
    texts = [f"Task: put the {thing} down. Steps left: {i}." for thing in ("bowl", "cup") for i in range(10)]
    first, last = (paper.train_language_model(texts, tmp_path / str(n), n, 0) for n in (1, 60))
    assert last < 0.7 * first
