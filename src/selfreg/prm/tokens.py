"""Tokenizing, the same for training and scoring, classifiers and sentence encoders."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

Encoded: TypeAlias = tuple[list[int], list[int]]  # token ids and segment ids of a text

# Tokens are shorter on average: text beyond this is cut before it is tokenised.
MOST_CHARACTERS = 32


class Tokens:
    """A tokenizer with a limit: longer texts keep their beginning (the task) and their end.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    max_tokens : int
        Most tokens of a text, its prefix and special tokens included.
    task_tokens : int, optional
        How many are kept from the beginning of a longer text; a quarter of `max_tokens` by default.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, task_tokens: int | None = None) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.task_tokens = max_tokens // 4 if task_tokens is None else min(task_tokens, max_tokens // 2)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: everything but the lock."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @classmethod
    def from_model(cls, model: Any, tokenizer: Any, max_tokens: int, task_tokens: int | None) -> Tokens:
        """With the limit of the model and a padding token; sets both in tokenizer and model.

        Raises
        ------
        ValueError
            There is neither a padding token nor an end-of-text token.
        """
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ValueError("the tokenizer has neither a padding token nor an end-of-text token to pad with")
            tokenizer.pad_token = tokenizer.eos_token
        positions = getattr(model.config, "max_position_embeddings", None) or max_tokens
        if tokenizer.model_max_length > 1_000_000:  # it does not say: RoBERTa's positions start at 2
            positions -= 2
        tokenizer.model_max_length = min(max_tokens, tokenizer.model_max_length, positions)
        model.config.pad_token_id = tokenizer.pad_token_id
        return cls(tokenizer, tokenizer.model_max_length, task_tokens)

    def encode(self, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> list[Encoded]:
        """Token ids and segment ids of each text, after its prefix, which is never cut.

        Raises
        ------
        TypeError
            `texts` is one str, or an element is not a str.
        ValueError
            A prefix leaves no room for its text.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts is the str {texts[:60]!r}; expected a sequence of str")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{i}] is {text!r}; expected a str")
        if not len(texts):
            return []
        shown = [self._shorten(text) for text in texts]
        begin = [0] * len(shown) if prefixes is None else self._count_prefix_tokens(prefixes)
        with self._lock:  # fast tokenizers store the settings of a call
            encoded = self._tokenize(*([shown] if prefixes is None else [list(prefixes), shown]))
        segments = encoded.get("token_type_ids") or [[0] * len(ids) for ids in encoded["input_ids"]]
        # without special tokens an empty text has no tokens
        return [
            (self._cut(ids, first), self._cut(kinds, first)) if ids else ([self.tokenizer.pad_token_id], [0])
            for ids, kinds, first in zip(encoded["input_ids"], segments, begin, strict=True)
        ]

    def batch(self, encoded: Sequence[Encoded], device: Any) -> dict[str, torch.Tensor]:
        """Inputs of the model, padded on the right."""
        import torch

        shape = len(encoded), max(len(ids) for ids, _ in encoded)
        tokens = np.full(shape, self.tokenizer.pad_token_id)
        mask, segments = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, (ids, kinds) in enumerate(encoded):
            tokens[row, : len(ids)], segments[row, : len(ids)], mask[row, : len(ids)] = ids, kinds, 1
        inputs = {"input_ids": tokens, "attention_mask": mask}
        if "token_type_ids" in self.tokenizer.model_input_names:
            inputs["token_type_ids"] = segments
        return {name: torch.from_numpy(values).to(device) for name, values in inputs.items()}

    def _tokenize(self, *parts: list[str]) -> Any:
        """Output of the tokenizer; a single text takes a path without threads, for the latency of decisions."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if len(parts[0]) > 1 or backend is None:
            return self.tokenizer(*parts, verbose=False)
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = self.tokenizer.split_special_tokens
        one = backend.encode(*(texts[0] for texts in parts))
        kinds = {"token_type_ids": [one.type_ids]} if "token_type_ids" in self.tokenizer.model_input_names else {}
        return {"input_ids": [one.ids], **kinds}

    def _shorten(self, text: str) -> str:
        """Keep the beginning and the end of a text that is far too long."""
        head, tail = MOST_CHARACTERS * self.task_tokens, MOST_CHARACTERS * self.max_tokens
        return text if len(text) <= head + tail else text[:head] + text[-tail:]

    def _count_prefix_tokens(self, prefixes: Sequence[str]) -> list[int]:
        """Number of tokens of each prefix."""
        with self._lock:
            length = {prefix: len(self.tokenizer(prefix)["input_ids"]) for prefix in set(prefixes)}
        longest = max(length, key=lambda prefix: length[prefix])
        if length[longest] > self.max_tokens // 2:
            raise ValueError(
                f"prefix {longest[:60]!r} takes {length[longest]} of {self.max_tokens} tokens; raise max_tokens"
            )
        return [length[prefix] for prefix in prefixes]

    def _cut(self, ids: list[int], begin: int) -> list[int]:
        over, kept = len(ids) - self.max_tokens, min(begin + self.task_tokens, 3 * self.max_tokens // 4)
        return ids if over <= 0 else ids[:kept] + ids[kept + over :]
