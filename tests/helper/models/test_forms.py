"""The three forms of a helper learn the same rule behind one interface, from scratch and from given models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from helper_cases import NEEDED, QUICK, WORDS, rule_examples, state
from selfreg.helper import Helper, HelperConfig, HelperExamples, train_helper
from selfreg.helper.models.transformer import BudgetInHead, BudgetInText, DecisionWriter
from selfreg.prm.config import EncoderConfig
from selfreg.prm.encoder import create_from_scratch
from selfreg.prm.training import Training, cross_entropy

TRANSFORMERS = {"model.safetensors", "config.json", "tokenizer.json"}
FORMS = ("features", "text", "sft", "tfidf", "words", "trees")
PLAIN = ("tfidf", "words", "trees")


@pytest.fixture(scope="module", params=FORMS)
def helper(request: pytest.FixtureRequest) -> Helper:
    return train_helper(rule_examples(), replace(QUICK, form=request.param))


def test_each_form_learns_a_rule_that_depends_on_the_budget(helper: Helper) -> None:
    if helper.classifier.form == "words":
        pytest.skip("words in random order make groups of words noise; it has a test of its own")
    assert helper.figures["agreement_weighted"] > 0.95
    assert helper.figures["majority"] < 0.7
    rng = np.random.default_rng(1)
    for word, needed in NEEDED.items():
        for budget in range(4):
            asked = [helper.decide([state(word, rng)], (budget,)).action == "help" for _ in range(10)]
            assert np.mean(asked) == pytest.approx(float(budget >= needed), abs=0.11), (word, budget)


def test_a_linear_form_learns_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watched(LogisticRegression):
        def fit(self, *args: Any, **kwargs: Any) -> Watched:
            seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            super().fit(*args, **kwargs)
            return self

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Watched)
    with threadpool_limits(2, "blas"):
        train_helper(rule_examples(30), replace(QUICK, form="words"))
        if all(pool["num_threads"] == 1 for pool in threadpool_info() if pool["user_api"] == "blas"):
            pytest.skip("no BLAS here that takes more than one thread")
    assert set(seen) == {1}


def test_each_form_comes_back_from_its_folder(helper: Helper, tmp_path: Path) -> None:
    helper.save(tmp_path / "helper")
    loaded = Helper.load(tmp_path / "helper")
    examples = rule_examples(30)
    texts, budgets = [*examples.texts, "", "red " * 500, "\x00 \ud7ff ☃"], [*examples.budgets.tolist(), [2], [2], [7]]
    np.testing.assert_allclose(
        loaded.request_probabilities(texts, budgets), helper.request_probabilities(texts, budgets), atol=1e-6
    )
    assert replace(loaded, classifier=helper.classifier) == helper
    names = {p.name for p in (tmp_path / "helper").iterdir()}
    assert {"selfreg.json", "README.md"} | (set() if helper.classifier.form in PLAIN else TRANSFORMERS) <= names
    assert not any(name.endswith((".bin", ".pkl", ".pt")) for name in names)


def test_probabilities_do_not_depend_on_the_batch(helper: Helper) -> None:
    examples = rule_examples(20)
    together = helper.request_probabilities(examples.texts, examples.budgets)
    alone = [helper.request_probabilities([t], [b])[0] for t, b in zip(examples.texts, examples.budgets, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_training_is_repeatable(helper: Helper) -> None:
    quick = replace(QUICK, form=helper.classifier.form, epochs=1)
    examples = rule_examples(60)
    one, two = (train_helper(examples, quick).request_probabilities(["red door"], [[2]]) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_a_causal_model_writes_its_decision_as_the_next_token(helper: Helper, tmp_path: Path) -> None:
    """What plain transformers generates from the folder is the decision."""
    if helper.classifier.form != "sft":
        pytest.skip("a classifier writes nothing")
    helper.save(tmp_path / "helper")
    model, tokenizer = (kind.from_pretrained(tmp_path / "helper") for kind in (AutoModelForCausalLM, AutoTokenizer))
    rng = np.random.default_rng(3)
    for word in NEEDED:
        text = state(word, rng)
        for budget in (1, 3):
            inputs = tokenizer(f"budget {budget} |", text, return_tensors="pt")
            written = model.generate(**inputs, max_new_tokens=1, do_sample=False)[0, -1]
            assert tokenizer.decode(written) == f"<|{helper.decide([text], (budget,)).action}|>"


def test_the_loss_of_a_writer_is_that_of_the_decision_token() -> None:
    """Against the model's own loss with all other labels masked."""
    examples = rule_examples(40)
    config = replace(QUICK, form="sft")
    writer = DecisionWriter.build(("nohelp", "help"), (3,), examples.texts, config)
    learnt = writer.examples(replace(examples, weights=np.ones(len(examples.texts))).votes((3,)))
    encoded = writer._encode(learnt.texts, learnt.prefixes)
    with torch.no_grad():
        ours = cross_entropy(writer._forward(encoded), torch.tensor(learnt.targets))
        for i in range(0, len(encoded), 7):
            token = writer._token_ids[int(np.argmax(learnt.targets[i]))]
            ids = torch.tensor([[*encoded[i][0], token]])
            labels = torch.full_like(ids, -100)
            labels[0, -1] = token
            assert ours[i].item() == pytest.approx(writer._model(input_ids=ids, labels=labels).loss.item(), abs=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_given_causal_model(tmp_path: Path, kind: str) -> None:
    """A model folder as others save it: no padding token, tied or untied embeddings."""
    _, base = create_from_scratch(1, [" ".join(WORDS), "budget 0123456789 | red green blue"], EncoderConfig())
    base.backend_tokenizer.post_processor = None
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base.backend_tokenizer, eos_token="[SEP]", model_max_length=64)
    torch.manual_seed(0)
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2))
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes))
    model.save_pretrained(tmp_path / "given")
    tokenizer.save_pretrained(tmp_path / "given")
    config = replace(QUICK, form="sft", model=str(tmp_path / "given"), learning_rate=3e-3)
    helper = train_helper(rule_examples(), config)
    assert helper.figures["agreement_weighted"] > 0.9
    helper.save(tmp_path / "helper")
    again = Helper.load(tmp_path / "helper")
    np.testing.assert_allclose(
        again.request_probabilities(["red door"] * 2, [[1], [3]]),
        helper.request_probabilities(["red door"] * 2, [[1], [3]]),
        atol=1e-6,
    )


