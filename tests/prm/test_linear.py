"""Plain models behind the PRM's interface, and what is said of them beside the PRM."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import made
from selfreg.data import Step, Trajectory
from selfreg.prm import PRM, PRMConfig, train_prm, with_baselines
from selfreg.prm.comparison import compare_prms, describe_comparison

KINDS = ["constant", "step", "tfidf", "embedding"]
SEEN = [log.steps for log in made.colours(seed=5)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(made.pretrained_folder("bert", tmp_path_factory.mktemp("encoders") / "bert"))


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest, encoder: str) -> PRMConfig:
    return PRMConfig(kind=request.param, model=encoder, max_tokens=32)


def test_same_interface_and_no_pickle(config: PRMConfig, tmp_path: Path) -> None:
    prm = train_prm(made.colours(), config)
    prm.save(tmp_path / "prm")
    loaded = PRM.load(tmp_path / "prm")
    assert (loaded.kind, loaded.figures, loaded.split, loaded.facts) == (
        config.kind, prm.figures, prm.split, prm.facts,
    )  # fmt: skip
    texts = [prm.text(steps[: i + 1]) for steps in SEEN for i in range(2)]
    np.testing.assert_allclose(loaded.score(texts), prm.score(texts), rtol=1e-6)
    assert prm.score([]).shape == (0,)
    assert ((prm.score(texts) > 0) & (prm.score(texts) < 1)).all()
    assert {p.suffix for p in (tmp_path / "prm").iterdir()} <= {".json", ".npz", ".md", ".safetensors"}
    assert f"Model: {config.kind}." in (tmp_path / "prm" / "README.md").read_text()
    np.testing.assert_array_equal(train_prm(made.colours(), config).score(texts), prm.score(texts))
    with pytest.raises(TypeError, match="texts is the str"):
        prm.score("red")


def test_what_they_learn(encoder: str) -> None:
    logs = made.colours()
    prms = {kind: train_prm(logs, PRMConfig(kind=kind, model=encoder, max_tokens=32)) for kind in KINDS}
    assert prms["tfidf"].figures["auroc"] > 0.85
    assert prms["constant"].figures["auroc"] == 0.5
    unhelped = [t for t in logs if t.task in prms["constant"].split["train"]]
    outcomes = [t.outcome for t in unhelped for i in range(2) if i > 0 or not t.helped]
    rate = (np.sum(outcomes) + 0.5) / (len(outcomes) + 1)
    assert prms["constant"].score(["x", ""]) == pytest.approx([rate, rate])
    split = {kind: prm.split for kind, prm in prms.items()}
    assert all(one == split["constant"] for one in split.values())


def test_one_number_a_step() -> None:
    """Nine of ten succeed from the second step on that few reach; later steps than any seen are as the last."""
    logs = []
    for i in range(200):
        logs.append(Trajectory(f"t{i % 20}", f"two {i}", float(i // 20 < 9), (Step("x"), Step("x"))))
        logs.append(Trajectory(f"t{i % 20}", f"one {i}", 0.0, (Step("x"),)))
    prm = train_prm(logs, PRMConfig(kind="step"))
    first, second, later = prm.score([prm.text((Step("x"),) * n) for n in (1, 2, 7)])
    assert first == pytest.approx(0.45, abs=0.01)
    assert second == later == pytest.approx(0.9, abs=0.01)
    with pytest.raises(ValueError, match=r"texts\[0\] is 'x'; the PRM 'step' reads step numbers"):
        prm.score(["x"])


def test_texts_without_words() -> None:
    logs = [Trajectory(f"t{i}", f"e{i}", float(i % 2), (Step(""),)) for i in range(20)]
    with pytest.raises(ValueError, match="training texts contain no words"):
        train_prm(logs, PRMConfig(kind="tfidf"))
    assert np.isfinite(train_prm(logs, PRMConfig(hidden_size=16, layers=1, epochs=1)).score([""])).all()
    with pytest.raises(ValueError, match="'embedding' needs a model"):
        train_prm(logs, PRMConfig(kind="embedding"))


def test_the_plain_model_wins_and_it_is_said(tmp_path: Path) -> None:
    """A PRM that has hardly trained beside TF-IDF, on logs where one word decides."""
    logs = made.colours(tasks=60)
    config = PRMConfig(hidden_size=16, layers=1, epochs=1, max_tokens=32, learning_rate=1e-6)
    prm = with_baselines(train_prm(logs, config), logs, config)
    said = prm.facts["baselines"]["words"]
    assert said.startswith("A baseline wins on these data: tfidf has a Brier score lower than that of transformer by")
    assert "--prm tfidf" in said
    prm.save(tmp_path / "prm")
    card = (tmp_path / "prm" / "README.md").read_text()
    assert said in card
    assert card.count("\n| constant |") == card.count("\n| tfidf |") == 1
    assert PRM.load(tmp_path / "prm").facts == prm.facts


def test_the_prm_wins_where_order_decides(encoder: str) -> None:
    """Which of two words comes first, far apart: bags of words and of pairs cannot tell."""
    rng, logs = np.random.default_rng(0), []
    for i in range(600):
        first = i % 2
        colours = ["red", "green"] if first else ["green", "red"]
        middle = list(rng.choice(made.WORDS, 3))
        logs.append(Trajectory(f"t{i}", f"e{i}", float(first), (Step(" ".join([colours[0], *middle, colours[1]])),)))
    config = PRMConfig(hidden_size=32, layers=2, epochs=8, patience=8, max_tokens=16)
    prm = with_baselines(
        train_prm(logs, config), logs, dataclasses.replace(config, model=encoder), ["constant", "tfidf"]
    )
    assert prm.facts["baselines"]["words"].startswith("transformer beats every other model here")


def test_paired_gaps_are_differences_of_brier_scores() -> None:
    logs, config = made.colours(), PRMConfig(kind="constant")
    rows = compare_prms([train_prm(logs, dataclasses.replace(config, kind=k)) for k in KINDS[:3]], logs, config)
    assert rows[0].gap is None
    for row in rows[1:]:
        assert row.gap is not None
        assert row.gap.mean == pytest.approx(rows[0].brier.mean - row.brier.mean)
        assert row.gap.low <= row.gap.mean <= row.gap.high
    assert "nothing to compare" in describe_comparison(rows[:1])
    assert "wins on these data: tfidf" in describe_comparison(rows)
    single = rows[1]._replace(gap=rows[1].gap._replace(low=rows[1].gap.mean, high=rows[1].gap.mean))
    assert "one test task" in describe_comparison([rows[0], single])
    wide = rows[2]._replace(gap=rows[2].gap._replace(low=-0.1, high=0.1))
    assert "do not differ significantly" in describe_comparison([rows[2], wide])


def test_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match="kind is 'bayes'; choose from transformer, constant, step, tfidf, embedding"):
        PRMConfig(kind="bayes")
    with pytest.raises(ValueError, match="targets is 'x'"):
        PRMConfig(targets="x")
    with pytest.raises(ValueError, match="helped_weight is 2"):
        PRMConfig(helped_weight=2)
    with pytest.raises(ValueError, match="label_weight is inf"):
        PRMConfig(label_weight=float("inf"))
