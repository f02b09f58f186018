"""A small neural policy, trained to imitate the expert on few demonstrations: a weak agent for every environment.

Two layers over hashed groups of words of the state's text. Training takes torch; acting takes numpy only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg._util.text_features import hashed_words
from selfreg._util.threads import single_thread
from selfreg.envs.protocol import Environment

Floats = npt.NDArray[np.float32]

KIND = "selfreg.imitation/1"
WEIGHTS = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")


@dataclass(frozen=True)
class ImitationConfig:
    """How a policy is trained by imitation.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    features: int = field(default=4096, metadata={"help": "numbers that groups of words are hashed to"})
    hidden: int = field(default=64, metadata={"help": "units of the hidden layer"})
    epochs: int = field(default=30, metadata={"help": "passes over the demonstrations"})
    batch_size: int = field(default=64, metadata={"help": "demonstrated actions in a batch"})
    learning_rate: float = field(default=3e-3, metadata={"help": "step size of Adam"})
    weight_decay: float = field(default=1e-4, metadata={"help": "weight decay of AdamW"})
    seed: int = field(default=0, metadata={"help": "seed of the weights and of the order of batches"})

    def __post_init__(self) -> None:
        for name in ("features", "hidden", "epochs", "batch_size"):
            validate.integer(f"ImitationConfig.{name}", getattr(self, name), 1)
        validate.integer("ImitationConfig.seed", self.seed, 0)
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            rates = self.learning_rate, self.weight_decay
            raise ValueError(f"ImitationConfig.learning_rate, weight_decay are {rates}; expected > 0 and >= 0")


class Demonstrations(NamedTuple):
    """What the expert did: the texts of states, and the action in each."""

    texts: list[str]
    actions: list[int]


def demonstrate(environment: Environment, tasks: Sequence[str]) -> Demonstrations:
    """Let the expert do each task once.

    Examples
    --------
    >>> from selfreg.envs import HouseholdEnvironment
    >>> from selfreg.envs.imitation import demonstrate
    >>> len(demonstrate(HouseholdEnvironment(), ["household-moved/0", "household-place/1"]).actions)
    11
    """
    texts, actions = [], []
    for task in tasks:
        environment.reset(task)
        while not environment.done:
            texts.append(environment.text())
            actions.append(environment.expert_action())
            environment.step(actions[-1])
    return Demonstrations(texts, actions)


