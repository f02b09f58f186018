"""Wide tables: a row a query, a column a model."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from selfreg.cli.main import main
from selfreg.data import LogError, look_at_logs, read_trajectories

MODELS = ("mistralai/Mixtral-8x7B", "gpt-4-1106-preview")


def write(path: Path, columns: list[str], rows: list[list[Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return path


def router_bench(folder: Path) -> Path:
    """As RouterBench lays it out: scores, answers and costs of each model."""
    columns = ["sample_id", "prompt", "eval_name", *MODELS, *(f"{m}|model_response" for m in MODELS)]
    columns += [f"{m}|total_cost" for m in MODELS]
    scores = [("0.0", "1.0"), ("0.5", "1.0"), ("", "0.0")]
    rows = [[f"q{i}", f"Question {i}", "mmlu", *pair, "weak", "strong", 0.1, 0.2] for i, pair in enumerate(scores)]
    return write(folder / "bench.csv", columns, rows)


def test_each_row_and_model_is_an_episode(tmp_path) -> None:
    log = router_bench(tmp_path)
    episodes = list(read_trajectories(log, "table", roles={"outcome": "+".join(MODELS)}))
    found = [(one.task, one.fields["model"], one.outcome, one.steps[0].action) for one in episodes]
    assert found == [
        ("q0", MODELS[0], 0.0, "weak"), ("q0", MODELS[1], 1.0, "strong"),
        ("q1", MODELS[0], 0.5, "weak"), ("q1", MODELS[1], 1.0, "strong"),
        ("q2", MODELS[0], None, "weak"), ("q2", MODELS[1], 0.0, "strong"),
    ]  # fmt: skip
    assert episodes[4].truncated
    assert {one.steps[0].state for one in episodes} == {"Question 0", "Question 1", "Question 2"}
    assert len({one.episode for one in episodes}) == 6
    some = read_trajectories(log, "table", roles={"outcome": "*Mixtral*+gpt-4*"}, where={"model": [MODELS[1]]})
    assert [one.outcome for one in some] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_look_finds_the_models_and_its_command_runs(tmp_path, suffix) -> None:
    rows = [[f"Question {i}", str(i % 3 == 0), str(i % 3 != 1)] for i in range(30)]
    log = write(tmp_path / "routes.csv", ["prompt", *MODELS], rows)
    if suffix == ".parquet":
        pq.write_table(pyarrow.csv.read_csv(log), log := log.with_suffix(suffix))
    found = look_at_logs(log)
    assert (found.episodes, found.tasks, found.models) == (60, 30, dict.fromkeys(MODELS, 30))
    assert any("taken as models" in hint for hint in found.hints)
    assert f"--map outcome={'+'.join(MODELS)} --help-model gpt-4-1106-preview=" in found.command
    command = shlex.split(found.command)[1:-2]
    assert main([*command, "--samples", "0", "--out", str(tmp_path / "run")]) == 0


def test_of_many_models_the_plan_is_for_two(tmp_path) -> None:
    names = ["gpt-a_score", "gpt-b_score", "gpt-c_score"]
    log = write(tmp_path / "log.csv", ["id", "question", *names], [[i, "q", i % 9, 5, 10] for i in range(20)])
    found = look_at_logs(log)
    assert "--value outcome=0..10 --where model=gpt-a --where model=gpt-c --help-model gpt-c=gpt-c" in found.command
    assert any("the plan is for gpt-a with gpt-c as help" in hint for hint in found.hints)


def test_names_of_columns_that_are_wrong(tmp_path) -> None:
    log = router_bench(tmp_path)
    with pytest.raises(LogError, match=r"bench.csv: column 'gpt-9\*' is missing \(role 'outcome'\); there are sample"):
        list(read_trajectories(log, "table", roles={"outcome": f"{MODELS[0]}+gpt-9*"}))
    log = write(tmp_path / "both.csv", ["id", "model", "a_score", "b_score"], [["1", "x", 1, 0]])
    with pytest.raises(LogError, match="the table has a column 'model'"):
        list(read_trajectories(log, "table", roles={"outcome": "*_score"}))
    log = write(tmp_path / "criteria.csv", ["id", "question", "score_style", "score_accuracy"], [["1", "q", 1, 0]])
    found = look_at_logs(log)  # no models by their names
    assert found.faults == [f"{log}: no column for the role 'outcome'; there are id, question, score_style, "
                            "score_accuracy: --map outcome=COLUMN"]  # fmt: skip
