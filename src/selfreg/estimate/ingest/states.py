"""Numbers of abstract states, by first appearance: of trajectories and of columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np

from selfreg.data import Scalar, Step, Trajectory
from selfreg.data.columns import Columns, StepText
from selfreg.estimate.abstraction import (
    BRANCH_STEP,
    CLASS,
    LAST_HELP,
    LAST_STEP,
    STEP,
    TASK,
    ExactKey,
    Features,
    Key,
    StateAbstraction,
    episode_step,
    first_step,
    keep_distinct,
)
from selfreg.estimate.ingest.sums import Codes, PairNumbers, TextNumbers, encode_distinct

# Characters of texts that are collected before they are numbered.
CHARACTERS_HELD = 1 << 25

_KEY, _TASK = attrgetter("key"), attrgetter("task")


def select_text(abstraction: StateAbstraction) -> StepText | None:
    """The text of a step that determines its state; None if states cannot be numbered by column."""
    if type(abstraction) is ExactKey:
        return StepText.KEY
    if type(abstraction) is Features:
        return StepText.STATE if CLASS in abstraction.names else StepText.NOTHING
    return None


def _step_numbers(first: Codes, lengths: Codes) -> Codes:
    """Step numbers of episodes that begin at step `first`, one episode after another."""
    begins = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(lengths.sum()) - np.repeat(begins - first, lengths))


def _number_steps(columns: Columns) -> Codes:
    first = np.array([first_step(fields) for fields in columns.fields], np.int64)[columns.fields_of]
    return _step_numbers(first, columns.length)


def _has_steps(columns: Columns) -> bool:
    """Whether every episode has a valid first step."""
    steps = [fields.get(BRANCH_STEP) or 0 for fields in columns.fields]
    return all(isinstance(step, int) and 0 <= step <= LAST_STEP for step in steps)


class EncodedStates:
    """Numbers of the states of any abstraction: its `encode` is called for every step."""

    def __init__(self, abstraction: StateAbstraction) -> None:
        self._abstraction = abstraction
        self._index: dict[Key, int] = {}
        self._returned = 0
        self._path = array("q")

    @property
    def full(self) -> bool:
        """Whether the collected texts should be numbered now."""
        return False

    def can_number(self, columns: Columns) -> bool:
        """Whether `number_columns` can number the states of these columns."""
        return False

    def number_columns(self, columns: Columns) -> Codes:
        """State of every step, int64 (steps,)."""
        raise NotImplementedError

    def add(self, trajectories: Sequence[Trajectory], steps: Sequence[Step]) -> None:
        index, encode = self._index, self._abstraction.encode
        keys = (encode(trajectory, t) for trajectory in trajectories for t in range(len(trajectory.steps)))
        self._path.extend([index.setdefault(key, len(index)) for key in keys])

    def number_added(self, lengths: Codes) -> Codes:
        """State of every step added since the last call."""
        state, self._path = np.array(self._path, np.int64), array("q")
        return state

    def take_new_keys(self) -> tuple[int, list[Key]]:
        """Number of states of earlier calls, and the keys of those added since."""
        known, self._returned = self._returned, len(self._index)
        return known, list(islice(self._index, known, None))


class FeatureStates(EncodedStates):
    """The same for `Features`: one key for each distinct row of columns."""

    def __init__(self, abstraction: Features) -> None:
        super().__init__(abstraction)
        self._features = abstraction

    def can_number(self, columns: Columns) -> bool:
        needed = {*self._features.names} - {STEP, CLASS, TASK}
        return (
            LAST_HELP not in needed
            and all(needed <= fields.keys() for fields in columns.fields)
            and _has_steps(columns)
        )

    def number_columns(self, columns: Columns) -> Codes:
        episode = np.repeat(np.arange(len(columns.length)), columns.length)
        code, features = np.zeros(len(episode), np.int64), []
        for name in self._features.names:
            place, values = self._feature(name, columns, episode)
            _, code = encode_distinct(code * len(values) + place)
            features.append((place, values))
        first = np.empty(code.max(initial=-1) + 1, np.int64)
        first[code[::-1]] = np.arange(len(code))[::-1]  # the last one written stays
        keys = zip(*([values[i] for i in place[first].tolist()] for place, values in features), strict=True)
        index = self._index
        return np.array([index.setdefault(key, len(index)) for key in keys], np.int64)[code]

    def _feature(self, name: str, columns: Columns, episode: Codes) -> tuple[Codes, list[Any]]:
        """Index of every step's value in a list of values, and that list."""
        if name not in (STEP, CLASS, TASK):
            return columns.fields_of[episode], [keep_distinct(fields[name]) for fields in columns.fields]
        if name == STEP:
            steps, place = encode_distinct(_number_steps(columns))
            return place, steps.tolist()
        texts = (columns.task if name == TASK else columns.text).dictionary_encode()
        place, values = np.from_dlpack(texts.indices).astype(np.int64), texts.dictionary.to_pylist()
        if name == CLASS:
            return place, [self._features.classify(text) for text in values]
        return place[episode] if name == TASK else place, values


