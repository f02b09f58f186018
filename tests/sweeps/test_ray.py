"""Sweeps on a real local Ray cluster of several nodes; a worker and a node are killed while it runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_runner import chain, many, tiny

import made
import selfreg
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.data.faults import LogError
from selfreg.estimate import ExactKey, count_logs
from selfreg.estimate.ingest import pieces as _pieces
from selfreg.prm import PRMConfig, read_scores, score_logs, scoring, train_prm
from selfreg.sweeps.batches import ModelError
from selfreg.sweeps.results import Sweep

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytestmark = pytest.mark.filterwarnings("default")  # what Ray warns of is Ray's


@pytest.fixture(scope="module")
def cluster():
    """A head without workers, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    store = 100 << 20
    before = dict(os.environ)
    # Workers import from the same folders as this process.
    folders = [str(Path(__file__).parents[i]) for i in (0, 1)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*folders, before.get("PYTHONPATH")]))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": store, "include_dashboard": False},
    )
    made.workers = [made.add_node(num_cpus=1, object_store_memory=store) for _ in range(2)]
    ray.init(address=made.address, logging_level="error", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


def slow(place: int) -> selfreg.InterventionMDP:
    time.sleep(0.01)
    return chain(4, place)


def noted(folder: str, place: int) -> selfreg.InterventionMDP:
    """Leaves a note of each time that it runs."""
    with open(Path(folder) / str(place), "a") as file:
        file.write("x")
    return slow(place)


def fatal(flag: str, place: int) -> selfreg.InterventionMDP:
    """Kills its worker the first time that it makes model 30; every time where `flag` is empty."""
    if place == 30 and not (flag and Path(flag).exists()):
        if flag:
            Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return chain(4, place)


def same(found: Sweep, local: Sweep) -> None:
    for name in ("value", "usage", "bound", "states", "indices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(local, name))
    assert found.errors == local.errors


def test_answers_are_those_of_threads(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_MODELS", 16)
    mdps = [*many(100), tiny, (chain(4, 2), 3), "nothing"]
    local = selfreg.sweep(mdps, 3, on_error="record")
    same(selfreg.sweep(mdps, 3, executor="ray", on_error="record"), local)
    one = selfreg.RayExecutor(n_workers=1)
    same(selfreg.sweep(iter(mdps), 3, executor=one, on_error="record", out=tmp_path / "o"), local)
    with pytest.raises(ModelError, match=r"^model 102: expected an InterventionMDP"):
        selfreg.sweep(mdps, 3, executor="ray")


def test_a_grid_runs_in_the_workers(cluster) -> None:
    grid = selfreg.ModelGrid(slow, {"place": list(range(20))})
    same(selfreg.sweep(grid, 2, executor="ray"), selfreg.sweep(grid, 2))


def test_a_killed_worker_costs_its_batch_only(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_UNMADE", 8)
    grid = selfreg.ModelGrid(partial(fatal, str(tmp_path / "flag")), {"place": list(range(80))})
    found = selfreg.sweep(grid, 2, executor="ray")
    assert (tmp_path / "flag").exists()
    same(found, selfreg.sweep([chain(4, i) for i in range(80)], 2))


def test_a_batch_that_kills_every_worker_is_given_up_and_the_rest_stays(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_UNMADE", 8)
    grid = selfreg.ModelGrid(partial(fatal, ""), {"place": list(range(40))})
    with pytest.raises(ConnectionError, match="Ray gave up"):
        selfreg.sweep(grid, 2, executor=selfreg.RayExecutor(retries=1), out=tmp_path / "o")
    kept = selfreg.read_sweep(tmp_path / "o").indices
    assert 0 < len(kept) < 40
    assert 30 not in kept
    healed = selfreg.ModelGrid(chain, {"n": [4], "seed": list(range(40))})
    with pytest.raises(ValueError, match="has another sweep"):
        selfreg.sweep(healed, 2, executor="ray", out=tmp_path / "o")


@pytest.mark.long
def test_a_node_killed_in_mid_sweep_changes_nothing(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.sweeps.batches.BATCH_UNMADE", 10)
    (tmp_path / "notes").mkdir()
    grid = selfreg.ModelGrid(partial(noted, str(tmp_path / "notes")), {"place": list(range(400))})

    def kill() -> None:
        while len(list((tmp_path / "notes").iterdir())) < 100:
            time.sleep(0.01)
        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = selfreg.sweep(grid, 2, executor="ray", out=tmp_path / "o")
    killer.join()
    assert len(cluster.workers) == 1
    same(found, selfreg.sweep([chain(4, i) for i in range(400)], 2))
    again = sum(len(path.read_text()) for path in (tmp_path / "notes").iterdir()) - 400
    # What was running or done on the node and not yet fetched: the batches handed out, at most.
    assert again <= 10 * 2 * 2 * 2


def test_logs_are_counted_on_nodes_that_know_nothing_of_each_other(cluster, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_pieces, "PIECE_BYTES", 3000)
    episodes = [
        Trajectory(f"t{i % 3}", f"e{i}", float(i % 2), (Step(f"s{i % 7}"), Step(f"s{i % 5}"))) for i in range(300)
    ]
    for name in ("log.jsonl", "log.jsonl.gz", "log.parquet"):
        write_trajectories(tmp_path / name, episodes)
        one = count_logs(tmp_path / name, ExactKey(), workers=1)
        out = tmp_path / f"{name}.counts"
        other = count_logs(tmp_path / name, ExactKey(), executor="ray", out=out)
        again = count_logs(tmp_path / name, ExactKey(), executor=selfreg.RayExecutor(n_workers=1), out=out)
        for found in (other, again):
            assert found.counts.keys == one.counts.keys
            assert (found.episodes, found.steps) == (300, 600)
            assert (found.counts.transitions["nohelp"] != one.counts.transitions["nohelp"]).nnz == 0
    (tmp_path / "bad.jsonl").write_text('{"task": "t"}\n')
    with pytest.raises(LogError, match=r"bad.jsonl: of no known format"):
        count_logs(tmp_path / "bad.jsonl", ExactKey(), executor="ray")
    with pytest.raises(ValueError, match="executor is 'local'"):
        count_logs(tmp_path / "log.jsonl", ExactKey(), executor="local")


@pytest.fixture(scope="module")
def prm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prm") / "prm"
    train_prm(made.colours(), PRMConfig(kind="tfidf", history=1)).save(folder)
    return folder


def test_logs_are_scored_on_nodes_that_have_no_files(cluster, prm, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "PIECE_STEPS", 50)
    write_trajectories(tmp_path / "log.jsonl.zst", made.colours())
    local = score_logs(prm, tmp_path / "log.jsonl.zst", tmp_path / "local", workers=1)
    found = score_logs(prm, tmp_path / "log.jsonl.zst", tmp_path / "ray", executor="ray")
    assert found == local
    assert read_scores(tmp_path / "ray").equals(read_scores(tmp_path / "local"))
    parts = sorted((tmp_path / "ray").glob("part-*.parquet"))
    assert len(parts) == 8
    # Half of the parts gone, and what was scored with them: made again, by one worker.
    for path in [*parts[4:], *(tmp_path / "ray").glob("*.sqlite*")]:
        path.unlink()
    one = selfreg.RayExecutor(n_workers=1)
    again = score_logs(prm, tmp_path / "log.jsonl.zst", tmp_path / "ray", executor=one)
    assert (again.episodes, again.steps) == (local.episodes, local.steps)
    assert read_scores(tmp_path / "ray").equals(read_scores(tmp_path / "local"))


@pytest.mark.long
def test_a_node_killed_while_it_scores_changes_nothing(cluster, prm, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "PIECE_STEPS", 2)
    write_trajectories(tmp_path / "log.jsonl", made.colours())
    score_logs(prm, tmp_path / "log.jsonl", tmp_path / "local", workers=1)
    node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)

    def kill() -> None:
        while len(list((tmp_path / "ray").glob("part-*.parquet"))) < 20:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = score_logs(prm, tmp_path / "log.jsonl", tmp_path / "ray", executor="ray")
    killer.join()
    assert (found.episodes, found.steps) == (200, 400)
    assert read_scores(tmp_path / "ray").equals(read_scores(tmp_path / "local"))


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="retries is -1"):
        selfreg.RayExecutor(retries=-1)
    with pytest.raises(ValueError, match="expected at least 1"):
        selfreg.RayExecutor(n_workers=0)
