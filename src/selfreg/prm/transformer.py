"""A transformers sequence classifier over state texts: shared by PRM and helper."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfreg._util.files import atomic_folder
from selfreg._util.progress import track
from selfreg.prm.config import VALIDATION_SHARE, EncoderConfig
from selfreg.prm.encoder import (
    choose_device,
    create_from_scratch,
    fix_seed,
    load_pretrained,
    require_ml,
    silence_transformers,
)
from selfreg.prm.tokens import Encoded, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

RECORD = "selfreg.json"
SCORING_BATCH = 64


@dataclass(frozen=True)
class Examples:
    """Training texts.

    Attributes
    ----------
    texts : sequence of str, length n
    targets : ndarray of float64, shape (n, n_labels)
        One column: P(yes). More: a distribution over labels.
    weights : ndarray of float64, shape (n,)
    prefixes : sequence of str, length n, or None
        Beginnings of the inputs, never cut.
    tasks : sequence of list of str, length n, or None
        Those that have the text, for models that count tasks.
    """

    texts: Sequence[str]
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    prefixes: Sequence[str] | None = None
    tasks: Sequence[list[str]] | None = None


class TextClassifier:
    """Texts in, logits out: a transformers sequence classifier and its tokenizer.

    Create with `create` (untrained) or `load`; train with `fit`.
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
        self._tokens = Tokens.from_model(model, tokenizer, max_tokens, task_tokens)
        self._model, self._tokenizer = model.to(choose_device(device)).eval(), tokenizer
        self._bf16 = bf16

    @classmethod
    def create(cls, labels: Sequence[str], texts: Sequence[str], config: EncoderConfig) -> TextClassifier:
        """Untrained classifier: the pretrained `config.model` with a new head, or a new encoder.

        Parameters
        ----------
        labels : sequence of str
            One logit each.
        texts : sequence of str
            Training texts of a tokenizer from scratch.

        Raises
        ------
        ValueError
            The model cannot be loaded from safetensors.
        """
        require_ml()
        with fix_seed(config.seed, config.device), silence_transformers():
            if config.model is None:
                model, tokenizer = create_from_scratch(len(labels), texts, config)
            else:
                model, tokenizer = load_pretrained(config.model, new_head=True, num_labels=len(labels))
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
            Criterion on `validation` by which weights are chosen.
        checkpoint : path, optional
            File for checkpoints. Training resumes from it where it exists, and ends (bit for bit on a CPU) with the
            same weights as without an interruption.

        Returns
        -------
        dict
            `epochs` run; `validation_loss` and `validation_brier` of the chosen weights.

        Raises
        ------
        ValueError
            A loss or gradient is not finite: names epoch and batch. `checkpoint` is of other data or settings.
        """
        from selfreg.prm.training import Training

        with apply_lora(self, config):
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
            for chosen in iterate_by_length(encoded):
                out[chosen] = self._forward([encoded[i] for i in chosen]).double().cpu().numpy()
        return out

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write a standard transformers folder (safetensors), atomically.

        Parameters
        ----------
        folder : path
        record : mapping
            JSON values for selfreg.json.
        card : str, optional
            Model card for README.md.

        Raises
        ------
        FileExistsError
            `folder` holds something that was not saved by selfreg.
        OSError
            The disk is full; `folder` is unchanged.
        """
        tokens = {"task_tokens": self._tokens.task_tokens}
        with write_model_folder(folder, {**record, "tokens": tokens}, card) as new:
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
            `folder` is not a saved model, is damaged, or its record has another schema.
        """
        record = read_record(folder, schema)
        require_ml()
        with silence_transformers():
            model, tokenizer = load_pretrained(str(folder), local_files_only=True)
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


def iterate_by_length(encoded: Sequence[Encoded]) -> Iterator[NDArray[np.intp]]:
    """Batches of indices of texts of similar length, with progress where there are many."""
    order = np.argsort([len(ids) for ids, _ in encoded], kind="stable")
    starts = range(0, len(order), SCORING_BATCH)
    for start in track(starts, "score", "batches") if len(starts) > 100 else starts:
        yield order[start : start + SCORING_BATCH]


@contextmanager
def apply_lora(classifier: TextClassifier, config: EncoderConfig) -> Iterator[None]:
    """Wrap the model in low-rank adapters for the block; merge them into its weights at the end."""
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
    with fix_seed(config.seed, config.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft and transformers warn about settings that peft corrects
        classifier._model = get_peft_model(plain, settings)
    try:
        yield
    finally:
        classifier._model = classifier._model.merge_and_unload().eval()


@contextmanager
def write_model_folder(
    folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None
) -> Iterator[Path]:
    """A temporary folder that replaces `folder`, with record and card, when the block succeeds."""
    from safetensors import SafetensorError

    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    try:
        with silence_transformers(), atomic_folder(folder, RECORD, overwrite=True) as new:
            yield new
            if card is not None:
                (new / "README.md").write_text(card, encoding="utf-8")
            (new / RECORD).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise
    except Exception as error:
        # The writers of weights and tokenizers do not raise OSError where the disk is full.
        if isinstance(error, (OSError, SafetensorError)) or type(error) is Exception:
            raise OSError(f"{str(folder)!r} could not be written and is unchanged: {error}") from error
        raise


def read_record(folder: str | os.PathLike[str], schema: str) -> dict[str, Any]:
    """selfreg.json of a folder; ValueError where it is missing, damaged, or of another schema."""
    path = Path(folder) / RECORD
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} is not a saved model (missing {RECORD}, schema {schema!r})")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(record, dict) or record.get("schema") != schema:
        found = record.get("schema") if isinstance(record, dict) else record
        raise ValueError(f"{str(path)!r} has schema {found!r}; expected {schema!r}")
    return record


def split_tasks(tasks: Sequence[str], config: EncoderConfig) -> dict[str, list[str]]:
    """Split tasks at random into `train`, `validation` and `test`, reproducibly for tasks and seed.

    Raises
    ------
    ValueError
        Fewer than three tasks, or too few for the shares.
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
