"""Scores of whole logs: those of the PRM, each text once, whatever is killed, cached or wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import made
from selfreg.cli.main import main
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.data.faults import LogError
from selfreg.prm import PRM, PRMConfig, read_scores, score_logs, scoring, train_prm

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prm") / "prm"
    train_prm(made.colours(), PRMConfig(kind="tfidf", history=1)).save(folder)
    return folder


@pytest.fixture
def log(tmp_path) -> Path:
    write_trajectories(tmp_path / "log.jsonl.zst", made.colours())
    return tmp_path / "log.jsonl.zst"


def expected(prm: Path, logs: list[Trajectory]) -> list[float]:
    model = PRM.load(prm)
    return model.score([model.text(t.steps[: i + 1]) for t in logs for i in range(len(t.steps))]).tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_are_those_of_the_prm(prm, log, tmp_path, workers, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "PIECE_STEPS", 50)
    found = score_logs(prm, log, tmp_path / "out", workers=workers)
    logs = made.colours()
    table = read_scores(tmp_path / "out")
    assert (found.episodes, found.steps, found.skipped) == (200, 400, [])
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 8
    np.testing.assert_allclose(table["score"], expected(prm, logs), rtol=0, atol=1e-12)
    assert table["episode"].to_pylist() == [t.episode for t in logs for _ in t.steps]
    assert table["step"].to_pylist() == [0, 1] * 200
    assert found.texts == len(set(table["text"].to_pylist()))


def test_a_transformer_in_processes(tmp_path) -> None:
    """Batches differ from those of one call: the same scores up to rounding."""
    train_prm(made.colours(), PRMConfig(hidden_size=32, layers=1, epochs=1)).save(tmp_path / "prm")
    logs = made.colours(tasks=3)
    write_trajectories(tmp_path / "log.parquet", logs)
    score_logs(tmp_path / "prm", tmp_path / "log.parquet", tmp_path / "out", workers=2)
    scores = read_scores(tmp_path / "out")["score"]
    np.testing.assert_allclose(scores, expected(tmp_path / "prm", logs), rtol=0, atol=1e-5)


def test_every_text_is_scored_once(prm, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "PIECE_STEPS", 8)
    seen: list[str] = []
    real = scoring._score
    monkeypatch.setattr(scoring, "_score", lambda model, texts: (seen.extend(texts), real(model, texts))[1])
    logs = [Trajectory(f"t{i}", f"e{i}", 1.0, (Step(f"s{i % 5}"), Step(f"s{i % 3}"))) for i in range(60)]
    for name in ("a", "b"):
        write_trajectories(tmp_path / f"{name}.jsonl", logs)
        score_logs(prm, tmp_path / f"{name}.jsonl", tmp_path / name, workers=1, cache=tmp_path / "cache" / "scores")
        assert len(seen) == len(set(seen)) == len(set(read_scores(tmp_path / name)["text"].to_pylist()))
    assert read_scores(tmp_path / "a").equals(read_scores(tmp_path / "b"))


def test_only_missing_parts_are_made_again(prm, log, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "PIECE_STEPS", 50)
    out = tmp_path / "out"
    score_logs(prm, log, out, workers=1)
    whole = read_scores(out)
    for number in (2, 5):
        (out / f"part-{number:07d}.parquet").unlink()
    assert score_logs(prm, log, out, workers=1).texts == 0
    assert read_scores(out).equals(whole)
    (out / "cache.sqlite").unlink()
    (out / "part-0000003.parquet").unlink()
    again = score_logs(prm, log, out, workers=1)
    assert 0 < again.texts <= 50
    np.testing.assert_allclose(read_scores(out)["score"], whole["score"], rtol=0, atol=1e-12)


def test_what_is_wrong_is_named(prm, log, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"missing selfreg\.json"):
        score_logs(tmp_path / "nothing", log, tmp_path / "x", workers=1)
    with pytest.raises(LogError, match="no such file"):
        score_logs(prm, tmp_path / "none.jsonl", tmp_path / "x", workers=1)
    with pytest.raises(ValueError, match="not a set of scores"):
        read_scores(tmp_path)
    score_logs(prm, log, tmp_path / "out", workers=1)
    train_prm(made.colours(seed=1), PRMConfig(kind="tfidf")).save(tmp_path / "other")
    with pytest.raises(ValueError, match="has another set of scores: its prm is"):
        score_logs(tmp_path / "other", log, tmp_path / "out", workers=1)
    with pytest.raises(ValueError, match="scores of another PRM"):
        score_logs(tmp_path / "other", log, tmp_path / "o", workers=1, cache=tmp_path / "out" / "cache.sqlite")
    (tmp_path / "text").write_text("this is no data base, and long enough to be seen as none" * 20)
    with pytest.raises(ValueError, match="is not a cache of scores"):
        score_logs(prm, log, tmp_path / "p", workers=1, cache=tmp_path / "text")
    (tmp_path / "bad.jsonl").write_text('{"task": "t"}\n')
    with pytest.raises(LogError, match=r"bad.jsonl:1: "):
        score_logs(prm, tmp_path / "bad.jsonl", tmp_path / "q", format="selfreg", workers=1)
    found = score_logs(prm, [tmp_path / "bad.jsonl", log], tmp_path / "r", format="selfreg", workers=1, skip_bad=True)
    assert (found.episodes, len(found.skipped)) == (200, 1)


KILLED = """
import sys, time
from selfreg.prm import score_logs, scoring
scoring.PIECE_STEPS = 20
real = scoring._score
def slow(model, texts):
    time.sleep(0.02)
    return real(model, texts)
scoring._score = slow
import selfreg.prm.prm
print("ready", flush=True)
score_logs(sys.argv[1], sys.argv[2], sys.argv[3], workers=1)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.long)])
def test_kills_lose_nothing(prm, log, tmp_path, kills, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "PIECE_STEPS", 20)
    random, hits = np.random.default_rng(kills), 0
    for turn in range(kills + 1):
        command = [sys.executable, "-c", KILLED, str(prm), str(log), str(tmp_path / "killed")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if turn < kills:
                time.sleep(random.uniform(0.02, 0.3))
                process.send_signal(signal.SIGKILL)
            hits += process.wait() == -signal.SIGKILL
    assert hits >= min(kills, 2) - 1
    score_logs(prm, log, tmp_path / "whole", workers=1)
    assert read_scores(tmp_path / "killed").equals(read_scores(tmp_path / "whole"))


def test_on_the_command_line(prm, log, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").write_text("")
    assert main(["prm", "score", str(run), str(log), "--out", str(tmp_path / "out")]) == 2
    assert "train --part prm" in capsys.readouterr().err
    prm_there = run / "prm"
    prm_there.symlink_to(prm, target_is_directory=True)
    assert main(["prm", "score", str(run), str(log), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "400 steps of 200 episodes" in capsys.readouterr().err
    assert read_scores(tmp_path / "out").num_rows == 400
