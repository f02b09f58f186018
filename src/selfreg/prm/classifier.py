"""A transformers sequence classifier over state texts: the model under the PRM and under the helper."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from selfreg._files import folder_written_whole
from selfreg.prm.encoder import EncoderConfig, pretrained, progress, quiet, require_ml, scratch, seeded

if TYPE_CHECKING:
    import torch

RECORD = "selfreg.json"
# An epoch of few examples repeats them and one of many stops early: validation comes at sensible times, training ends.
EPOCH_UPDATES = (32, 160)
VALIDATION_EXAMPLES = 4096
SCORING_BATCH = 64
LEAST_GAIN = 1e-4

Encoded: TypeAlias = tuple[list[int], list[int]]  # token ids and segment ids of a text


@dataclass(frozen=True)
class Examples:
    """Texts to learn from.

    Attributes
    ----------
    texts : sequence of str, length n
    targets : ndarray of float64, shape (n, n_labels)
        One column: P(yes). More: a distribution over labels.
    weights : ndarray of float64, shape (n,)
    prefixes : sequence of str, length n, or None
        First parts of the inputs, which are never cut.
    """

    texts: Sequence[str]
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    prefixes: Sequence[str] | None = None


class TextClassifier:
    """Texts in, logits out: a transformers sequence classifier and its tokenizer.

    Made by `create` (untrained) or `load`; `fit` trains it.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int, device: str = "cpu") -> None:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        positions = getattr(model.config, "max_position_embeddings", None) or max_tokens
        if tokenizer.model_max_length > 1_000_000:  # it does not say: RoBERTa's positions start at 2
            positions -= 2
        tokenizer.model_max_length = min(max_tokens, tokenizer.model_max_length, positions)
        tokenizer.truncation_side = "left"
        model.config.pad_token_id = tokenizer.pad_token_id
        self._model, self._tokenizer = model.to(device).eval(), tokenizer
        self._lock = threading.Lock()

    @classmethod
    def create(cls, labels: Sequence[str], texts: Sequence[str], config: EncoderConfig) -> TextClassifier:
        """Untrained classifier: the pretrained `config.model` with a new head, or a new encoder.

        Parameters
        ----------
        labels : sequence of str
            One logit each.
        texts : sequence of str
            What a tokenizer from scratch is trained on.

        Raises
        ------
        ValueError
            The model cannot be had, or not as safetensors.
        """
        require_ml()
        with seeded(config.seed, config.device), quiet():
            if config.model is None:
                model, tokenizer = scratch(len(labels), texts, config)
            else:
                model, tokenizer = pretrained(config.model, num_labels=len(labels), ignore_mismatched_sizes=True)
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: i for i, label in enumerate(labels)}
        return cls(model, tokenizer, config.max_tokens, config.device)

    @property
    def n_labels(self) -> int:
        """Number of logits."""
        return int(self._model.config.num_labels)

    def fit(
        self, train: Examples, validation: Examples, config: EncoderConfig, title: str = "training"
    ) -> dict[str, float]:
        """Train on weighted soft targets; keep the weights with the least validation loss.

        One label is a sigmoid, several are a softmax; both with cross-entropy.

        Returns
        -------
        dict
            `epochs` that were run, and `validation_loss` of the weights that were kept.

        Raises
        ------
        ValueError
            The loss is not finite; names the epoch and the batch.
        """
        import torch

        rate = config.learning_rate or (2e-3 if config.model is None else 5e-5)
        encoded, held_out = self._encode(train.texts, train.prefixes), _sample(validation, config.seed)
        batches = _batches(np.array([len(ids) for ids, _ in encoded]), config.batch_size, config.seed)
        updates = int(np.clip(math.ceil(len(encoded) / config.batch_size), *EPOCH_UPDATES))
        weights = train.weights / train.weights.mean()
        best, kept, since, epoch = math.inf, {}, 0, 0
        with seeded(config.seed, config.device), progress() as bar:
            optimizer, schedule = self._optimizer(rate, config.weight_decay, updates * config.epochs)
            shown = bar.add_task(title, total=updates * config.epochs)
            while epoch < config.epochs and since < config.patience:
                epoch += 1
                self._model.train()
                for update in range(updates):
                    chosen = next(batches)
                    loss = self._loss([encoded[i] for i in chosen], train.targets[chosen], weights[chosen])
                    if not math.isfinite(loss.item()):
                        raise ValueError(
                            _not_finite(loss.item(), f"epoch {epoch}, batch {update}", train.texts[chosen[0]], rate)
                        )
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    bar.advance(shown)
                self._model.eval()
                checked = self._mean_loss(held_out)
                if not math.isfinite(checked):
                    raise ValueError(_not_finite(checked, f"the validation of epoch {epoch}", held_out.texts[0], rate))
                since = 0 if checked < best - LEAST_GAIN else since + 1
                if checked < best:
                    best, kept = checked, {k: v.clone() for k, v in self._model.state_dict().items()}
        self._model.load_state_dict(kept)
        return {"epochs": float(epoch), "validation_loss": best}

    def logits(self, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Logits of texts, each independent of the others.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
        """
        import torch

        encoded = self._encode(texts, prefixes)
        order = np.argsort([len(ids) for ids, _ in encoded], kind="stable")
        out = np.empty((len(encoded), self.n_labels))
        starts = range(0, len(order), SCORING_BATCH)
        with torch.inference_mode(), progress() if len(starts) > 100 else nullcontext() as bar:
            for start in bar.track(starts, description="scoring") if bar else starts:
                chosen = order[start : start + SCORING_BATCH]
                out[chosen] = self._forward([encoded[i] for i in chosen]).double().cpu().numpy()
        return out

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object]) -> None:
        """Write a standard transformers folder (safetensors) and `record` in it as selfreg.json, whole or not at all.

        Raises
        ------
        FileExistsError
            `folder` holds something that was not saved by selfreg.
        """
        with quiet(), folder_written_whole(folder, RECORD, overwrite=True) as new:
            self._model.save_pretrained(new)
            self._tokenizer.save_pretrained(new)
            (new / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], schema: str, device: str = "cpu"
    ) -> tuple[TextClassifier, dict[str, Any]]:
        """Classifier and record from a folder that `save` wrote.

        Raises
        ------
        ValueError
            `folder` is not such a folder, or its record has another schema.
        """
        path = Path(folder) / RECORD
        if not path.is_file():
            raise ValueError(f"{str(folder)!r} holds no {RECORD}; expected a folder with schema {schema!r}")
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("schema") != schema:
            raise ValueError(f"{str(path)!r} has schema {record.get('schema')!r}; expected {schema!r}")
        require_ml()
        with quiet():
            model, tokenizer = pretrained(str(folder), local_files_only=True)
        return cls(model, tokenizer, tokenizer.model_max_length, device), record

    def _encode(self, texts: Sequence[str], prefixes: Sequence[str] | None) -> list[Encoded]:
        """Token ids and segment ids of each text: the one way to tokens, for training and scoring."""
        if isinstance(texts, str):
            raise TypeError(f"texts is the str {texts[:60]!r}; expected a sequence of str")
        if not len(texts):
            return []
        pair: tuple[list[str], ...] = (list(texts),) if prefixes is None else (list(prefixes), list(texts))
        with self._lock:  # fast tokenizers keep the truncation in themselves
            encoded = self._tokenizer(*pair, truncation="longest_first" if prefixes is None else "only_second")
        segments = encoded.get("token_type_ids") or [[0] * len(ids) for ids in encoded["input_ids"]]
        # a tokenizer without special tokens makes nothing of the empty text
        return [
            (ids, kinds) if ids else ([self._tokenizer.pad_token_id], [0])
            for ids, kinds in zip(encoded["input_ids"], segments, strict=True)
        ]

    def _forward(self, encoded: Sequence[Encoded]) -> torch.Tensor:
        import torch

        shape = len(encoded), max(len(ids) for ids, _ in encoded)
        tokens = np.full(shape, self._tokenizer.pad_token_id)
        mask, segments = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, (ids, kinds) in enumerate(encoded):
            tokens[row, : len(ids)], segments[row, : len(ids)], mask[row, : len(ids)] = ids, kinds, 1
        inputs = {"input_ids": tokens, "attention_mask": mask}
        if "token_type_ids" in self._tokenizer.model_input_names:
            inputs["token_type_ids"] = segments
        output = self._model(**{k: torch.from_numpy(v).to(self._model.device) for k, v in inputs.items()})
        logits: torch.Tensor = output.logits
        return logits

    def _optimizer(self, rate: float, decay: float, total: int) -> tuple[torch.optim.Optimizer, Any]:
        """AdamW with a warm-up over a twentieth of all updates and a linear fall after it."""
        import torch

        optimizer = torch.optim.AdamW(self._model.parameters(), lr=rate, weight_decay=decay, fused=True)
        warm = max(1, total // 20)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda done: min((done + 1) / warm, (total - done) / max(1, total - warm))
        )

    def _loss(
        self, encoded: Sequence[Encoded], targets: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> torch.Tensor:
        """Weighted loss of a batch, with its gradient."""
        import torch

        logits = self._forward(encoded)
        losses = _losses(logits, torch.from_numpy(targets).to(logits))
        return (torch.from_numpy(weights).to(logits) * losses).mean()

    def _mean_loss(self, examples: Examples) -> float:
        """Weighted mean loss of examples."""
        import torch

        logits = torch.from_numpy(self.logits(examples.texts, examples.prefixes))
        return float(np.average(_losses(logits, torch.from_numpy(examples.targets)).numpy(), weights=examples.weights))


def split_tasks(tasks: Sequence[str], config: EncoderConfig) -> dict[str, list[str]]:
    """Tasks at random into `train`, `validation` and `test`: the same tasks and seed give the same split.

    Raises
    ------
    ValueError
        There are fewer than three tasks, or too few for the shares.
    """
    names = sorted(set(tasks))
    if len(names) < 3:
        raise ValueError(f"{len(names)} task(s); expected at least 3: train, validation and test are split by task")
    shuffled = [names[i] for i in np.random.default_rng(config.seed).permutation(len(names))]
    validation, test = (max(1, round(s * len(names))) for s in (config.validation_share, config.test_share))
    if validation + test >= len(names):
        raise ValueError(f"{len(names)} tasks leave none to train on; lower validation_share or test_share")
    parts = shuffled[validation + test :], shuffled[:validation], shuffled[validation : validation + test]
    return {name: sorted(part) for name, part in zip(("train", "validation", "test"), parts, strict=True)}


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row, shape (n,)."""
    from torch.nn import functional

    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")[:, 0]
    return functional.cross_entropy(logits, targets, reduction="none")


def _batches(lengths: NDArray[np.intp], size: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Random batches of texts of like length, for ever: each pass holds every text once."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(lengths))
        pools = np.split(order, range(50 * size, len(order), 50 * size))
        ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = np.split(ordered, range(size, len(ordered), size))
        for i in rng.permutation(len(batches)):
            yield batches[i]


def _sample(examples: Examples, seed: int) -> Examples:
    """At most VALIDATION_EXAMPLES of the examples."""
    if len(examples.texts) <= VALIDATION_EXAMPLES:
        return examples
    chosen = np.random.default_rng(seed).choice(len(examples.texts), VALIDATION_EXAMPLES, replace=False)
    prefixes = None if examples.prefixes is None else [examples.prefixes[i] for i in chosen]
    texts = [examples.texts[i] for i in chosen]
    return Examples(texts, examples.targets[chosen], examples.weights[chosen], prefixes)


def _not_finite(loss: float, where: str, text: str, rate: float) -> str:
    return f"loss is {loss} in {where} (first text {text[:60]!r}); lower learning_rate {rate:g}"
