"""Which features make the states where the user names none: those that predict outcomes of held-out tasks best."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg.data import Scalar, Trajectory
from selfreg.estimate.abstraction import CLASS, LAST_HELP, STEP, TASK, Features
from selfreg.estimate.text_classes import WordTable

FOLDS = 5
# Pseudo-episodes of the overall success rate in each state.
PRIOR = 2.0
MOST_VALUES = 30
MOST_FIELDS = 12
# Bins of a field with more numbers than that; steps that are looked at.
BINS = 4
MOST_STEPS = 20_000
# Tasks that are looked at however many steps they have.
LEAST_TASKS = 20

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


class ChosenFeatures(NamedTuple):
    """What `choose_features` returns.

    Attributes
    ----------
    features : Features
    likelihoods : dict of str to float
        Held-out log-likelihood of the outcome, the mean over unhelped steps of tasks, for each set of features that was
        tried ("step,domain").
    """

    features: Features
    likelihoods: dict[str, float]

    def describe(self) -> str:
        """The choice and its reason, a sentence."""
        chosen = ",".join(self.features.names)
        others = ", ".join(f"{name} {value:.4f}" for name, value in self.likelihoods.items() if name != chosen)
        compared = f" (other: {others})" if others else ""
        return (
            f"states are --state {chosen}{self._describe_parts()}, chosen by the held-out log-likelihood of the "
            f"outcome, {self.likelihoods[chosen]:.4f} a step{compared}"
        )

    def _describe_parts(self) -> str:
        """What classes and bins are, where the user named none."""
        parts = [
            f"{name!r} in bins at {', '.join(f'{edge:g}' for edge in at)}" for name, at in self.features.edges.items()
        ]
        if self.features.classes:
            parts.insert(0, f"classes of texts: {', '.join(self.features.classes)}, other")
        return f" ({'; '.join(parts)})" if parts else ""


def choose_features(trajectories: Sequence[Trajectory], classes: Mapping[str, str] | None = None) -> ChosenFeatures:
    """Features for the states of logs without exact keys.

    `step` is always one. A field of the episode, a number of it in bins, or a class of the observation is added if it
    raises the held-out log-likelihood by more than a standard error over tasks; then perhaps a second one. Fields that
    come into question are those that a task determines: they are the same in all its episodes, so no outcome is in
    them. Without `classes`, classes are words of the observations that tell success from failure; for held-out tasks
    they are chosen from the others. Of a large log some episodes are looked at.

    Parameters
    ----------
    trajectories : sequence of Trajectory
    classes : mapping of str to regular expression, optional

    Returns
    -------
    ChosenFeatures

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate.default_state import choose_features
    >>> log = [Trajectory(f"t{i % 40}", str(i), float(i % 2), (Step("go"),), fields={"odd": i % 2}) for i in range(200)]
    >>> choose_features(log).features.names
    ['step', 'odd']
    """
    steps = _Steps([t for t in trajectories if not t.helped and t.outcome is not None])
    edges = find_edges(trajectories)
    columns = {name: _encode(steps, Features([STEP, name])) for name in find_task_fields(trajectories)}
    columns |= {name: _encode(steps, Features([STEP, name], {}, {name: at})) for name, at in edges.items()}
    coders: dict[str, _Coder] = {name: lambda _, codes=codes: codes for name, codes in columns.items()}  # type: ignore[misc]
    if classes:
        given = _encode(steps, Features([STEP, CLASS], classes))
        coders[CLASS] = lambda _: given
    else:
        table = WordTable(steps.texts)
        coders[CLASS] = lambda fold: table.classify(table.choose(steps.outcome, steps.fold != fold))
    names, likelihoods = _search(steps, coders)
    found = dict(classes or {})
    if CLASS in names and not classes:
        found = table.describe(table.choose(steps.outcome, np.ones(len(steps.outcome), bool)))
    if CLASS in names and not found:  # the words of no fold hold in all
        names = [name for name in names if name != CLASS]
    features = Features(names, found if CLASS in names else {}, {n: at for n, at in edges.items() if n in names})
    return ChosenFeatures(features, likelihoods)


class _Steps:
    """Steps of episodes with an outcome: those of some tasks, by chance, where there are many."""

    def __init__(self, trajectories: Sequence[Trajectory]) -> None:
        self.trajectories = _sample(trajectories)
        tasks: dict[str, int] = {}
        lengths = [len(t.steps) for t in self.trajectories]
        task = [tasks.setdefault(t.task, len(tasks)) for t in self.trajectories]
        self.task: Codes = np.repeat(np.array(task, np.int64), lengths)
        self.fold: Codes = np.repeat(np.array([_fold(t.task) for t in self.trajectories], np.int64), lengths)
        self.outcome: Floats = np.repeat(np.array([t.outcome for t in self.trajectories], float), lengths)
        self.step = _encode(self, Features([STEP]))

    @property
    def texts(self) -> list[str]:
        return [step.state for t in self.trajectories for step in t.steps]


def _sample(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Episodes of tasks in a fixed random order, up to `MOST_STEPS` steps; of few large tasks, some of each."""
    order = sorted({t.task for t in trajectories}, key=lambda task: (zlib.crc32(_bytes(f"sample {task}")), task))
    lengths = Counter[str]()
    for t in trajectories:
        lengths[t.task] += len(t.steps)
    ends = np.cumsum([lengths[task] for task in order])
    chosen = order[: max(LEAST_TASKS, int(np.searchsorted(ends, MOST_STEPS, side="right")))]
    every = -(-sum(lengths[task] for task in chosen) // MOST_STEPS) or 1
    places: dict[str, list[int]] = {task: [] for task in chosen}
    for i, t in enumerate(trajectories):
        if t.task in places:
            places[t.task].append(i)
    return [
        trajectories[i]
        for i in sorted(
            place
            for task, its in places.items()
            for place in random.Random(zlib.crc32(_bytes(task))).sample(its, -(-len(its) // every))
        )
    ]


# Codes of the states of all steps; those by which steps of a fold are predicted.
_Coder = Callable[[int], Codes]


def _encode(steps: _Steps, features: Features) -> Codes:
    index: dict[tuple[Scalar, ...], int] = {}
    return np.array(
        [
            index.setdefault(features.encode(t, step), len(index))
            for t in steps.trajectories
            for step in range(len(t.steps))
        ],
        np.int64,
    )


def _search(steps: _Steps, coders: Mapping[str, _Coder]) -> tuple[list[str], dict[str, float]]:
    """Names of the best features, and the held-out log-likelihoods of those that were tried."""
    names, coder = [STEP], _Joined(steps.step, ())
    scores = _score(steps, coder)
    likelihoods = {STEP: _mean(scores)}
    left = dict(coders)
    for _ in range(2):
        tried = {name: coder.plus(one) for name, one in left.items()}
        found = {name: _score(steps, joined) for name, joined in tried.items()}
        likelihoods |= {",".join([*names, name]): _mean(score) for name, score in found.items()}
        best = max(found, key=lambda name: _mean(found[name]), default=None)
        if best is None or not _is_better(steps, found[best], scores):
            break
        names, coder, scores = [*names, best], tried[best], found[best]
        del left[best]
    return names, likelihoods


class _Joined(NamedTuple):
    """The step with other features."""

    step: Codes
    others: tuple[_Coder, ...]

    def plus(self, other: _Coder) -> _Joined:
        return _Joined(self.step, (*self.others, other))

    def encode(self, fold: int) -> Codes:
        code = self.step
        for other in self.others:
            more = other(fold)
            code = np.unique(code * (more.max(initial=0) + 1) + more, return_inverse=True)[1].reshape(-1)
        return code


def _score(steps: _Steps, coder: _Joined) -> Floats:
    """Log-likelihood of the outcome of every step, predicted from the tasks of the other folds."""
    scores = np.zeros(len(steps.outcome))
    for fold in range(FOLDS):
        inside = steps.fold == fold
        if not inside.any():
            continue
        code = coder.encode(fold)
        n = int(code.max()) + 1
        seen = np.bincount(code[~inside], minlength=n)
        won = np.bincount(code[~inside], steps.outcome[~inside], n)
        rate = (won.sum() + 1) / (seen.sum() + 2)
        p = ((won + PRIOR * rate) / (seen + PRIOR))[code[inside]]
        outcome = steps.outcome[inside]
        scores[inside] = outcome * np.log(p) + (1 - outcome) * np.log1p(-p)
    return scores


def find_edges(trajectories: Sequence[Trajectory]) -> dict[str, list[float]]:
    """Edges of the bins of fields with many numbers, such as a score of its difficulty, that a task determines."""
    edges = {}
    for name, values in _task_values(trajectories).items():
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        distinct = len(set(numbers))
        # Whole numbers that differ from task to task are rather ids.
        are_ids = distinct == len(values) and all(isinstance(v, int) for v in numbers)
        if distinct > min(MOST_VALUES, len(values) // 4) and len(numbers) == len(values) and not are_ids:
            at = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS))
            edges[name] = [float(edge) for edge in at]
    return {name: edges[name] for name in sorted(edges)[:MOST_FIELDS]}


def find_task_fields(trajectories: Sequence[Trajectory]) -> list[str]:
    """Fields of all episodes with a few values, the same in all episodes of a task; none where no task is repeated."""
    found = _task_values(trajectories)
    n_tasks = max(map(len, found.values()), default=0)
    most = min(MOST_VALUES, n_tasks // 4)
    distinct = {name: len({(type(value), value) for value in values}) for name, values in found.items()}
    return sorted(name for name in found if 2 <= distinct[name] <= most)[:MOST_FIELDS]


def _task_values(trajectories: Sequence[Trajectory]) -> dict[str, list[Scalar]]:
    """Values of each field that all episodes of a task share, by task; nothing where no task is repeated."""
    values: dict[str, dict[str, Scalar]] = {}
    names = set(trajectories[0].fields) - {STEP, CLASS, TASK, LAST_HELP} if trajectories else set()
    for trajectory in trajectories:
        known = values.setdefault(trajectory.task, dict(trajectory.fields))
        names = {n for n in names if n in trajectory.fields and _same(known.get(n), trajectory.fields[n])}
    if len(values) == len(trajectories):
        return {}
    return {name: [fields[name] for fields in values.values()] for name in names}


def _same(first: Scalar, second: Scalar) -> bool:
    return type(first) is type(second) and first == second


def _fold(task: str) -> int:
    return zlib.crc32(_bytes(task)) % FOLDS


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _mean(scores: Floats) -> float:
    return float(scores.mean()) if len(scores) else 0.0


def _is_better(steps: _Steps, scores: Floats, others: Floats) -> bool:
    """Whether the mean over tasks is higher by more than its standard error."""
    gains = np.bincount(steps.task, scores - others) / np.bincount(steps.task)
    return len(gains) > 1 and bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)))
