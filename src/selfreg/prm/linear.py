"""Plain models behind the PRM's interface: a constant, one number a step, TF-IDF or a frozen encoder with a linear
head.

All learn from the same examples as the transformer and are saved without pickle: numbers in weights.npz, the rest in
selfreg.json, an encoder as a transformers folder.
"""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.extras import require_extra
from selfreg._util.progress import track
from selfreg.prm.calibration import sigmoid
from selfreg.prm.config import EncoderConfig
from selfreg.prm.encoder import (
    choose_device,
    load_model_and_tokenizer,
    require_ml,
    silence_transformers,
)
from selfreg.prm.tokens import Tokens
from selfreg.prm.transformer import Examples, iterate_by_length, write_model_folder

Vector = NDArray[np.float64]

WEIGHTS = "weights.npz"
# Inverse strengths of the ridge penalty; validation tasks choose.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# Words, numbers and single punctuation marks, which carry meaning in logs.
TOKEN = r"\w+|[^\w\s]"
MOST_FEATURES = 50_000
SMOOTHING = 1.0


class Baseline(ABC):
    """Texts in, one logit each out."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, train: Examples, validation: Examples, config: EncoderConfig) -> Baseline:
        """Learn from `train`; settings are chosen on `validation`."""

    @abstractmethod
    def logits(self, texts: Sequence[str]) -> Vector:
        """Float64 (n, 1)."""

    @abstractmethod
    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """JSON values and arrays, enough for `load`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Baseline:
        """From what `_parts` returned."""

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write the folder atomically; see `TextClassifier.save`."""
        values, arrays = self._parts()
        with write_model_folder(folder, {**record, "baseline": values}, card) as new:
            np.savez_compressed(new / WEIGHTS, **arrays)  # type: ignore[arg-type]
            self._save_more(new)

    def _save_more(self, folder: Path) -> None:
        """Files beyond values and arrays: none by default."""
        return


@dataclass(frozen=True)
class Constant(Baseline):
    """The success rate of the training states, smoothed by one pseudo-count."""

    kind: ClassVar[str] = "constant"
    rate: float

    @classmethod
    def fit(cls, train: Examples, validation: Examples, config: EncoderConfig) -> Constant:
        """Learn the rate."""
        return cls(float(_smooth(train.weights @ train.targets[:, 0], train.weights.sum())))

    def logits(self, texts: Sequence[str]) -> Vector:
        """The same for every text."""
        return np.full((len(texts), 1), _logit(self.rate))

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"rate": np.array(self.rate)}

    @classmethod
    def load(cls, folder: Path, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Constant:
        """From what `_parts` returned."""
        return cls(float(arrays["rate"]))


@dataclass(frozen=True)
class StepRates(Baseline):
    """The success rate of the training states with the same number of steps; its texts are these numbers.

    Later steps than any in training have the rate of the last.
    """

    kind: ClassVar[str] = "step"
    rates: Vector

    @classmethod
    def fit(cls, train: Examples, validation: Examples, config: EncoderConfig) -> StepRates:
        """Learn a rate for each step, shrunk towards that of all steps by one pseudo-count."""
        step = cls._steps(train.texts)
        total = np.bincount(step, weights=train.weights)
        wins = np.bincount(step, weights=train.weights * train.targets[:, 0])
        return cls(_smooth(wins, total, Constant.fit(train, validation, config).rate))

    def logits(self, texts: Sequence[str]) -> Vector:
        """By step.

        Raises
        ------
        ValueError
            A text is not a step number.
        """
        return np.asarray(_logit(self.rates)[np.minimum(self._steps(texts), len(self.rates) - 1)][:, None])

    @staticmethod
    def _steps(texts: Sequence[str]) -> NDArray[np.int64]:
        for i, text in enumerate(texts):
            if not text.isdecimal():
                raise ValueError(
                    f"texts[{i}] is {text[:60]!r}; the PRM 'step' reads step numbers, which its `text` returns"
                )
        return np.array([int(text) for text in texts], dtype=np.int64)

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {"rates": self.rates}

    @classmethod
    def load(cls, folder: Path, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> StepRates:
        """From what `_parts` returned."""
        return cls(arrays["rates"])


@dataclass(frozen=True)
class TfidfLogistic(Baseline):
    """Logistic regression on TF-IDF of words, punctuation marks and pairs of them (scikit-learn)."""

    kind: ClassVar[str] = "tfidf"
    vectorizer: Any
    weights: Vector
    intercept: float

    @classmethod
    def fit(cls, train: Examples, validation: Examples, config: EncoderConfig) -> TfidfLogistic:
        """Learn vocabulary and weights."""
        few = 2 if len(train.texts) > 100 else 1
        vectorizer = words_vectorizer("the PRM 'tfidf'", min_df=few, max_features=MOST_FEATURES)
        try:
            features = vectorizer.fit_transform(train.texts)
        except ValueError as error:
            raise ValueError(f"the {len(train.texts)} training texts contain no words: {error}") from None
        weights, intercept, _ = fit_logistic(features, train, vectorizer.transform(validation.texts), validation)
        return cls(vectorizer, weights, intercept)

    def logits(self, texts: Sequence[str]) -> Vector:
        """Linear in the TF-IDF of each text."""
        if not len(texts):
            return np.empty((0, 1))
        return np.asarray(self.vectorizer.transform(texts) @ self.weights + self.intercept)[:, None]

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        vocabulary = self.vectorizer.vocabulary_
        arrays = {"idf": self.vectorizer.idf_, "weights": self.weights, "intercept": np.array(self.intercept)}
        return {"vocabulary": sorted(vocabulary, key=vocabulary.__getitem__)}, arrays

    @classmethod
    def load(cls, folder: Path, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TfidfLogistic:
        """From what `_parts` returned."""
        vectorizer = words_vectorizer("the PRM 'tfidf'", vocabulary=values["vocabulary"])
        vectorizer.idf_ = arrays["idf"]
        return cls(vectorizer, arrays["weights"], float(arrays["intercept"]))


def words_vectorizer(purpose: str, **settings: Any) -> Any:
    """TF-IDF of words, punctuation marks and pairs of them; no fit needed once `vocabulary` and `idf_` are set."""
    with require_extra("ml", purpose):
        from sklearn.feature_extraction.text import TfidfVectorizer
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKEN, **settings)


@dataclass(frozen=True)
class EmbeddingLogistic(Baseline):
    """Logistic regression on the embedding by a frozen encoder: the mean of its last layer, normalised to length 1."""

    kind: ClassVar[str] = "embedding"
    model: Any
    tokens: Tokens
    weights: Vector
    intercept: float

    @classmethod
    def fit(cls, train: Examples, validation: Examples, config: EncoderConfig) -> EmbeddingLogistic:
        """Learn the weights."""
        require_ml()
        if config.model is None:
            raise ValueError("the PRM 'embedding' needs a model: the folder or hub id of a sentence encoder")
        encoder = cls._load_encoder(config.model, config.max_tokens, None, config.device)
        untrained = cls(*encoder, np.empty(0), 0.0)
        features = untrained.embed([*train.texts, *validation.texts])
        known, held_out = features[: len(train.texts)], features[len(train.texts) :]
        return cls(*encoder, *fit_logistic(known, train, held_out, validation)[:2])

    def embed(self, texts: Sequence[str]) -> Vector:
        """Float64 (n, width of the encoder); rows of length 1."""
        import torch

        encoded = self.tokens.encode(texts)
        rows: dict[int, Vector] = {}
        with torch.inference_mode():
            for chosen in iterate_by_length(encoded):
                inputs = self.tokens.batch([encoded[i] for i in chosen], self.model.device)
                mask = inputs["attention_mask"][:, :, None]
                mean = (self.model(**inputs).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
                unit = torch.nn.functional.normalize(mean, dim=1).double().cpu().numpy()
                rows |= dict(zip(chosen.tolist(), unit, strict=True))
        return np.array([rows[i] for i in range(len(encoded))]).reshape(-1, self.model.config.hidden_size)

    def logits(self, texts: Sequence[str]) -> Vector:
        """Linear in the embedding of each text."""
        if not len(texts):
            return np.empty((0, 1))
        return (self.embed(texts) @ self.weights + self.intercept)[:, None]

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        limits = {"max_tokens": self.tokens.max_tokens, "task_tokens": self.tokens.task_tokens}
        return limits, {"weights": self.weights, "intercept": np.array(self.intercept)}

    def _save_more(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokens.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> EmbeddingLogistic:
        """From what `_parts` returned."""
        encoder = cls._load_encoder(
            str(folder), values["max_tokens"], values["task_tokens"], "auto", local_files_only=True
        )
        return cls(*encoder, arrays["weights"], float(arrays["intercept"]))

    @staticmethod
    def _load_encoder(
        name: str, max_tokens: int, task_tokens: int | None, device: str, **options: Any
    ) -> tuple[Any, Tokens]:
        from transformers import AutoModel

        with silence_transformers():
            model, tokenizer = load_model_and_tokenizer(AutoModel, name, **options)
        tokens = Tokens.from_model(model, tokenizer, max_tokens, task_tokens)
        return model.to(choose_device(device)).eval(), tokens


BASELINES: dict[str, type[Baseline]] = {
    one.kind: one for one in (Constant, StepRates, TfidfLogistic, EmbeddingLogistic)
}


def read_arrays(folder: Path, name: str = WEIGHTS) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file; ValueError where it is missing, damaged or pickled."""
    try:
        with open(folder / name, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        # NumPy takes any other file for a pickle, and suggests to allow it
        why = "not an archive of plain arrays" if "allow_pickle" in str(error) else error
        raise ValueError(f"{str(folder)!r} is damaged: {name}: {why}") from None


def fit_logistic(
    features: Any, train: Examples, held_out: Any, validation: Examples, strengths: Sequence[float] = STRENGTHS
) -> tuple[Vector, float, float]:
    """Ridge logistic regression on soft targets; the penalty with the least Brier score on validation.

    Weights, intercept, and the inverse strength of the penalty.
    """
    with require_extra("ml", "a linear PRM"):
        from sklearn.linear_model import LogisticRegression
    stack = sp.vstack if sp.issparse(features) else np.concatenate
    both = stack([features, features])
    target = train.targets[:, 0]
    outcome = np.repeat([1, 0], len(target))
    share = train.weights / train.weights.mean()
    weight = np.concatenate([share * target, share * (1 - target)])
    best: tuple[float, Vector, float, float] | None = None
    for strength in track(strengths, "logistic regression", "penalties"):
        model = LogisticRegression(C=strength, max_iter=1000).fit(both, outcome, sample_weight=weight)
        weights, intercept = model.coef_[0], float(model.intercept_[0])
        probability = sigmoid(np.asarray(held_out @ weights + intercept))
        missed = float(np.average((probability - validation.targets[:, 0]) ** 2, weights=validation.weights))
        if best is None or missed < best[0]:
            best = missed, weights, intercept, strength
    assert best is not None
    return best[1:]


def _smooth(wins: Any, total: Any, rate: float = 0.5) -> Any:
    return (wins + SMOOTHING * rate) / (total + SMOOTHING)


def _logit(rate: Any) -> Any:
    return np.log(rate) - np.log1p(-np.asarray(rate))
