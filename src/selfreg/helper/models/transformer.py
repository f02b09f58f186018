"""Transformer forms of the helper, behind one interface.

- ``features``: the budget enters the head of a sequence classifier, which has a logit for every action at every budget
  (a one-hot code of the budget times the encoding of the text). One pass serves all budgets.
- ``text``: the budget is written before the state; one logit per action, one pass per budget.
- ``sft``: the same text, and a causal model that writes the decision as its next token (the method's paper's form).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from selfreg.data import Step, state_text
from selfreg.helper.examples import Votes
from selfreg.prm.config import HEADS, EncoderConfig
from selfreg.prm.encoder import (
    create_from_scratch,
    fix_seed,
    load_model_and_tokenizer,
    require_ml,
    silence_transformers,
)
from selfreg.prm.tokens import Encoded
from selfreg.prm.transformer import Examples, TextClassifier, iterate_by_length, read_record

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
T = TypeVar("T")

FEATURES, TEXT, SFT = "features", "text", "sft"
MOST_HEADS = 4096


class DecisionModel(Protocol):
    """Model of a helper."""

    form: ClassVar[str]

    def read(self, steps: Sequence[Step], history: int) -> str:
        """What the model reads of an episode so far: the text of the state, or what a rule counts."""

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions), at budgets (n, m) no larger than in training."""

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write a transformers folder with `record` in selfreg.json, atomically."""


class _Decider(TextClassifier):
    """A text classifier with actions and budgets. Create with `build` or `load_saved`."""

    form: ClassVar[str]
    actions: tuple[str, ...]
    limits: tuple[int, ...]

    def read(self, steps: Sequence[Step], history: int) -> str:
        """The text of the state."""
        return state_text(steps, history)

    @classmethod
    def build(cls, actions: Sequence[str], limits: Sequence[int], texts: Sequence[str], config: EncoderConfig) -> Any:
        """Untrained."""
        model: Any = cls.create(cls.labels(actions, limits), texts, config)
        return model._set_lattice(actions, limits)

    @classmethod
    def load_saved(cls, folder: str | os.PathLike[str], schema: str, device: str) -> tuple[Any, dict[str, Any]]:
        """From a folder, with its record."""
        loaded: tuple[Any, dict[str, Any]] = cls.load(folder, schema, device)
        model, record = loaded
        return model._set_lattice(record["actions"], record["limits"]), record

    def _set_lattice(self, actions: Sequence[str], limits: Sequence[int]) -> Any:
        self.actions, self.limits = tuple(actions), tuple(limits)
        return self

    @classmethod
    def labels(cls, actions: Sequence[str], limits: Sequence[int]) -> list[str]:
        """Names of the logits."""
        return list(actions)

    def examples(self, votes: Votes) -> Examples:
        """Training examples: one for each text and budget."""
        n, points = np.nonzero(votes.weights.sum(axis=2))
        weights = votes.weights[n, points]
        total = weights.sum(axis=1)
        prefixes = budget_prefixes(lattice(self.limits)[points])
        return Examples([votes.texts[i] for i in n], weights / total[:, None], total, prefixes)

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions); each distinct text and budget is evaluated once."""
        pairs, rows = deduplicate(list(zip(budget_prefixes(budgets), texts, strict=True)))
        return self.logits([text for _, text in pairs], [prefix for prefix, _ in pairs])[rows]


class BudgetInText(_Decider):
    """A sequence classifier that reads the budget before the state."""

    form = TEXT