def test_heads_give_all_budgets_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BudgetInHead.build(("nohelp", "help"), (2, 1), ["red door"], QUICK)
    assert model._model.config.id2label[11] == "help at 2 1"
    raw = model._model(**model._tokens.batch(model._encode(["red door"], None), "cpu")).logits[0].detach()
    passed: list[int] = []
    forward = BudgetInHead._forward

    def counted(self: BudgetInHead, encoded: list[object]) -> torch.Tensor:
        passed.append(len(encoded))
        return forward(self, encoded)

    monkeypatch.setattr(BudgetInHead, "_forward", counted)
    together = model.decision_logits(["red door"] * 3, np.array([[0, 0], [2, 1], [1, 1]]))
    assert passed == [1]
    for row, point in zip(together, (0, 5, 3), strict=True):
        np.testing.assert_allclose(row, raw[2 * point : 2 * point + 2], atol=1e-6)


def test_equal_states_at_equal_budgets_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BudgetInText.build(("nohelp", "help"), (2,), ["red door"], QUICK)
    passed: list[int] = []
    logits = BudgetInText.logits
    monkeypatch.setattr(
        BudgetInText, "logits", lambda self, texts, more: passed.append(len(texts)) or logits(self, texts, more)
    )
    texts, budgets = ["red", "door", "red", "red", "door"], np.array([[1], [1], [2], [1], [1]])
    together = model.decision_logits(texts, budgets)
    assert passed == [3]
    assert (together[[0, 1]] == together[[3, 4]]).all()
    single = [model.decision_logits([text], budget[None])[0] for text, budget in zip(texts, budgets, strict=True)]
    np.testing.assert_allclose(together, single, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "prose"}, "form is 'prose'"),
        ({"min_count": 0}, "min_count is 0"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HelperConfig(**settings)  # type: ignore[arg-type]


def test_every_setting_says_what_it_does() -> None:
    for name, one in HelperConfig.__dataclass_fields__.items():
        assert one.metadata["help"].endswith("."), name


def test_too_many_budgets_for_a_head() -> None:
    wide = HelperExamples(
        ["a", "b", "c"], np.array([[3000], [0], [1]]), np.array([1, 0, 0]), np.ones(3), list("xyz"), ("nohelp", "help")
    )
    with pytest.raises(ValueError, match="3001 budgets and 2 actions need more than 4096 logits; use form 'text'"):
        train_helper(wide, QUICK)


def test_damaged_folders_are_refused(helper: Helper, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a saved model \(missing selfreg\.json"):
        Helper.load(tmp_path)
    folder = tmp_path / "helper"
    helper.save(folder)
    plain = helper.classifier.form in PLAIN
    weights, record = folder / ("weights.npz" if plain else "model.safetensors"), folder / "selfreg.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot be loaded|is damaged: weights\.npz"):
        Helper.load(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"weights\.npz" if plain else "pickled weights are refused"):
        Helper.load(folder)
    weights.write_bytes(whole)
    content = json.loads(record.read_text())
    for change, message in (({"form": "prose"}, "form 'prose'"), ({"schema": "selfreg.prm/1"}, "schema")):
        record.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=message):
            Helper.load(folder)
    for key in ("limits", "actions", "costs", "split"):
        record.write_text(json.dumps({name: value for name, value in content.items() if name != key}))
        with pytest.raises(ValueError, match=f"is missing '{key}'|damaged: '{key}'"):
            Helper.load(folder)
    record.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        Helper.load(folder)


def test_training_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, quick = rule_examples(60), replace(QUICK, epochs=3, patience=3)
    straight = train_helper(examples, quick)
    path, validate, calls = tmp_path / "checkpoint", Training._validate, []

    def interrupted(self: Training) -> None:
        validate(self)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_helper(examples, quick, checkpoint=path)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint"}
    monkeypatch.setattr(Training, "_validate", validate)
    resumed = train_helper(examples, quick, checkpoint=path)
    assert resumed.figures == straight.figures
    texts, budgets = examples.texts[:20], examples.budgets[:20]
    np.testing.assert_array_equal(
        resumed.request_probabilities(texts, budgets), straight.request_probabilities(texts, budgets)
    )


def test_causal_models_that_cannot_be_used(tmp_path: Path) -> None:
    _, tokenizer = create_from_scratch(1, ["red green blue"], EncoderConfig())
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer) - 9, n_positions=64, n_embd=8, n_layer=1, n_head=1))
    model.save_pretrained(tmp_path / "given")
    tokenizer.save_pretrained(tmp_path / "given")
    config = replace(QUICK, form="sft", model=str(tmp_path / "given"))
    with pytest.raises(ValueError, match="they do not belong together"):
        train_helper(rule_examples(20), config)
    (tmp_path / "given" / "model.safetensors").rename(tmp_path / "given" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are refused"):
        train_helper(rule_examples(20), config)


def test_words_carry_a_decision_over_to_things_never_seen() -> None:
    """Help pays where the thing of the task is in front; other forms would have to know its name."""
    things = [f"thing{i}" for i in range(24)]
    texts, decisions, tasks = [], [], []
    for i, thing in enumerate(things):
        for j, other in enumerate((thing, things[i - 1], things[i - 2], thing)):
            texts.append(f"Mission: find the {thing}.\nIn front: {other}.\nSteps left: {j}.")
            decisions.append(int(other == thing))
            tasks.append(f"task {i}")
    n = len(texts)
    examples = HelperExamples(
        texts, np.ones((n, 1), np.int64), np.array(decisions), np.ones(n), tasks, ("nohelp", "help")
    )
    helper = train_helper(examples, HelperConfig(form="words"))
    new = [f"Mission: find the lamp.\nIn front: {thing}.\nSteps left: 1." for thing in ("lamp", "thing3")]
    assert helper.choices(new, np.ones((2, 1), np.int64)).tolist() == [1, 0]


def test_word_groups_of_another_version_are_refused(tmp_path: Path) -> None:
    train_helper(rule_examples(), replace(QUICK, form="words")).save(tmp_path / "helper")
    record = tmp_path / "helper" / "selfreg.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"groups": 1}))
    with pytest.raises(ValueError, match="train the helper again"):
        Helper.load(tmp_path / "helper")


def test_tfidf_features_are_scikit_learns() -> None:
    model = train_helper(rule_examples(), replace(QUICK, form="tfidf")).classifier
    texts = ["red door", "", "RED, red; door? door", "unknown ☃", "far near " * 50]
    expected = model._words.vectorizer.transform(texts).toarray()
    np.testing.assert_allclose(model.features(texts).toarray(), expected, atol=1e-6)
