"""The training loop: batches of similar length, early stopping, checkpoints to resume from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from selfreg._util.progress import Advance, progress
from selfreg.prm.checkpoint import read_checkpoint, write_checkpoint
from selfreg.prm.config import EncoderConfig
from selfreg.prm.encoder import fix_seed
from selfreg.prm.transformer import Examples, iterate_by_length

if TYPE_CHECKING:
    from selfreg.prm.transformer import TextClassifier

# Bounds on updates per epoch, so that validation is neither too frequent nor too rare.
EPOCH_UPDATES = (32, 160)
VALIDATION_EXAMPLES = 4096
LEAST_GAIN = 1e-4
WEIGHT_DECAY = 0.01
# Updates between two checkpoints.
CHECKPOINT_UPDATES = 100
# May change on resume: a diverged run can continue with a lower learning rate, on any device.
NOT_IN_FINGERPRINT = ("learning_rate", "device")


class Training:
    """One run of the loop.

    On resume, the order of batches is drawn again from the seed and skipped up to the checkpoint; torch's random state
    is part of the checkpoint.
    """

    def __init__(
        self, classifier: TextClassifier, train: Examples, validation: Examples, config: EncoderConfig, criterion: str
    ) -> None:
        if criterion not in ("loss", "brier"):
            raise ValueError(f"criterion is {criterion!r}; expected 'loss' or 'brier'")
        self.classifier, self.train, self.config, self.criterion = classifier, train, config, criterion
        self.model = classifier._model
        self.validation = _sample(validation, config.seed)
        self.encoded = classifier._encode(train.texts, train.prefixes)
        self.held_out = classifier._encode(self.validation.texts, self.validation.prefixes)
        self.weights = train.weights / train.weights.mean()
        self.rate = config.learning_rate or (2e-3 if config.model is None else 5e-4 if config.lora_rank else 5e-5)
        self.epoch_updates = int(np.clip(math.ceil(len(self.encoded) / config.batch_size), *EPOCH_UPDATES))
        self.total = self.epoch_updates * config.epochs
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=self.rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.done, self.since, self.best = 0, 0, math.inf
        self.figures: dict[str, float] = {}
        self.kept: dict[str, torch.Tensor] = {}

    def run(self, title: str, checkpoint: str | os.PathLike[str] | None) -> dict[str, float]:
        """Train to the end, resuming from the checkpoint; the model then has the best weights."""
        path = None if checkpoint is None else Path(checkpoint)
        with fix_seed(self.config.seed, self.config.device):
            if path is not None and path.exists():
                self._resume(path)
            with progress(title, self.total, "updates", self.done) as advance:
                self._updates(advance, path)
        with torch.no_grad():
            for name, values in self.kept.items():
                self.parameters[name].copy_(values)
        self.model.eval()
        return {"epochs": float(self.done // self.epoch_updates), **self.figures}

    def _updates(self, advance: Advance, path: Path | None) -> None:
        lengths = np.array([len(ids) for ids, _ in self.encoded])
        batches = islice(shuffle_by_length(lengths, self.config.batch_size, self.config.seed), self.done, None)
        self.model.train()
        while self.done < self.total and self.since < self.config.patience:
            self._update(next(batches), path)
            self.done += 1
            advance(1)
            ends = self.done % self.epoch_updates == 0
            if ends:
                self._validate()
            if path is not None and (ends or self.done % CHECKPOINT_UPDATES == 0):
                self._write(path)

    def _update(self, chosen: NDArray[np.intp], path: Path | None) -> None:
        """One step of AdamW: warm-up over a twentieth of all updates, then linear decay."""
        warm = max(1, self.total // 20)
        factor = min((self.done + 1) / warm, (self.total - self.done) / max(1, self.total - warm))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        self.optimizer.zero_grad()
        total = self._losses(chosen).sum() / len(chosen)
        total.backward()  # type: ignore[no-untyped-call]
        loss = total.item()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            epoch, batch = divmod(self.done, self.epoch_updates)
            what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient is {norm}"
            first = self.train.texts[chosen[0]]
            raise ValueError(
                f"{what} in epoch {epoch + 1}, batch {batch} (first text {first[:60]!r}); "
                f"lower learning_rate {self.rate:g}" + self._left(path)
            )
        self.optimizer.step()

    def _losses(self, chosen: NDArray[np.intp]) -> torch.Tensor:
        """Weighted loss of each of some examples."""
        logits = self.classifier._forward([self.encoded[i] for i in chosen])
        losses = cross_entropy(logits, torch.from_numpy(self.train.targets[chosen]).to(logits))
        return torch.from_numpy(self.weights[chosen]).to(logits) * losses

    def _validate(self) -> None:
        """Compute loss and Brier score on validation; keep the weights if they are the best so far."""
        self.model.eval()
        logits = torch.empty(self.validation.targets.shape, dtype=torch.float64)
        with torch.inference_mode():
            for chosen in iterate_by_length(self.held_out):
                logits[chosen] = self.classifier._forward([self.held_out[i] for i in chosen]).double().cpu()
        self.model.train()
        targets = torch.from_numpy(self.validation.targets)
        found = {}
        for name, values in (("loss", cross_entropy(logits, targets)), ("brier", squared_error(logits, targets))):
            found[f"validation_{name}"] = float(np.average(values.numpy(), weights=self.validation.weights))
        checked = found[f"validation_{self.criterion}"]
        if not math.isfinite(found["validation_loss"]):
            where = f"the validation of epoch {self.done // self.epoch_updates}"
            raise ValueError(f"loss is {found['validation_loss']} in {where}; lower learning_rate {self.rate:g}")
        self.since = 0 if checked < self.best - LEAST_GAIN else self.since + 1
        if checked < self.best:
            self.best, self.figures = checked, found
            self.kept = {name: p.detach().clone() for name, p in self.parameters.items()}

    # ---- checkpoints

    @cached_property
    def _fingerprint(self) -> str:
        """Hash of everything that must match to resume."""
        digest = hashlib.sha256()
        settings = {k: v for k, v in asdict(self.config).items() if k not in NOT_IN_FINGERPRINT}
        digest.update(json.dumps([settings, self.criterion, self.encoded, self.held_out], default=str).encode())
        for array in (self.train.targets, self.train.weights, self.validation.targets, self.validation.weights):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def _write(self, path: Path) -> None:
        state = self.optimizer.state_dict()["state"]
        tensors = {f"optimizer/{i}/{name}": value for i, values in state.items() for name, value in values.items()}
        tensors |= {f"model/{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"kept/{name}": value for name, value in self.kept.items()}
        place = next(iter(self.parameters.values())).device
        tensors["random"] = torch.get_rng_state()
        if place.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(place)
        facts: dict[str, Any] = {"done": self.done, "since": self.since, "figures": self.figures}
        facts |= {"best": None if math.isinf(self.best) else self.best, "fingerprint": self._fingerprint}
        write_checkpoint(path, tensors, facts)

    def _resume(self, path: Path) -> None:
        tensors, facts = read_checkpoint(path)
        if facts["fingerprint"] != self._fingerprint:
            raise ValueError(f"checkpoint {str(path)!r} is of other data or settings; remove it or name another file")
        self.done, self.since, self.figures = facts["done"], facts["since"], facts["figures"]
        self.best = math.inf if facts["best"] is None else facts["best"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        with torch.no_grad():
            for key, value in tensors.items():
                kind, _, name = key.partition("/")
                if kind == "model":
                    self.parameters[name].copy_(value)
                elif kind == "kept":
                    self.kept[name] = value
                elif kind == "optimizer":
                    index, _, entry = name.partition("/")
                    state.setdefault(int(index), {})[entry] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(tensors["random"])
        place = next(iter(self.parameters.values())).device
        if place.type == "cuda" and "random_cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random_cuda"], place)

    def _left(self, path: Path | None) -> str:
        if path is None or not path.exists():
            return ""
        return f"; {str(path)!r} holds the last good checkpoint, from which training resumes"


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row, shape (n,): sigmoid for one label, softmax for several."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")[:, 0]
    return functional.cross_entropy(logits, targets, reduction="none")


def squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Brier score of each row, shape (n,), summed over labels."""
    probability = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
    return (probability - targets).square().sum(dim=1)


def shuffle_by_length(lengths: NDArray[np.intp], size: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Random batches of texts of similar length, endlessly; each pass has every text once."""
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
