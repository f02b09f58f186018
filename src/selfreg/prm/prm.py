"""The process reward model: P(success | state text, the base policy continues without help)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selfreg._util.threads import single_thread
from selfreg.data import Step, Trajectory, state_text
from selfreg.prm.calibration import Calibration, Temperature, calibrate, load_calibration
from selfreg.prm.card import model_card
from selfreg.prm.config import KINDS, TRANSFORMER, PRMConfig
from selfreg.prm.encoder import require_ml
from selfreg.prm.linear import BASELINES, StepRates, read_arrays
from selfreg.prm.metrics import brier, by_task, expected_calibration_error, reliability_by_task
from selfreg.prm.transformer import TextClassifier, read_record, split_tasks
from selfreg.prm.visits import Visits, join_visits, labelled_visits, unhelped_visits

SCHEMA = "selfreg.prm/1"


class LogitModel(Protocol):
    """Model of a PRM: a `TextClassifier` with one label, or a baseline."""

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Float64 (n, 1)."""

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write a folder with `record` in selfreg.json, atomically."""


@dataclass(frozen=True)
class PRM:
    """Scores states: p(s) = P(success | state text, the base policy continues without help).

    Create with `train_prm` or `load`.

    Attributes
    ----------
    model : TextClassifier or Baseline
        One logit a text.
    kind : str
        Which model: see `PRMConfig.kind`.
    calibration : Calibration
        From logits to probabilities; fitted on validation tasks, or by `recalibrate`.
    history : int
        Earlier steps that `text` shows.
    figures : dict of str to float
        On held-out test tasks, one count a step: `brier`, `ece`, and `auroc` (absent where all test outcomes are the
        same), each with the bounds (`brier_low`, `brier_high`) of a 95% bootstrap interval over tasks;
        `brier_constant` of the training mean. Of training: `epochs`, `validation_loss`, `validation_brier`; the number
        of steps and of distinct texts.
    split : dict of str to list of str
        The tasks of `train`, `validation` and `test`.
    show_step : bool
        Whether `text` begins with the number of the step.
    facts : dict
        JSON values about data, settings, reliability and, after `with_baselines`, the comparison with baselines.

    Examples
    --------
    >>> from selfreg.prm import PRMConfig, train_prm
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(f"task {i}", str(i), float(i % 2), (Step("It works." if i % 2 else "An error."),))
    ...     for i in range(40)
    ... ]
    >>> prm = train_prm(logs, PRMConfig(kind="tfidf"))
    >>> good, bad = prm.score(["It works.", "An error."])
    >>> bool(good > 0.9 and bad < 0.1), prm.text([Step("It works.")])
    (True, 'It works.')
    """

    model: LogitModel
    kind: str = TRANSFORMER
    calibration: Calibration = field(default_factory=Temperature)
    history: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)
    show_step: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """P(success) of each text, float64 (n,).

        Texts of similar length are batched; on a CPU the same texts give the same scores, bit for bit.
        """
        return self.calibration.probability(self.logits(texts))

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Logits before calibration, float64 (n,)."""
        if isinstance(texts, str):
            raise TypeError(f"texts is the str {texts[:60]!r}; expected a sequence of str")
        return self.model.logits(texts)[:, 0]

    def text(self, steps: Sequence[Step]) -> str:
        """Input of the PRM for an episode so far: the state's text, or the number of its last step (kind 'step')."""
        return read_state(steps, self.kind, self.history, self.show_step)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a standard transformers folder with selfreg.json and a model card, atomically.

        Baselines have weights.npz in place of transformers' files.
        """
        record: dict[str, Any] = {"schema": SCHEMA, "kind": self.kind, "calibration": self.calibration.describe()}
        record |= {"history": self.history, "show_step": self.show_step, "facts": self.facts}
        record |= {"figures": self.figures, "split": self.split}
        self.model.save(folder, record, model_card(self.kind, self.figures, self.split, self.facts))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "auto", bf16: bool = False) -> PRM:
        """PRM from a folder that `save` wrote.

        Parameters
        ----------
        folder : path
        device : str
            "auto" is a GPU where there is one.
        bf16 : bool
            Compute in bfloat16.

        Raises
        ------
        ValueError
            `folder` is not a saved PRM, or is damaged.
        """
        record = read_record(folder, SCHEMA)
        try:
            model = cls._model(Path(folder), record, device, bf16)
            values = {name: record[name] for name in ("kind", "history", "show_step", "figures", "split", "facts")}
            return cls(model, calibration=load_calibration(record["calibration"]), **values)
        except KeyError as error:
            raise ValueError(f"{str(folder)!r} is damaged: its selfreg.json or weights are missing {error}") from None

    @staticmethod
    def _model(folder: Path, record: Mapping[str, Any], device: str, bf16: bool) -> LogitModel:
        if record["kind"] == TRANSFORMER:
            return TextClassifier.load(folder, SCHEMA, device, bf16)[0]
        if record["kind"] not in BASELINES:
            raise ValueError(f"{str(folder)!r} has PRM kind {record['kind']!r}; expected one of {KINDS}")
        return BASELINES[record["kind"]].load(folder, record["baseline"], read_arrays(folder))


def train_prm(
    trajectories: Sequence[Trajectory],
    config: PRMConfig | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PRM:
    """Train a PRM on the outcomes after states from which the agent continued without help.

    A step counts if it and all later steps are unhelped and the outcome is known; `helped_weight` adds the others. Step
    labels are a second source (`targets`). Identical texts are one example: their mean outcome is the (soft) target and
    their count the weight. Tasks are split into training, validation (early stopping by Brier score, calibration) and
    test (figures).

    Parameters
    ----------
    trajectories : sequence of Trajectory
    config : PRMConfig, optional
    checkpoint : path, optional
        File for checkpoints. Training resumes from it where it exists. It is not removed after training.

    Raises
    ------
    ValueError
        No unhelped continuation, fewer than 3 tasks, only one outcome, or training diverges.

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
    if config.kind in ("transformer", "embedding"):
        require_ml()
    with single_thread():
        return _train(trajectories, config, checkpoint)


