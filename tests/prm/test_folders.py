"""Model folders that are damaged, foreign or do not fit on the disk: clear errors, earlier results intact."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import made
from selfreg.data import Step, Trajectory
from selfreg.prm import PRM, PRMConfig, train_prm
from selfreg.prm.encoder import create_from_scratch

QUICK = PRMConfig(hidden_size=32, layers=1, epochs=1, max_tokens=32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "prm"
    train_prm(made.colours(), QUICK).save(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "prm")
    return tmp_path / "prm"


def test_the_folder_is_standard(saved: Path) -> None:
    model, tokenizer = (auto.from_pretrained(saved) for auto in (AutoModelForSequenceClassification, AutoTokenizer))
    text, prm = "green door near", PRM.load(saved)
    with torch.inference_mode():
        logit = model(**tokenizer(text, return_tensors="pt")).logits.item()
    assert logit == pytest.approx(prm.logits([text])[0], abs=1e-5)
    card = (saved / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"{prm.figures['brier']:.4g} [{prm.figures['brier_low']:.4g}, {prm.figures['brier_high']:.4g}]" in card
    assert "320 states of 20 tasks (200 episodes)" in card
    assert "| validation | 3 |" in card
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in saved.iterdir())


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", r"config\.json"),
        ("model.safetensors", r"\*\.safetensors"),
        ("tokenizer.json", "tokenizer"),
        ("selfreg.json", r"selfreg\.json"),
    ],
)
def test_a_part_is_missing(folder: Path, missing: str, said: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=rf"prm' is .*\bmissing {said}"):
        PRM.load(folder)


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json", "selfreg.json"])
@pytest.mark.parametrize("how", ["half", "empty", "noise"])
def test_a_part_is_broken(folder: Path, broken: str, how: str) -> None:
    content = (folder / broken).read_bytes()
    noise = np.random.default_rng(0).bytes(len(content))
    (folder / broken).write_bytes({"half": content[: len(content) // 2], "empty": b"", "noise": noise}[how])
    with pytest.raises(ValueError, match="prm"):
        PRM.load(folder)


def test_weights_that_are_not_there_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "attention" in name)
    save_file({n: w for n, w in weights.items() if n != gone}, folder / "model.safetensors", {"format": "pt"})
    for use in (
        lambda: PRM.load(folder),
        lambda: train_prm(made.colours(), dataclasses.replace(QUICK, model=str(folder))),
    ):
        with pytest.raises(ValueError, match=f"lacks 1 weights or has them in another size: {gone}"):
            use()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    head = {n: w for n, w in weights.items() if not n.startswith("classifier")}
    save_file(head, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 2 weights"):  # a folder of ours has its head
        PRM.load(folder)


def test_another_size_than_the_configuration_says(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(ValueError, match=r"another size|cannot be loaded"):
        train_prm(made.colours(), dataclasses.replace(QUICK, model=str(folder)))


def test_a_record_that_lacks_something(folder: Path) -> None:
    record = json.loads((folder / "selfreg.json").read_text())
    del record["calibration"]
    (folder / "selfreg.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"is damaged: its selfreg.json or weights are missing 'calibration'"):
        PRM.load(folder)
    (folder / "selfreg.json").write_text(json.dumps({**record, "kind": "oracle", "calibration": {}}))
    with pytest.raises(ValueError, match="has PRM kind 'oracle'"):
        PRM.load(folder)


@pytest.mark.parametrize("whose", ["larger", "smaller"])
def test_a_tokenizer_of_another_model(tmp_path: Path, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model with many more, or many fewer, tokens."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 8)) for _ in range(300)]
    logs = [Trajectory(f"t{i}", f"e{i}", float(i % 2), (Step(f"{word} {word}"),)) for i, word in enumerate(words)]
    own, other = (300, 4096) if whose == "larger" else (4096, 300)
    folder = tmp_path / "prm"
    monkeypatch.setattr("selfreg.prm.encoder.VOCABULARY_SIZE", own)
    train_prm(logs, QUICK).save(folder)
    monkeypatch.setattr("selfreg.prm.encoder.VOCABULARY_SIZE", other)
    create_from_scratch(1, [t.steps[0].state for t in logs], QUICK)[1].save_pretrained(folder)
    for use in (lambda: PRM.load(folder), lambda: train_prm(logs, dataclasses.replace(QUICK, model=str(folder)))):
        with pytest.raises(ValueError, match="they do not belong together"):
            use()


def test_pickled_weights_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(3)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are refused"):
        PRM.load(folder)
    with pytest.raises(ValueError, match="pickled weights are refused"):
        train_prm(made.colours(), dataclasses.replace(QUICK, model=str(folder)))
    with pytest.raises(ValueError, match="pickled weights are refused"):
        train_prm(made.colours(), dataclasses.replace(QUICK, kind="embedding", model=str(folder)))


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded from safetensors"):
        train_prm(made.colours(), dataclasses.replace(QUICK, model=str(tmp_path / "nothing")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"is missing \*\.safetensors"):
        train_prm(made.colours(), dataclasses.replace(QUICK, model=str(tmp_path / "empty")))


@pytest.mark.parametrize("kind", ["tfidf", "embedding"])
def test_damaged_plain_models(kind: str, tmp_path: Path) -> None:
    encoder = made.pretrained_folder("bert", tmp_path / "bert")
    config = PRMConfig(kind=kind, model=str(encoder), max_tokens=32)
    train_prm(made.colours(), config).save(tmp_path / "prm")
    content = (tmp_path / "prm" / "weights.npz").read_bytes()
    for damaged in (content[:100], b"", b"\x80\x04N."):  # the last is a pickle
        (tmp_path / "prm" / "weights.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            PRM.load(tmp_path / "prm")
    np.savez(tmp_path / "prm" / "weights.npz", idf=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="is damaged"):
        PRM.load(tmp_path / "prm")
    (tmp_path / "prm" / "weights.npz").unlink()
    with pytest.raises(ValueError, match="is damaged"):
        PRM.load(tmp_path / "prm")


NO_ROOM = """
import resource, signal, sys
import made
from selfreg.prm import PRM, PRMConfig, train_prm
prm = PRM.load(sys.argv[1])
config = PRMConfig(hidden_size=32, layers=1, epochs=1, max_tokens=32)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the kernel refuses every write beyond
for write in (lambda: prm.save(sys.argv[2]), lambda: train_prm(made.colours(), config, checkpoint=sys.argv[3])):
    try:
        write()
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_no_room_on_the_disk(folder: Path, tmp_path: Path) -> None:
    """Writes that the system refuses: a clear error, what was there stays, nothing half-written is left."""
    target = tmp_path / "there"
    shutil.copytree(folder, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    listed = sorted(path.name for path in tmp_path.iterdir())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", NO_ROOM, str(folder), str(target), str(tmp_path / "checkpoint")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    saving, training = done.stdout.splitlines()
    for name, error in (("there", saving), ("checkpoint", training)):
        assert f"{name}' could not be written and is unchanged" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == listed
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    PRM.load(target)
