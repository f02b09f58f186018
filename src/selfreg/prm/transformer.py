"""A transformers sequence classifier over state texts: the model under the PRM and under the helper."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfreg._util.files import atomic_folder
from selfreg.prm.encoder import (
    VALIDATION_SHARE,
    EncoderConfig,
    chosen_device,
    pretrained,
    progress,
    quiet,
    require_ml,
    scratch,
    seeded,
)
from selfreg.prm.tokens import Encoded, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

RECORD = "selfreg.json"
SCORING_BATCH = 64


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

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_tokens: int,
        device: str = "auto",
        *,
        task_tokens: int | None = None,
        bf16: bool = False,
    ) -> None:
        self._tokens = Tokens.of_model(model, tokenizer, max_tokens, task_tokens)
        self._model, self._tokenizer = model.to(chosen_device(device)).eval(), tokenizer
        self._bf16 = bf16

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
                model, tokenizer = pretrained(config.model, new_head=True, num_labels=len(labels))
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: i for i, label in enumerate(labels)}
        return cls(model, tokenizer, config.max_tokens, config.device, bf16=config.bf16)

    @property
    def n_labels(self) -> int:
        """Number of logits."""
        return int(self._model.config.num_labels)

    def fit(
        self,
        train: Examples,
        validation: Examples,
        config: EncoderConfig,
        title: str = "training",
        *,
        criterion: str = "loss",
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> dict[str, float]:
        """Train on weighted soft targets; keep the weights that are best on `validation`.

        One label is a sigmoid, several are a softmax; both with cross-entropy.

        Parameters
        ----------
        train, validation : Examples
        config : EncoderConfig
        title : str
            Shown beside the progress bar.
        criterion : {"loss", "brier"}
            What is least on `validation` for the weights that are kept.
        checkpoint : path, optional
            File for checkpoints. Where it is there already, training goes on from it, to the same weights (bit for bit
            on a CPU) that training without a stop gives.

        Returns
        -------
        dict
            `epochs` that were run, `validation_loss` and `validation_brier` of the weights that were kept.

        Raises
        ------
        ValueError
            A loss or gradient is not finite: names epoch and batch. `checkpoint` is of other data or settings.
        """
        from selfreg.prm.training import Training

        with adapted(self, config):
            return Training(self, train, validation, config, criterion).run(title, checkpoint)

    def logits(self, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Logits of texts, each independent of the others.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
        """
        import torch

        encoded = self._encode(texts, prefixes)
        out = np.empty((len(encoded), self.n_labels))
        with torch.inference_mode():
            for chosen in by_length(encoded):
                out[chosen] = self._forward([encoded[i] for i in chosen]).double().cpu().numpy()
        return out

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write a standard transformers folder (safetensors), whole or not at all.

        Parameters
        ----------
        folder : path
        record : mapping
            JSON values, put into selfreg.json.
        card : str, optional
            Model card, put into README.md.

        Raises
        ------
        FileExistsError
            `folder` holds something that was not saved by selfreg.
        OSError
            There is no room; what was in `folder` stays.
        """
        tokens = {"task_tokens": self._tokens.task_tokens}
        with saved_folder(folder, {**record, "tokens": tokens}, card) as new:
            self._model.save_pretrained(new)
            self._tokenizer.save_pretrained(new)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], schema: str, device: str = "cpu", bf16: bool = False
    ) -> tuple[TextClassifier, dict[str, Any]]:
        """Classifier and record from a folder that `save` wrote.

        Raises
        ------
        ValueError
            `folder` is not such a folder, is damaged, or its record has another schema.
        """
        record = read_record(folder, schema)
        require_ml()
        with quiet():
            model, tokenizer = pretrained(str(folder), local_files_only=True)
        tokens = record.pop("tokens", {})
        return cls(model, tokenizer, tokenizer.model_max_length, device, **tokens, bf16=bf16), record

    def _encode(self, texts: Sequence[str], prefixes: Sequence[str] | None) -> list[Encoded]:
        return self._tokens.encode(texts, prefixes)

    def _forward(self, encoded: Sequence[Encoded]) -> torch.Tensor:
        import torch

        device = self._model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            logits: torch.Tensor = self._model(**self._tokens.batch(encoded, device)).logits
        return logits.float()


def by_length(encoded: Sequence[Encoded]) -> Iterator[NDArray[np.intp]]:
    """Batches of indices of texts of like length; progress is shown where there are many."""
    order = np.argsort([len(ids) for ids, _ in encoded], kind="stable")
    starts = range(0, len(order), SCORING_BATCH)
    with progress() if len(starts) > 100 else nullcontext() as bar:
        for start in bar.track(starts, description="scoring") if bar else starts:
            yield order[start : start + SCORING_BATCH]


@contextmanager
def adapted(classifier: TextClassifier, config: EncoderConfig) -> Iterator[None]:
    """Low-rank adapters around the model in the block, merged into its weights at the end."""
    if not config.lora_rank:
        yield
        return
    import warnings

    from selfreg._util.extras import require_extra

    with require_extra("lora", "lora_rank > 0"):
        from peft import LoraConfig, TaskType, get_peft_model
    plain = classifier._model
    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear"
    )
    with seeded(config.seed, config.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that peft puts right, and names that transformers gives up
        classifier._model = get_peft_model(plain, settings)
    try:
        yield
    finally:
        classifier._model = classifier._model.merge_and_unload().eval()


@contextmanager
def saved_folder(folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None) -> Iterator[Path]:
    """A new model folder, put in the place of `folder` with its record and card when the block ends well."""
    from safetensors import SafetensorError

    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    try:
        with quiet(), atomic_folder(folder, RECORD, overwrite=True) as new:
            yield new
            if card is not None:
                (new / "README.md").write_text(card, encoding="utf-8")
            (new / RECORD).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise
    except Exception as error:
        # What the writers of weights and tokenizers make of a full disk is no OSError.
        if isinstance(error, (OSError, SafetensorError)) or type(error) is Exception:
            raise OSError(f"{str(folder)!r} could not be written, and is as it was before: {error}") from error
        raise


def read_record(folder: str | os.PathLike[str], schema: str) -> dict[str, Any]:
    """selfreg.json of a folder; ValueError where it is not there, damaged, or of another schema."""
    path = Path(folder) / RECORD
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} holds no {RECORD}; expected a folder with schema {schema!r}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(record, dict) or record.get("schema") != schema:
        found = record.get("schema") if isinstance(record, dict) else record
        raise ValueError(f"{str(path)!r} has schema {found!r}; expected {schema!r}")
    return record


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
    validation, test = (max(1, round(s * len(names))) for s in (VALIDATION_SHARE, config.test_share))
    if validation + test >= len(names):
        raise ValueError(f"{len(names)} tasks leave none to train on; lower test_share")
    parts = shuffled[validation + test :], shuffled[:validation], shuffled[validation : validation + test]
    return {name: sorted(part) for name, part in zip(("train", "validation", "test"), parts, strict=True)}