def _train(trajectories: Sequence[Trajectory], config: PRMConfig, checkpoint: str | os.PathLike[str] | None) -> PRM:
    learnt, measured = collect_visits(trajectories, config)
    split = split_tasks(measured.tasks, config)
    train, validation = learnt.select_tasks(split["train"]), measured.select_tasks(split["validation"])
    if not train.texts or np.ptp(train.outcomes) == 0:
        tasks = f"{len(split['train'])} training tasks (of {len(set(measured.tasks))} tasks)"
        found = f"is {train.outcomes[0]}" if train.texts else "is missing"
        raise ValueError(f"every outcome of the {tasks} {found}; a PRM needs successes and failures")
    examples, checks = train.merge(), validation.merge()
    model, figures = _fit(examples, checks, config, checkpoint)
    logits = model.logits(checks.texts)[:, 0]
    plain = config.kind in ("constant", "step")  # rates are calibrated already
    calibration = calibrate("none" if plain else config.calibration, logits, checks.targets[:, 0], checks.weights)
    if isinstance(calibration, Temperature):
        figures["temperature"] = calibration.temperature
    figures |= {"train_steps": float(len(train.texts)), "train_texts": float(len(examples.texts))}
    prm = PRM(model, config.kind, calibration, config.history, figures, split, config.show_step)
    test = measured.select_tasks(split["test"])
    figures |= {"brier_constant": brier(np.full(len(test.texts), _mean(train)), test.outcomes, test.weights)}
    figures |= compute_figures(prm, test)
    return replace(prm, facts={"data": _data(trajectories, learnt, config), "reliability": _reliability(prm, test)})


def read_state(steps: Sequence[Step], kind: str, history: int, show_step: bool) -> str:
    """Input of a PRM of this kind for an episode so far."""
    number = len(steps) - 1
    if kind == StepRates.kind:
        return str(number)
    return (f"step {number}\n" if show_step else "") + state_text(steps, history)


def collect_visits(trajectories: Sequence[Trajectory], config: PRMConfig) -> tuple[Visits, Visits]:
    """States for training, and states for figures, which are never of a helped continuation."""
    text = partial(read_state, kind=config.kind, history=config.history, show_step=config.show_step)
    if config.targets == "labels":
        labels = labelled_visits(trajectories, text)
        return labels, labels
    measured = learnt = unhelped_visits(trajectories, text, propensity=config.propensity)
    if config.helped_weight:
        learnt = unhelped_visits(trajectories, text, config.helped_weight, config.propensity)
    if config.targets == "both":
        learnt = join_visits(learnt, labelled_visits(trajectories, text), config.label_weight)
    return learnt, measured


def compute_figures(prm: PRM, visits: Visits) -> dict[str, float]:
    """Brier score, calibration error and AUROC of some states, with 95% intervals over tasks."""
    score = score_visits(prm, visits)
    figures = {"test_steps": float(len(score)), "test_tasks": float(len(set(visits.tasks)))}
    for metric in ("brier", "ece", "auroc"):
        mean, low, high = by_task(metric, score, visits.outcomes, visits.tasks, visits.weights)
        if not math.isnan(mean):
            figures |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
    return figures


