"""Encoders: where they come from, and good manners towards torch and transformers.

torch and transformers are imported inside functions, so that this can be imported without them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.prm.config import HEADS, EncoderConfig

# Of an encoder trained from scratch.
VOCABULARY_SIZE = 4096


def require_ml() -> None:
    """Raise ImportError, naming the extra, unless torch and transformers are installed."""
    with require_extra("ml", "selfreg.prm, and selfreg.helper,"):
        for module in ("torch", "tokenizers", "safetensors", "transformers", "rich"):
            importlib.import_module(module)


def create_from_scratch(n_labels: int, texts: Sequence[str], config: EncoderConfig) -> tuple[Any, Any]:
    """A small BERT with random weights, and a tokenizer trained on `texts`."""
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _tokenizer(texts, config)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=HEADS,
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


def _tokenizer(texts: Sequence[str], config: EncoderConfig) -> Any:
    """A byte-level BPE tokenizer, which sees the words, digits and marks of `texts` and no spacing."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend, special = Tokenizer(models.BPE()), ["[PAD]", "[CLS]", "[SEP]"]
    split = [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    split.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    backend.pre_tokenizer = pre_tokenizers.Sequence(split)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = dict(zip(("pad_token", "cls_token", "sep_token"), special, strict=True))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=config.max_tokens, model_input_names=inputs, **names
    )


def load_pretrained(name: str, new_head: bool = False, **options: Any) -> tuple[Any, Any]:
    """Classifier and tokenizer from a folder or the hub. With `new_head` a missing or mismatched head is new."""
    from transformers import AutoModelForSequenceClassification

    options |= {"ignore_mismatched_sizes": new_head}
    return load_model_and_tokenizer(AutoModelForSequenceClassification, name, new_head, **options)


def load_model_and_tokenizer(kind: Any, name: str, new_head: bool = True, **options: Any) -> tuple[Any, Any]:
    """Model of a transformers auto class and its tokenizer: safetensors only, no remote code.

    Without a new head all weights must be present; with one, all below the head except a pooler, which many encoders
    are saved without.

    Raises
    ------
    ValueError
        Naming the model: missing, pickled, corrupt, incomplete below its head, or with the tokenizer of another model.
    """
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    if Path(name).is_dir():
        _check_parts(Path(name))
    local = {"local_files_only": options.get("local_files_only", False), "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **local)
        model, loading = kind.from_pretrained(
            name, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"model {name!r} cannot be loaded from safetensors: {error}") from error
    _check_weights(name, model, loading, new_head)
    _check_tokenizer(name, model, tokenizer)
    return model.float(), tokenizer


def _check_parts(folder: Path) -> None:
    """Name the missing file; the message of transformers would name its fallbacks."""
    names = {path.name for path in folder.iterdir()}
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"model {str(folder)!r} is missing *.safetensors; pickled weights are refused")
    if "config.json" not in names:
        raise ValueError(f"model {str(folder)!r} is missing config.json")
    if not any(name.startswith(("tokenizer.", "vocab.")) or name.endswith(".model") for name in names):
        raise ValueError(f"model {str(folder)!r} is missing tokenizer files")


def _check_weights(name: str, model: Any, loading: dict[str, Any], new_head: bool) -> None:
    wrong = sorted([*loading["missing_keys"], *(key[0] for key in loading["mismatched_keys"])])
    if new_head:
        headless = model.base_model is model
        wrong = [key for key in wrong if headless or key.startswith(f"{model.base_model_prefix}.")]
        wrong = [key for key in wrong if "pooler" not in key]
    if wrong:
        raise ValueError(f"model {name!r} lacks {len(wrong)} weights or has them in another size: {wrong[0]}, ...")


def _check_tokenizer(name: str, model: Any, tokenizer: Any) -> None:
    """Embeddings may be larger than the vocabulary (padding, reserved tokens), but not more than twice."""
    size, known = model.get_input_embeddings().num_embeddings, tokenizer.get_vocab()
    if not known or max(known.values()) >= size or len(known) < size / 2:
        raise ValueError(
            f"the tokenizer of model {name!r} has {len(known)} tokens, up to number {max(known.values(), default=-1)}; "
            f"the model has {size}: they do not belong together"
        )


def choose_device(name: str) -> str:
    """`auto` as cuda where there is a GPU, else cpu; any other device is returned unchanged after a check.

    Raises
    ------
    ValueError
        For a device that does not exist.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise ValueError(f"device is {name!r}; expected auto, cpu, cuda, cuda:1, ...") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}; there is no GPU here that torch can use")
    return name


@contextlib.contextmanager
def fix_seed(seed: int, device: str) -> Iterator[None]:
    """Seed torch's random numbers in the block; restore their state afterwards."""
    import torch

    place = torch.device(choose_device(device))
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def silence_transformers() -> Iterator[None]:
    """Switch off progress bars and warnings of transformers in the block."""
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
