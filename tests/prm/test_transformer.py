"""The text classifier: tokens, training, folders."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

import made
from selfreg.prm import EncoderConfig
from selfreg.prm.metrics import auroc
from selfreg.prm.tokens import Tokens
from selfreg.prm.training import shuffle_by_length
from selfreg.prm.transformer import Examples, TextClassifier, split_tasks

_WORDS = ["north", "south", "east", "west", "door", "key", "lamp", "table", "open", "closed", "near", "far"]
_QUICK = EncoderConfig(hidden_size=32, layers=1, epochs=3, max_tokens=32)


def _texts(n: int, seed: int, words: tuple[str, str] = ("red", "green")) -> tuple[list[str], NDArray[np.float64]]:
    """Texts of 4 to 12 words; one of two words decides."""
    rng = np.random.default_rng(seed)
    texts, targets = [], rng.integers(0, 2, n)
    for target in targets:
        shown = list(rng.choice(_WORDS, rng.integers(3, 12)))
        shown.insert(int(rng.integers(len(shown) + 1)), words[target])
        texts.append(" ".join(shown))
    return texts, targets[:, None].astype(np.float64)


def _examples(n: int, seed: int) -> Examples:
    texts, targets = _texts(n, seed)
    return Examples(texts, targets, np.ones(n))


def _trained(config: EncoderConfig = _QUICK) -> TextClassifier:
    train = _examples(400, 0)
    classifier = TextClassifier.create(["success"], train.texts, config)
    classifier.fit(train, _examples(100, 1), config)
    return classifier


@pytest.fixture(scope="module")
def trained() -> TextClassifier:
    return _trained()


@pytest.fixture(scope="module")
def folder(trained: TextClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "trained"
    trained.save(path, {"schema": "test/1"})
    return path


def test_learns_the_word(trained: TextClassifier) -> None:
    texts, targets = _texts(200, 2)
    assert auroc(trained.logits(texts)[:, 0], targets[:, 0]) > 0.95


def test_scores_do_not_depend_on_the_company(trained: TextClassifier) -> None:
    texts = [*_texts(70, 3)[0], "", "red " * 300]
    together = trained.logits(texts)
    assert together.dtype == np.float64
    assert together.shape == (72, 1)
    alone = np.concatenate([trained.logits([text]) for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert trained.logits([]).shape == (0, 1)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_one_text_has_the_tokens_that_it_has_in_a_batch(kind: str, tmp_path: Path) -> None:
    """A tokenizer that was saved with padding and truncation too."""
    tokenizer = AutoTokenizer.from_pretrained(made.pretrained_folder(kind, tmp_path))
    tokenizer.backend_tokenizer.enable_padding(length=9)
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokens = Tokens(tokenizer, 32)
    special = tokenizer.eos_token or tokenizer.sep_token
    texts = ["red door", "", "green " * 50, "\x00 \ud7ff ☃ 12", f"near {special} far"]
    for prefixes in (None, ["budget 2 |"] * len(texts)):
        single = [tokens.encode([text], prefixes and prefixes[:1])[0] for text in texts]
        assert single == tokens.encode(texts, prefixes)


def test_one_str_is_no_sequence_of_texts(trained: TextClassifier) -> None:
    with pytest.raises(TypeError, match="texts is the str 'red door'"):
        trained.logits("red door")
    with pytest.raises(TypeError, match=r"texts\[1\] is None; expected a str"):
        trained.logits(["red door", None])  # type: ignore[list-item]


def test_long_texts_are_cut_after_their_task_and_prefixes_stay(trained: TextClassifier) -> None:
    """A quarter of 32 tokens is kept from the beginning ([CLS] and seven words), the rest from the end."""
    task, end = "key lamp near far key lamp door ", "red " + "lamp " * 22
    np.testing.assert_array_equal(
        trained.logits([task + "green " * 500 + end]), trained.logits([task + "table " * 9 + end])
    )
    decode = trained._tokenizer.decode
    [(ids, segments)] = trained._encode([task + "green " * 500 + end + "door"], ["budget 7 |"])
    assert len(ids) == len(segments) == 32
    assert decode(ids).startswith("[CLS]")
    assert "7" in decode(ids[: segments.index(1)])
    assert decode(ids[segments.index(1) :]).startswith("key lamp near far key")
    assert decode(ids).endswith("lamp door [SEP]")
    with pytest.raises(ValueError, match=r"prefix 'lamp lamp .*' takes 22 of 32 tokens"):
        trained.logits(["red"], ["lamp " * 20])


def test_how_much_of_the_task_is_kept(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = " ".join(f"{word}" for word in _WORDS * 20)
    whole = tokenizer(text)["input_ids"]
    for kept in (0, 1, 5, 16):
        [(ids, _)] = Tokens(tokenizer, 32, kept).encode([text])
        assert ids == whole[:kept] + whole[kept - 32 :]


def test_texts_that_are_far_too_long_take_no_time(trained: TextClassifier) -> None:
    begin = time.perf_counter()
    scores = trained.logits(["x" * 20_000_000, "red " * 5_000_000, "", " ", "\x00\ud7ff"])
    assert np.isfinite(scores).all()
    assert time.perf_counter() - begin < 5


def test_save_and_load_give_the_same_scores(trained: TextClassifier, folder: Path) -> None:
    loaded, record = TextClassifier.load(folder, "test/1")
    assert record == {"schema": "test/1"}
    texts = [*_texts(100, 4)[0], "", "red " * 300]
    np.testing.assert_allclose(loaded.logits(texts), trained.logits(texts), atol=1e-6)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert [path.name for path in folder.parent.iterdir()] == ["trained"]


def test_folder_is_standard_transformers(trained: TextClassifier, folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = _texts(1, 5)[0][0]
    with torch.inference_mode():
        logit = model(**tokenizer(text, return_tensors="pt")).logits.item()
    assert logit == pytest.approx(trained.logits([text])[0, 0], abs=1e-5)
    assert model.config.id2label == {0: "success"}


def test_saving_replaces_its_own_folder_only(trained: TextClassifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "new" / "model", {"schema": "a"})
    trained.save(tmp_path / "new" / "model", {"schema": "b"})
    assert TextClassifier.load(tmp_path / "new" / "model", "b")[1] == {"schema": "b"}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="cannot be overwritten"):
        trained.save(tmp_path / "thesis", {})
    assert (tmp_path / "thesis" / "chapter.tex").is_file()


def test_failed_save_leaves_the_old_folder(trained: TextClassifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "model", {"schema": "a"})
    with pytest.raises(ValueError, match="JSON"):
        trained.save(tmp_path / "model", {"figure": float("nan")})
    assert TextClassifier.load(tmp_path / "model", "a")[1] == {"schema": "a"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_folders_that_are_not_ours(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="schema 'test/1'; expected 'other/1'"):
        TextClassifier.load(folder, "other/1")
    with pytest.raises(ValueError, match=r"is not a saved model \(missing selfreg\.json"):
        TextClassifier.load(tmp_path, "test/1")


def test_starts_from_a_local_folder_with_another_head(folder: Path) -> None:
    texts, targets = _texts(200, 6)
    config = EncoderConfig(model=str(folder), epochs=2, learning_rate=1e-3)
    classifier = TextClassifier.create(["a", "b", "c"], texts, config)
    three = np.concatenate([targets, 1 - targets, 0 * targets], axis=1)
    train = Examples(texts[:150], three[:150], np.ones(150))
    classifier.fit(train, Examples(texts[150:], three[150:], np.ones(50)), config)
    logits = classifier.logits(_texts(100, 7)[0])
    assert logits.shape == (100, 3)
    assert auroc(logits[:, 0] - logits[:, 1], _texts(100, 7)[1][:, 0]) > 0.95
    assert logits[:, 2].max() < logits[:, :2].max(axis=1).min()


def test_starts_from_a_decoder_without_padding(folder: Path, tmp_path: Path) -> None:
    backend = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    size = backend.get_vocab_size() + 9
    shape = GPT2Config(vocab_size=size, n_embd=32, n_layer=1, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2)
    TextClassifier(GPT2ForSequenceClassification(shape), AutoTokenizer.from_pretrained(folder), max_tokens=32).save(
        tmp_path / "decoder", {}
    )
    config = EncoderConfig(model=str(tmp_path / "decoder"), epochs=3, learning_rate=2e-3)
    decoder = _trained(config)
    texts, targets = _texts(100, 8)
    assert auroc(decoder.logits(texts)[:, 0], targets[:, 0]) > 0.9
    alone = np.concatenate([decoder.logits([text]) for text in [*texts[:20], ""]])
    np.testing.assert_allclose(alone, decoder.logits([*texts[:20], ""]), atol=1e-5)


def test_a_tokenizer_that_cannot_pad(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="neither a padding token nor an end-of-text token"):
        TextClassifier(AutoModelForSequenceClassification.from_pretrained(folder), tokenizer, 32)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are refused"):
        TextClassifier.create(["success"], [], EncoderConfig(model=str(tmp_path)))


def test_code_in_a_model_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "mine"}
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForSequenceClassification": "mine.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    with pytest.raises(ValueError, match="cannot be loaded"):
        TextClassifier.create(["success"], [], EncoderConfig(model=str(tmp_path)))
    assert not (tmp_path / "was_run").exists()


def test_same_seed_same_scores_and_global_random_numbers_untouched() -> None:
    texts = _texts(50, 9)[0]
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = _trained().logits(texts)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(12)
    np.testing.assert_array_equal(_trained().logits(texts), first)
    other = EncoderConfig(hidden_size=32, layers=1, epochs=3, max_tokens=32, seed=1)
    assert np.abs(_trained(other).logits(texts) - first).max() > 1e-3


def test_training_is_silent_in_a_pipe(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    classifier = _trained(EncoderConfig(hidden_size=16, layers=1, epochs=1))
    classifier.save(tmp_path / "model", {"schema": "a"})
    TextClassifier.load(tmp_path / "model", "a")
    _trained(EncoderConfig(model=str(tmp_path / "model"), epochs=1))
    assert capfd.readouterr() == ("", "")


def test_divergence_names_the_batch() -> None:
    with pytest.raises(ValueError, match=r"loss is nan in epoch 1, batch \d+ \(first text '.*'\); lower learning_rate"):
        _trained(EncoderConfig(hidden_size=16, layers=1, learning_rate=1e38))


def test_weights_and_soft_targets_count() -> None:
    """The same texts with contradicting targets: the weighted mean is what is learnt."""
    texts = ["red lamp", "red lamp", "green lamp", "green lamp"] * 8
    targets = np.array([[1.0], [0.0], [0.7], [0.7]] * 8)
    data = Examples(texts, targets, np.array([9.0, 1.0, 2.0, 2.0] * 8))
    config = EncoderConfig(hidden_size=32, layers=1, epochs=10, patience=10)
    classifier = TextClassifier.create(["success"], texts, config)
    classifier.fit(data, data, config)
    probability = 1 / (1 + np.exp(-classifier.logits(["red lamp", "green lamp"])[:, 0]))
    np.testing.assert_allclose(probability, [0.9, 0.7], atol=0.03)


def test_best_weights_are_kept() -> None:
    """Validation that contradicts training is best at the start: later epochs must not be what is returned."""
    texts, targets = _texts(200, 10)
    config = EncoderConfig(hidden_size=16, layers=1, epochs=6, patience=2)
    classifier = TextClassifier.create(["success"], texts, config)
    wrong = Examples(texts, 1 - targets, np.ones(200))
    figures = classifier.fit(Examples(texts, targets, np.ones(200)), wrong, config)
    logits = torch.from_numpy(classifier.logits(texts))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(1 - targets)).item()
    assert loss == pytest.approx(figures["validation_loss"], abs=1e-9)
    assert figures["epochs"] < 6


def test_batches_hold_every_text_once_a_pass_and_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(2, 100, 1000)
    stream = shuffle_by_length(lengths, 32, seed=0)
    one_pass = [next(stream) for _ in range(32)]
    assert sorted(np.concatenate(one_pass)) == list(range(1000))
    padding = sum(lengths[b].max() * len(b) for b in one_pass) / lengths.sum()
    assert padding < 1.1


def test_split_is_by_task_and_depends_on_the_seed_only() -> None:
    tasks = [f"task {i}" for i in range(20)]
    split = split_tasks(tasks * 3, EncoderConfig())
    assert {name: len(part) for name, part in split.items()} == {"train": 14, "validation": 3, "test": 3}
    assert sorted(task for part in split.values() for task in part) == sorted(tasks)
    assert split == split_tasks(tasks[::-1], EncoderConfig())
    assert split != split_tasks(tasks, EncoderConfig(seed=1))
    with pytest.raises(ValueError, match="2 task"):
        split_tasks(tasks[:2], EncoderConfig())
    with pytest.raises(ValueError, match="leave none to train on"):
        split_tasks(tasks[:4], EncoderConfig(test_share=0.8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 31}, "hidden_size 31 is not a multiple of 2"),
        ({"epochs": 0}, "epochs is 0"),
        ({"max_tokens": 8}, "max_tokens is 8"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"test_share": 0.0}, "test_share"),
        ({"history": -1}, "history is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lora_rank": -1}, "lora_rank is -1"),
    ],
)
def test_configuration_is_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**options)  # type: ignore[arg-type]
