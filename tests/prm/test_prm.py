"""The PRM: what it learns from, its figures, its folder."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

import made
from selfreg.data import Step, Trajectory, state_text
from selfreg.prm import PRM, PRMConfig, train_prm
from selfreg.prm.visits import unhelped_visits

_QUICK = PRMConfig(hidden_size=32, layers=1, epochs=4)


@pytest.fixture(scope="module")
def prm() -> PRM:
    return train_prm(made.colours(), _QUICK)


def test_learns_on_held_out_tasks(prm: PRM) -> None:
    assert prm.figures["auroc"] > 0.9
    assert prm.figures["brier"] < prm.figures["brier_constant"] / 2
    assert prm.figures["ece"] < 0.2
    good, bad = prm.score(["green door north", "red door north"])
    assert good > 0.8
    assert bad < 0.2


def test_counts_only_unhelped_continuations(prm: PRM) -> None:
    helped = {i for i in range(10) if i % 3 == 0}
    assert prm.figures["train_steps"] == 14 * (2 * 10 - len(helped))
    assert prm.figures["test_steps"] == 3 * (2 * 10 - len(helped))


def test_split_holds_every_task_once(prm: PRM) -> None:
    assert sorted(task for part in prm.split.values() for task in part) == sorted({log.task for log in made.colours()})


def test_save_and_load(prm: PRM, tmp_path: Path) -> None:
    prm.save(tmp_path / "prm")
    loaded = PRM.load(tmp_path / "prm")
    texts = [*(log.steps[0].state for log in made.colours(seed=1)[:50]), "", "green " * 1000]
    np.testing.assert_allclose(loaded.score(texts), prm.score(texts), atol=1e-6)
    assert (loaded.calibration, loaded.history, loaded.kind) == (prm.calibration, prm.history, prm.kind)
    assert (loaded.figures, loaded.split, loaded.facts) == (prm.figures, prm.split, prm.facts)


def test_visits_merge_identical_texts_into_soft_targets() -> None:
    logs = [
        Trajectory(task="t", episode="1", outcome=1.0, steps=(Step(state="a"), Step(state="b"))),
        Trajectory(task="t", episode="2", outcome=0.0, steps=(Step(state="a"), Step(state="a", intervention="help"))),
        Trajectory(task="u", episode="3", outcome=0.0, steps=(Step(state="c", intervention="help"), Step(state="a"))),
        Trajectory(task="u", episode="4", outcome=None, steps=(Step(state="d"),), truncated=True),
    ]
    visits = unhelped_visits(logs, state_text)
    assert (visits.texts, visits.tasks) == (["a", "b", "a"], ["t", "t", "u"])
    merged = visits.merge()
    assert merged.texts == ["a", "b"]
    np.testing.assert_array_equal(merged.targets, [[0.5], [1.0]])
    np.testing.assert_array_equal(merged.weights, [2.0, 1.0])
    assert visits.select_tasks(["u"]).texts == ["a"]


def test_history_is_part_of_the_text() -> None:
    steps = (Step(state="a", action="go"), Step(state="b"))
    visits = unhelped_visits(
        [Trajectory(task="t", episode="1", outcome=1.0, steps=steps)], partial(state_text, history=1)
    )
    assert visits.texts == ["a", "a\n> go\nb"]


def test_says_what_is_missing() -> None:
    logs = made.colours(tasks=3, episodes=3)
    with pytest.raises(ValueError, match="2 task"):
        train_prm([log for log in logs if log.task != "task 0"], _QUICK)
    always = [msgspec.structs.replace(log, outcome=1.0) for log in logs]
    with pytest.raises(ValueError, match=r"every outcome of the 1 training tasks \(of 3 tasks\) is 1.0"):
        train_prm(always, _QUICK)
    ask = (Step(state="x", intervention="help"),)
    helped = [msgspec.structs.replace(log, steps=ask) for log in logs]
    with pytest.raises(ValueError, match="none of 9 trajectories"):
        train_prm(helped, _QUICK)
    with pytest.raises(ValueError, match="none of 0 trajectories"):
        train_prm([], _QUICK)


def test_test_tasks_of_one_outcome_have_no_area() -> None:
    logs = made.colours(tasks=6, luck=1.0)
    split = train_prm(logs, PRMConfig(hidden_size=16, layers=1, epochs=1)).split
    same = [msgspec.structs.replace(log, outcome=1.0) if log.task in split["test"] else log for log in logs]
    assert "auroc" not in train_prm(same, PRMConfig(hidden_size=16, layers=1, epochs=1)).figures


def test_imports_without_torch_and_names_the_extra() -> None:
    script = """
import sys
sys.modules["torch"] = None
import selfreg
import selfreg.prm, selfreg.helper
from selfreg.helper import Helper, HelperConfig
from selfreg.prm import EncoderConfig, PRM, PRMConfig
from selfreg.prm.transformer import TextClassifier
try:
    TextClassifier.create(["success"], ["a"], EncoderConfig())
except ImportError as error:
    assert "pip install 'selfreg[ml]'" in str(error), error
else:
    sys.exit("torch was not missed")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_importing_stays_light() -> None:
    script = "import sys, selfreg, selfreg.prm, selfreg.helper; from selfreg import Ledger\n"
    script += "sys.exit(', '.join({'torch', 'transformers', 'msgspec', 'rich'} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