class ExactStates:
    """The same for `ExactKey`, whose keys are texts: numbered a column at a time, without a call for each step."""

    def __init__(self, abstraction: ExactKey) -> None:
        self._by_step = abstraction.step
        self._tasks, self._texts = TextNumbers(), TextNumbers()
        self._pairs, self._with_step = PairNumbers(), PairNumbers()
        self._returned = 0
        self._task: list[str] = []
        self._text: list[str] = []
        self._first: list[int] = []
        self._characters_left = CHARACTERS_HELD

    @property
    def full(self) -> bool:
        return self._characters_left < 0

    def can_number(self, columns: Columns) -> bool:
        return not self._by_step or _has_steps(columns)

    def number_columns(self, columns: Columns) -> Codes:
        task = np.repeat(self._tasks.number_all(columns.task), columns.length)
        return self._number(
            task, self._texts.number_all(columns.text), _number_steps(columns) if self._by_step else None
        )

    def add(self, trajectories: Sequence[Trajectory], steps: Sequence[Step]) -> None:
        texts: list[Any] = [*map(_KEY, steps)]
        if None in texts:
            texts = [step.state if step.key is None else step.key for step in steps]
            self._characters_left -= sum(map(len, texts))
        self._text += texts
        self._task.extend(map(_TASK, trajectories))
        if self._by_step:
            self._first.extend(episode_step(trajectory, 0) for trajectory in trajectories)

    def number_added(self, lengths: Codes) -> Codes:
        task, text = np.repeat(self._tasks.number_all(self._task), lengths), self._texts.number_all(self._text)
        step = _step_numbers(np.array(self._first, np.int64), lengths) if self._by_step else None
        self._task, self._text, self._first, self._characters_left = [], [], [], CHARACTERS_HELD
        return self._number(task, text, step)

    def _number(self, task: Codes, text: Codes, step: Codes | None) -> Codes:
        state = self._pairs.number_all(task, text)
        return state if step is None else self._with_step.number_all(state, step)

    def take_new_keys(self) -> tuple[int, list[Key]]:
        numbered = self._with_step if self._by_step else self._pairs
        known, self._returned = self._returned, len(numbered.pairs)
        first, second = _split_pairs(numbered.pairs[known:])
        columns: list[list[Scalar]] = []
        if self._by_step:
            columns = [second.tolist()]
            first, second = _split_pairs(self._pairs.pairs[first])
        tasks, texts = list(self._tasks), list(self._texts)
        named = ([names[i] for i in at.tolist()] for names, at in ((tasks, first), (texts, second)))
        return known, list(zip(*named, *columns, strict=True))


def _split_pairs(pairs: Codes) -> tuple[Codes, Codes]:
    return pairs >> 31, pairs & ((1 << 31) - 1)


States: TypeAlias = EncodedStates | ExactStates | FeatureStates


def number_states(abstraction: StateAbstraction) -> States:
    """Numbers of the states of an abstraction, none numbered yet."""
    if type(abstraction) is ExactKey:
        return ExactStates(abstraction)
    return FeatureStates(abstraction) if type(abstraction) is Features else EncodedStates(abstraction)
