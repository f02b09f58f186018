"""Encoders: their configuration, where they come from, and good manners towards torch and transformers.

torch and transformers are imported inside functions, so that configurations can be read without them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreg._extras import needs

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True)
class EncoderConfig:
    """Which text encoder to train, and how.

    Raises
    ------
    ValueError
        Naming the field that is out of range.
    """

    model: str | None = field(
        default=None,
        metadata={"help": "Model folder or hub id to start from; none trains a small encoder from scratch."},
    )
    hidden_size: int = field(default=64, metadata={"help": "Width of an encoder trained from scratch."})
    layers: int = field(default=2, metadata={"help": "Layers of an encoder trained from scratch."})
    heads: int = field(default=2, metadata={"help": "Attention heads of an encoder trained from scratch."})
    vocabulary_size: int = field(default=4096, metadata={"help": "Tokens of a tokenizer trained from scratch."})
    max_tokens: int = field(default=128, metadata={"help": "Longer texts lose their beginning."})
    epochs: int = field(default=8, metadata={"help": "At most this many epochs, of 32 to 160 updates each."})
    patience: int = field(
        default=3, metadata={"help": "Epochs without gain on validation tasks before training stops."}
    )
    batch_size: int = field(default=64, metadata={"help": "Texts in an update."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate; none means 2e-3 from scratch, 5e-5 with a given model."}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    validation_share: float = field(default=0.15, metadata={"help": "Share of tasks for early stopping, calibration."})
    test_share: float = field(default=0.15, metadata={"help": "Share of tasks held out for the reported figures."})
    history: int = field(default=0, metadata={"help": "Earlier steps shown before the current one; the first is kept."})
    seed: int = field(default=0, metadata={"help": "Seed of the split, the weights and the order of batches."})
    device: str = field(default="cpu", metadata={"help": "Where to train: cpu, cuda, cuda:1, ..."})

    def __post_init__(self) -> None:
        least: dict[str, float] = {"hidden_size": 1, "layers": 1, "heads": 1, "vocabulary_size": 300, "max_tokens": 16}
        least |= {"epochs": 1, "patience": 1, "batch_size": 1, "weight_decay": 0, "history": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {low}")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of heads {self.heads}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a positive number")
        shares = self.validation_share, self.test_share
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(f"validation_share and test_share are {shares}; expected positive, together below 1")


def require_ml() -> None:
    """Raise ImportError, naming the extra, unless torch and transformers are there."""
    with needs("ml", "selfreg.prm, and selfreg.helper,"):
        for module in ("torch", "tokenizers", "safetensors", "transformers", "rich"):
            importlib.import_module(module)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Progress bars on a terminal's error stream; nothing in a pipe."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


def scratch(n_labels: int, texts: Sequence[str], config: EncoderConfig) -> tuple[Any, Any]:
    """A small BERT and a byte-level BPE tokenizer, which sees the words, digits and marks of `texts` and no spacing."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    backend, special = Tokenizer(models.BPE()), ["[PAD]", "[CLS]", "[SEP]"]
    split = [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    split.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    backend.pre_tokenizer = pre_tokenizers.Sequence(split)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token"), special, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=config.max_tokens, model_input_names=inputs, **names
    )
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=backend.get_vocab_size(),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=2 * config.hidden_size,
            max_position_embeddings=config.max_tokens,
            num_labels=n_labels,
            pad_token_id=0,
            # early stopping regularises enough, and dropout doubles the time on a CPU
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    return model, tokenizer


def pretrained(name: str, **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer from a folder or the hub: safetensors only, and none of their code is run."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
        raise ValueError(f"model {name!r} holds no *.safetensors; pickled weights are refused")
    local = {"local_files_only": options.get("local_files_only", False), "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **local)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, use_safetensors=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"model {name!r} cannot be loaded from safetensors: {error}") from error
    return model.float(), tokenizer


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Torch's random numbers from `seed`, and as they were afterwards."""
    import torch

    with torch.random.fork_rng(devices=[] if device == "cpu" else [torch.device(device)]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
