"""The helper's benchmark: what is sampled and kept, and the command that times decisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import helper as benchmark
from benchmarks import latency
from helper_cases import QUICK, rule_examples
from selfreg.helper import Helper, HelperConfig, Labels
from selfreg.prm.transformer import split_tasks

WORDS = HelperConfig(form="tfidf", history=0)


def test_a_share_of_the_pairs_of_training_tasks_is_learnt_from() -> None:
    examples = rule_examples()
    kept = benchmark.sampled(examples, 0.3, WORDS)
    train = np.isin(examples.tasks, split_tasks(examples.tasks, WORDS)["train"])
    assert (kept.weights[~train] == examples.weights[~train]).all()
    used = kept.weights[train] > 0
    assert used.mean() == pytest.approx(0.3, abs=0.05)
    assert (kept.weights[train][used] == examples.weights[train][used]).all()
    pairs = {(text, int(b)): [] for text, b in zip(examples.texts, examples.budgets[:, 0], strict=True)}
    for i in np.flatnonzero(train):
        pairs[examples.texts[i], int(examples.budgets[i, 0])].append(kept.weights[i] > 0)
    assert all(len(set(met)) <= 1 for met in pairs.values()), "a pair is kept or left out as a whole"


def test_kept_helpers_are_not_trained_again(light_labels: Labels, tmp_path: Path, monkeypatch) -> None:
    first = benchmark.trained(light_labels, WORDS, 1.0, tmp_path / "kept" / "tfidf-0")
    monkeypatch.setattr(benchmark, "train_helper", None)
    again = benchmark.trained(light_labels, WORDS, 1.0, tmp_path / "kept" / "tfidf-0")
    assert again.figures == first.figures
    assert again.figures[benchmark.SECONDS] > 0


def test_decisions_are_timed(light_labels: Labels, capsys, monkeypatch) -> None:
    monkeypatch.setattr(latency, "DECISIONS", 5)
    helper = benchmark.train_helper(light_labels, WORDS)
    latency.show({"words": helper}, light_labels.texts())
    head, _, row = capsys.readouterr().out.strip().splitlines()[2:]
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert 0 < float(cells["p50 of CPU time, ms"]) < 1000
    assert float(cells["p50, ms"]) <= float(cells["p95, ms"])
    met = "p50 without reasons under 0.5 ms (5 for a transformer)"
    assert cells[met] == ("yes" if float(cells["p50 without reasons, ms"]) < latency.OTHER else "no")
    assert cells["under 20 ms"] == ("yes" if float(cells["p50 of 100 kB of text, ms"]) < latency.LONG else "no")


def test_states_are_those_of_test_tasks(light_labels: Labels) -> None:
    helper = benchmark.train_helper(light_labels, replace(QUICK, form="tfidf"))
    tests = set(helper.split["test"])

    class Run:
        def trajectories(self) -> list[object]:
            return list(light_labels.trajectories)

    found = latency.states(Run(), helper)  # type: ignore[arg-type]
    assert set(found) == {s.state for t in light_labels.trajectories if t.task in tests for s in t.steps}
    assert isinstance(helper, Helper)
