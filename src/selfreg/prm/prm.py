"""The process reward model: P(success | state text, the base policy goes on without help)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selfreg.data import Step, Trajectory, state_text
from selfreg.prm.classifier import Examples, TextClassifier, split_tasks
from selfreg.prm.encoder import EncoderConfig
from selfreg.prm.metrics import auroc, brier, expected_calibration_error

SCHEMA = "selfreg.prm/1"


@dataclass(frozen=True)
class PRMConfig(EncoderConfig):
    """How to train a PRM: every setting is the encoder's."""


@dataclass(frozen=True)
class PRM:
    """Scores states: p(s) = P(success | state text, the base policy goes on without help).

    Made by `train_prm` or `load`.

    Attributes
    ----------
    classifier : TextClassifier
        One logit.
    temperature : float
        Divides the logit; fitted on validation tasks.
    history : int
        Earlier steps that `text` shows.
    figures : dict of str to float
        On held-out test tasks, one count a step: `brier`, `brier_constant` (of the training mean), `ece`, and
        `auroc` (absent where all test outcomes are the same). Of training: `epochs`, `validation_loss`,
        `temperature`; the number of steps and of distinct texts.
    split : dict of str to list of str
        The tasks of `train`, `validation` and `test`.
    """

    classifier: TextClassifier
    temperature: float = 1.0
    history: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """P(success) of each text, float64 (n,)."""
        return _sigmoid(self.classifier.logits(texts)[:, 0] / self.temperature)

    def text(self, steps: Sequence[Step]) -> str:
        """What the PRM reads of an episode so far."""
        return state_text(steps, self.history)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a standard transformers folder with selfreg.json, whole or not at all."""
        record = {"schema": SCHEMA, "temperature": self.temperature, "history": self.history}
        self.classifier.save(folder, record | {"figures": self.figures, "split": self.split})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "cpu") -> PRM:
        """PRM from a folder that `save` wrote.

        Raises
        ------
        ValueError
            `folder` holds no PRM.
        """
        classifier, record = TextClassifier.load(folder, SCHEMA, device)
        return cls(classifier, record["temperature"], record["history"], record["figures"], record["split"])


@dataclass(frozen=True)
class _Visits:
    """One entry for each step whose continuation is unhelped."""

    texts: list[str]
    outcomes: NDArray[np.float64]
    tasks: list[str]

    def of(self, tasks: Sequence[str]) -> _Visits:
        """The visits of some tasks."""
        wanted = set(tasks)
        chosen = [i for i, task in enumerate(self.tasks) if task in wanted]
        return _Visits([self.texts[i] for i in chosen], self.outcomes[chosen], [self.tasks[i] for i in chosen])

    def merged(self) -> Examples:
        """Distinct texts, with their mean outcome as target and their count as weight."""
        place = {text: i for i, text in enumerate(dict.fromkeys(self.texts))}
        index = [place[text] for text in self.texts]
        count = np.bincount(index).astype(np.float64)
        return Examples(list(place), (np.bincount(index, weights=self.outcomes) / count)[:, None], count)


def train_prm(trajectories: Sequence[Trajectory], config: PRMConfig | None = None) -> PRM:
    """Train a PRM on what happened after states from which the agent went on without help.

    Every step counts whose own and later steps are unhelped, in episodes whose outcome is known. Within a split,
    identical texts are one example: their mean outcome is the (soft) target and their count the weight. Tasks are
    split into training, validation (early stopping, temperature) and test (figures).

    Parameters
    ----------
    trajectories : sequence of Trajectory
    config : PRMConfig, optional

    Raises
    ------
    ValueError
        There is nothing to learn from (no unhelped continuation, fewer than 3 tasks, one outcome only), or
        training diverges.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(task=f"task {i}", episode=str(i), outcome=float(i % 2), steps=(Step(state=f"case {i}"),))
    ...     for i in range(20)
    ... ]
    >>> prm = train_prm(logs, PRMConfig(epochs=1))
    >>> prm.score(["case 3", ""]).shape
    (2,)
    """
    config = config or PRMConfig()
    visits = _visits(trajectories, config.history)
    split = split_tasks(visits.tasks, config)
    train, validation, test = (visits.of(split[name]) for name in ("train", "validation", "test"))
    if np.ptp(train.outcomes) == 0:
        tasks = f"{len(split['train'])} training tasks (of {len(set(visits.tasks))} tasks)"
        raise ValueError(f"every outcome of the {tasks} is {train.outcomes[0]}; a PRM needs successes and failures")
    examples, checks = train.merged(), validation.merged()
    classifier = TextClassifier.create(["success"], examples.texts, config)
    figures = classifier.fit(examples, checks, config, "training the PRM")
    temperature = _temperature(classifier.logits(checks.texts)[:, 0], checks)
    figures |= {"train_steps": float(len(train.texts)), "train_texts": float(len(examples.texts))}
    prm = PRM(classifier, temperature, config.history, figures | {"temperature": temperature}, split)
    prm.figures.update(_figures(prm, test, float(train.outcomes.mean())))
    return prm


def _visits(trajectories: Sequence[Trajectory], history: int) -> _Visits:
    texts, outcomes, tasks = [], [], []
    for trajectory in trajectories:
        if trajectory.outcome is None:
            continue
        helped = [i for i, step in enumerate(trajectory.steps) if step.intervention is not None]
        for last in range(helped[-1] + 1 if helped else 0, len(trajectory.steps)):
            texts.append(state_text(trajectory.steps[: last + 1], history))
            outcomes.append(trajectory.outcome)
            tasks.append(trajectory.task)
    if not texts:
        raise ValueError(
            f"none of {len(trajectories)} trajectories has a known outcome and steps after which no help came; "
            "a PRM learns from unhelped continuations"
        )
    return _Visits(texts, np.array(outcomes, dtype=np.float64), tasks)


def _figures(prm: PRM, test: _Visits, constant: float) -> dict[str, float]:
    texts = list(dict.fromkeys(test.texts))
    known = dict(zip(texts, prm.score(texts), strict=True))
    score = np.array([known[text] for text in test.texts])
    figures = {
        "brier": brier(score, test.outcomes),
        "brier_constant": brier(np.full(len(score), constant), test.outcomes),
        "ece": expected_calibration_error(score, test.outcomes),
        "test_steps": float(len(score)),
    }
    area = auroc(score, test.outcomes)
    return figures if math.isnan(area) else figures | {"auroc": area}


def _temperature(logits: NDArray[np.float64], checks: Examples) -> float:
    """Least log-loss over temperatures from 1/2 to 8; 1 where outcomes do not differ and so say nothing."""
    outcomes = checks.targets[:, 0]
    if np.ptp(outcomes) == 0:
        return 1.0
    grid = 2.0 ** np.linspace(-1, 3, 129)
    # log(1 + exp(z)) - y z is the log-loss of a logit z
    loss = [float(checks.weights @ (np.logaddexp(0, logits / t) - outcomes * logits / t)) for t in grid]
    return float(grid[int(np.argmin(loss))])


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0.0, -logits))