class BudgetInHead(_Decider):
    """A sequence classifier with a logit for every action at every budget."""

    form = FEATURES

    @classmethod
    def labels(cls, actions: Sequence[str], limits: Sequence[int]) -> list[str]:
        """Names of the logits: budget by budget."""
        points = lattice(limits)
        if len(points) * len(actions) > MOST_HEADS:
            raise ValueError(
                f"{len(points)} budgets and {len(actions)} actions need more than {MOST_HEADS} logits; use form 'text'"
            )
        return [f"{action} at {' '.join(map(str, point))}" for point in points for action in actions]

    def examples(self, votes: Votes) -> Examples:
        """One example for each text: at each budget a distribution over actions and a weight."""
        total = votes.weights.sum(axis=2)
        even = np.full_like(votes.weights, 1 / len(self.actions))
        targets = np.divide(votes.weights, total[..., None], out=even, where=total[..., None] > 0)
        return Examples(votes.texts, targets.transpose(0, 2, 1), total)

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions); each distinct text is evaluated once."""
        import torch

        different, rows = deduplicate(texts)
        encoded = self._encode(different, None)
        grid = np.empty((len(different), len(self.actions), len(lattice(self.limits))))
        with torch.inference_mode():
            for chosen in iterate_by_length(encoded):
                grid[chosen] = self._forward([encoded[i] for i in chosen]).double().cpu().numpy()
        point = np.ravel_multi_index(tuple(budgets.T), tuple(top + 1 for top in self.limits))
        return grid[rows, :, point]

    def _forward(self, encoded: Sequence[Encoded]) -> torch.Tensor:
        """Logits, shape (n, n_actions, n_points)."""
        return super()._forward(encoded).view(len(encoded), -1, len(self.actions)).transpose(1, 2)


class DecisionWriter(_Decider):
    """A causal model that writes the decision as its next token; the loss is on that token only."""

    form = SFT

    @classmethod
    def create(cls, labels: Sequence[str], texts: Sequence[str], config: EncoderConfig) -> DecisionWriter:
        """Untrained: the causal model `config.model`, or a small Llama, with a new token for each action."""
        from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

        require_ml()
        with fix_seed(config.seed, config.device), silence_transformers():
            if config.model is None:
                _, tokenizer = create_from_scratch(1, texts, config)
                tokenizer.model_input_names = ["input_ids", "attention_mask"]
                sizes = {"hidden_size": config.hidden_size, "intermediate_size": 2 * config.hidden_size}
                sizes |= {"num_hidden_layers": config.layers, "num_attention_heads": HEADS}
                ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
                model = LlamaForCausalLM(
                    LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=config.max_tokens, **sizes, **ends)
                )
            else:
                model, tokenizer = load_model_and_tokenizer(AutoModelForCausalLM, config.model)
            tokenizer.add_tokens(decision_tokens(labels), special_tokens=True)
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        return cls(model, tokenizer, config.max_tokens, config.device, bf16=config.bf16)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], schema: str, device: str = "cpu", bf16: bool = False
    ) -> tuple[DecisionWriter, dict[str, Any]]:
        """Model and record from a folder that `save` wrote."""
        from transformers import AutoModelForCausalLM

        record = read_record(folder, schema)
        require_ml()
        with silence_transformers():
            model, tokenizer = load_model_and_tokenizer(AutoModelForCausalLM, str(folder), local_files_only=True)
        return cls(model, tokenizer, tokenizer.model_max_length, device, **record.pop("tokens", {}), bf16=bf16), record

    def examples(self, votes: Votes) -> Examples:
        """As for the other forms, with a last column (target 0) for all tokens that are not decisions."""
        examples = super().examples(votes)
        targets = np.hstack([examples.targets, np.zeros((len(examples.texts), 1))])
        return Examples(examples.texts, targets, examples.weights, examples.prefixes)

    @property
    def n_labels(self) -> int:
        """Decisions, and one for all other tokens."""
        return len(self.actions) + 1

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the decision tokens, float64 (n, n_actions)."""
        return super().decision_logits(texts, budgets)[:, :-1]

    @cached_property
    def _token_ids(self) -> list[int]:
        return [int(i) for i in self._tokenizer.convert_tokens_to_ids(decision_tokens(self.actions))]

    def _forward(self, encoded: Sequence[Encoded]) -> torch.Tensor:
        """Logits of the decisions after the last token, and the logsumexp of all others, shape (n, n_actions + 1).

        A softmax over these gives the decision tokens the probabilities of a softmax over the vocabulary.
        """
        import torch

        device = self._model.device
        last = torch.tensor([len(ids) - 1 for ids, _ in encoded], device=device)
        places, row = torch.unique(last, return_inverse=True)
        inputs = self._tokens.batch(encoded, device)
        if "logits_to_keep" in inspect.signature(self._model.forward).parameters:
            inputs["logits_to_keep"] = places  # the vocabulary is large; padding is on the right
        else:
            row = last
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            logits = self._model(**inputs).logits
        logits = logits[torch.arange(len(encoded), device=device), row].float()
        rest = logits.index_fill(1, torch.tensor(self._token_ids, device=device), -torch.inf)
        return torch.cat([logits[:, self._token_ids], rest.logsumexp(dim=1, keepdim=True)], dim=1)


def lattice(limits: Sequence[int]) -> NDArray[np.int64]:
    """All budgets up to `limits`, int64 (n_points, m), in C order."""
    return np.indices([top + 1 for top in limits]).reshape(len(limits), -1).T.astype(np.int64)


def deduplicate(values: Sequence[T]) -> tuple[list[T], NDArray[np.int64]]:
    """The distinct values in order of appearance, and the index of each value among them, int64 (n,)."""
    place = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(place), np.array([place[value] for value in values], dtype=np.int64)


def budget_prefixes(budgets: NDArray[np.int64]) -> list[str]:
    """First part of the model's input: ``budget 2 |``, one number for each budget."""
    return [f"budget {' '.join(map(str, row))} |" for row in budgets.tolist()]


def decision_tokens(actions: Sequence[str]) -> list[str]:
    """Output tokens of a causal model, one per action."""
    return [f"<|{action}|>" for action in actions]