def score_visits(prm: PRM, visits: Visits) -> NDArray[np.float64]:
    """P(success) of each visit; every distinct text is scored once."""
    texts = list(dict.fromkeys(visits.texts))
    known = dict(zip(texts, prm.score(texts), strict=True))
    return np.array([known[text] for text in visits.texts])


def recalibrate(prm: PRM, trajectories: Sequence[Trajectory], kind: str = "temperature", folds: int = 5) -> PRM:
    """Refit the calibration on recent logs; the model is unchanged.

    Parameters
    ----------
    prm : PRM
    trajectories : sequence of Trajectory
        Recent episodes; steps count as for `train_prm` with default settings.
    kind : {"temperature", "isotonic"}
    folds : int
        Number of folds over tasks for the cross-validated figures.

    Returns
    -------
    PRM
        Its `figures` are of the recent logs: `brier` and `ece` before (`_before`) and after (cross-validated over
        tasks), and `recalibration_tasks`.

    Raises
    ------
    ValueError
        Fewer tasks than folds, no unhelped continuation, or only one outcome.

    Examples
    --------
    In recent logs an error is often recovered from.

    >>> from selfreg.prm import PRMConfig, recalibrate, train_prm
    >>> from selfreg.data import Step, Trajectory
    >>> logs = [
    ...     Trajectory(f"task {i}", str(i), float(i % 2), (Step("It works." if i % 2 else "An error."),))
    ...     for i in range(40)
    ... ]
    >>> prm = train_prm(logs, PRMConfig(kind="tfidf"))
    >>> recent = [Trajectory(f"new {i}", str(i), float(i % 4 > 0), logs[i % 2].steps) for i in range(40)]
    >>> figures = recalibrate(prm, recent, "isotonic").figures
    >>> figures["brier"] < figures["brier_before"]
    True
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; expected at least 2")
    visits = unhelped_visits(trajectories, prm.text)
    tasks = sorted(set(visits.tasks))
    if len(tasks) < folds:
        raise ValueError(f"the logs have {len(tasks)} tasks; {folds} folds need at least as many")
    if np.ptp(visits.outcomes) == 0:
        raise ValueError(f"every outcome is {visits.outcomes[0]}; a calibration needs successes and failures")
    logits = prm.logits(visits.texts)
    fold = dict(zip(tasks, np.random.default_rng(0).permutation(len(tasks)) % folds, strict=True))
    part = np.array([fold[task] for task in visits.tasks])
    after = np.empty(len(logits))
    for k in range(folds):
        kept = part != k
        fitted = calibrate(kind, logits[kept], visits.outcomes[kept], visits.weights[kept])
        after[~kept] = fitted.probability(logits[~kept])
    figures = {"recalibration_tasks": float(len(tasks)), "recalibration_steps": float(len(logits))}
    for suffix, p in (("_before", prm.calibration.probability(logits)), ("", after)):
        figures |= {f"brier{suffix}": brier(p, visits.outcomes)}
        figures |= {f"ece{suffix}": expected_calibration_error(p, visits.outcomes)}
    calibration = calibrate(kind, logits, visits.outcomes, visits.weights)
    recalibrated = replace(prm, calibration=calibration, figures=figures)
    return replace(recalibrated, facts={**prm.facts, "reliability": _reliability(recalibrated, visits)})


def _fit(
    train: Any, validation: Any, config: PRMConfig, checkpoint: str | os.PathLike[str] | None
) -> tuple[LogitModel, dict[str, float]]:
    if config.kind != TRANSFORMER:
        return BASELINES[config.kind].fit(train, validation, config), {}
    model = TextClassifier.create(["success"], train.texts, config)
    title = "training the PRM"
    return model, model.fit(train, validation, config, title, criterion="brier", checkpoint=checkpoint)


def _mean(visits: Visits) -> float:
    return float(np.average(visits.outcomes, weights=visits.weights))


def _data(trajectories: Sequence[Trajectory], learnt: Visits, config: PRMConfig) -> dict[str, Any]:
    settings = {name: getattr(config, name) for name in ("targets", "label_weight", "helped_weight", "propensity")}
    settings |= {"model": config.model and Path(config.model).name, "seed": config.seed}
    settings |= {"max_tokens": config.max_tokens, "calibration": config.calibration, "lora_rank": config.lora_rank}
    counts = {"episodes": len(trajectories), "tasks": len(set(learnt.tasks)), "states": len(learnt.texts)}
    return {**counts, "success": _mean(learnt), "settings": settings}


def _reliability(prm: PRM, visits: Visits) -> list[dict[str, float]]:
    rows = reliability_by_task(score_visits(prm, visits), visits.outcomes, visits.tasks, visits.weights)
    return [row._asdict() for row in rows]