class ImitationPolicy:
    """Draws actions from a network over the state's text.

    Parameters
    ----------
    weights : mapping of str to float32 array
        ``hidden.weight`` (features, hidden), ``hidden.bias`` (hidden,), ``output.weight`` (hidden, actions),
        ``output.bias`` (actions,).
    action_names : sequence of str
        Of the environment that it was trained in; it acts in no other.
    """

    def __init__(self, weights: dict[str, Floats], action_names: Sequence[str]) -> None:
        self.weights, self.action_names = weights, tuple(action_names)
        self._known: dict[str, npt.NDArray[np.float64]] = {}

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action; draws once in every step."""
        return int(np.searchsorted(np.cumsum(self.distribution(environment))[:-1], generator.random(), side="right"))

    def check(self, environment: Environment) -> None:
        """Raise ValueError where the environment has other actions than the one that the policy was trained in."""
        if tuple(environment.action_names) != self.action_names:
            raise ValueError(f"the policy was trained for the actions {self.action_names}; expected them here")

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (actions,)."""
        self.check(environment)
        return self.probabilities(environment.text())

    def probabilities(self, text: str) -> npt.NDArray[np.float64]:
        """Return the probability of each action in the state with this text, float64 (actions,)."""
        if text not in self._known:
            self._known[text] = self._forward(text)
        return self._known[text]

    def _forward(self, text: str) -> npt.NDArray[np.float64]:
        first, first_bias, second, second_bias = (self.weights[name] for name in WEIGHTS)
        chosen = hashed_words(text, len(first))
        hidden = np.maximum(first[chosen].mean(axis=0) + first_bias, 0.0)
        logits = (hidden @ second + second_bias).astype(np.float64)
        shares = np.exp(logits - logits.max())
        return np.asarray(shares / shares.sum())

    def digest(self) -> str:
        """Hash of weights and action names: what tells one policy from another, unlike the bytes of its file."""
        found = hashlib.sha256(json.dumps(self.action_names).encode())
        for name in WEIGHTS:
            found.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return found.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file: weights, and the action names as metadata."""
        with require_extra("ml", "ImitationPolicy.save"):
            from safetensors.numpy import save_file
        header = {"kind": KIND, "action_names": json.dumps(self.action_names)}
        with atomic_write(path) as temporary:
            save_file({name: np.ascontiguousarray(self.weights[name]) for name in WEIGHTS}, temporary, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ImitationPolicy:
        """Read what `save` wrote; ValueError where the file is something else."""
        with require_extra("ml", "ImitationPolicy.load"):
            from safetensors import SafetensorError, safe_open
        try:
            with safe_open(path, "numpy") as file:
                header = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from None
        if header.get("kind") != KIND or set(weights) != set(WEIGHTS):
            raise ValueError(f"{path} is not an imitation policy; expected kind {KIND!r} and weights {WEIGHTS}")
        names = json.loads(header.get("action_names", "[]"))
        hidden = weights["hidden.bias"].size
        shapes = [weights[name].shape for name in WEIGHTS]
        if shapes != [(shapes[0][0], hidden), (hidden,), (hidden, len(names)), (len(names),)]:
            raise ValueError(f"{path} is damaged: weights of shapes {shapes} do not fit {len(names)} action names")
        return cls(weights, names)


def train_imitation(
    demonstrations: Demonstrations, action_names: Sequence[str], config: ImitationConfig | None = None
) -> ImitationPolicy:
    """Train a policy on demonstrations, by cross-entropy.

    Parameters
    ----------
    demonstrations : Demonstrations
    action_names : sequence of str
        Of the environment.
    config : ImitationConfig, optional

    Returns
    -------
    ImitationPolicy
        The same for the same seed, demonstrations and machine.

    Raises
    ------
    ValueError
        If there are no demonstrations or an action has no name.
    ImportError
        If the extra "ml" is not installed.

    Examples
    --------
    >>> from selfreg.envs import HouseholdEnvironment, household_tasks
    >>> from selfreg.envs.imitation import ImitationConfig, demonstrate, train_imitation
    >>> world = HouseholdEnvironment()
    >>> shown = demonstrate(world, household_tasks(20, 0, seed=0)[0])
    >>> policy = train_imitation(shown, world.action_names)
    >>> policy.probabilities(shown.texts[0]).shape
    (12,)
    """
    config, n_actions = config or ImitationConfig(), len(action_names)
    if not demonstrations.texts:
        raise ValueError("there are no demonstrations; expected at least one action")
    if not 0 <= min(demonstrations.actions) <= max(demonstrations.actions) < n_actions:
        low, high = min(demonstrations.actions), max(demonstrations.actions)
        raise ValueError(f"actions go from {low} to {high}; expected 0 to {n_actions - 1}, as many as there are names")
    bags = [hashed_words(text, config.features) for text in demonstrations.texts]
    return ImitationPolicy(_fitted(bags, demonstrations.actions, n_actions, config), action_names)


def _fitted(
    bags: Sequence[npt.NDArray[np.int64]], actions: Sequence[int], n_actions: int, config: ImitationConfig
) -> dict[str, Floats]:
    with require_extra("ml", "train_imitation"):
        import torch
    targets, words = torch.tensor(actions), [torch.from_numpy(bag) for bag in bags]
    with single_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        hidden = torch.nn.EmbeddingBag(config.features, config.hidden, mode="mean")
        bias = torch.nn.Parameter(torch.zeros(config.hidden))
        output = torch.nn.Linear(config.hidden, n_actions)
        parameters = [*hidden.parameters(), bias, *output.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        for _ in range(config.epochs):
            order = torch.randperm(len(words)).tolist()
            for begin in range(0, len(order), config.batch_size):
                batch = order[begin : begin + config.batch_size]
                chosen = [words[i] for i in batch]
                offsets = torch.tensor([0, *(len(bag) for bag in chosen[:-1])]).cumsum(0)
                logits = output(torch.relu(hidden(torch.cat(chosen), offsets) + bias))
                loss = torch.nn.functional.cross_entropy(logits, targets[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    tensors: list[Any] = [hidden.weight, bias, output.weight.T, output.bias]
    return {name: tensor.detach().numpy().copy() for name, tensor in zip(WEIGHTS, tensors, strict=True)}
