"""The PRM's benchmark: its figures are those of the metrics, and it runs on logs of the two forms."""

from __future__ import annotations

import dataclasses
import gzip
import json

import numpy as np
import pytest

import made
from benchmarks import prm as benchmark
from selfreg.prm.metrics import auroc, brier
from selfreg.prm.visits import Visits


@pytest.fixture
def folder(tmp_path):
    """40 tasks in either form: an error in the observation, or a wrong step, decides."""
    rng, runs, traces = np.random.default_rng(0), [], []
    for i in range(40):
        bad = rng.random() < 0.5
        base = {"task_id": f"d/{i}", "domain": "ab"[i % 2], "actor": benchmark.ACTOR, "success": int(not bad)}
        steps = [
            {"observation": f"task {i}", "action": "try"},
            {"observation": "error" if bad else "fine", "action": "go"},
        ]
        runs.append({**base, "helper": None, "steps": steps})
        runs.append({**base, "helper": "gpt-4", "steps": [{**step, "label": int(not bad)} for step in steps]})
        marked = [
            {"observation": f"task {i}", "action": "so", "label": 1},
            {"observation": "so", "action": "wrong" if bad else "right", "label": int(not bad)},
        ]
        traces.append({**base, "steps": marked})
    for name, records in ((benchmark.MINT, runs), (benchmark.MISTAKES, traces)):
        (tmp_path / name).parent.mkdir()
        with gzip.open(tmp_path / name, "wt") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in records)
    return tmp_path


def test_tables(folder, capsys, monkeypatch) -> None:
    quick = dataclasses.replace(benchmark.CONFIG, hidden_size=16, layers=1, epochs=1, max_tokens=32)
    monkeypatch.setattr(benchmark, "CONFIG", quick)
    monkeypatch.setattr(benchmark, "RESAMPLES", 20)
    for only in ("mint", "mistakes"):
        benchmark.main(["--data", str(folder), "--seeds", "2", "--only", only])
    printed = capsys.readouterr().out
    assert "40 episodes of 40 tasks" in printed
    assert "40 traces" in printed
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| tfidf ")]
    assert all(float(row[1].split()[0]) > 0.7 for row in rows)
    assert {row[0] for row in rows} == {"| tfidf"}
    assert "| b | " in printed


def test_a_fine_tuned_encoder(folder, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "CONFIG", dataclasses.replace(benchmark.CONFIG, learning_rate=3e-3))
    monkeypatch.setattr(benchmark, "RESAMPLES", 20)
    encoder = str(made.pretrained_folder("bert", tmp_path / "bert"))
    benchmark.main(["--data", str(folder), "--seeds", "1", "--only", "finetune", "--encoder", encoder])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    area = {row[0]: float(row[1].split()[0]) for row in rows if row[0] in ("| PRM fine-tuned", "| constant")}
    assert area["| PRM fine-tuned"] > area["| constant"] == 0.5


def test_figures_are_means_over_splits(folder) -> None:
    rng, found = np.random.default_rng(0), []
    for seed in range(3):
        tasks = [str(t) for t in rng.permutation(30)[:12] for _ in range(4)]
        outcomes, n = rng.integers(0, 2, 48).astype(float), 48
        visits = Visits([""] * n, outcomes, np.ones(n), tasks, np.arange(n) % 4)
        found.append(benchmark.Result("m", seed, np.clip(outcomes * 0.3 + rng.random(n) * 0.7, 0, 1), visits, 0.0))
    for name, metric in (("AUROC", auroc), ("Brier", brier)):
        values = benchmark.figures(found, name)
        assert values.mean == pytest.approx(np.mean([metric(one.score, one.visits.outcomes) for one in found]))
        assert values.low < values.mean < values.high
    same = benchmark.figures(found, "Brier", found)
    assert same == (0.0, 0.0, 0.0)
    first = [benchmark.cut(one, one.visits.steps == 0) for one in found]
    assert all(len(one.score) == 12 for one in first)
