"""Gradient-boosted trees on word and role groups (scikit-learn): what only combinations of words say."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.extras import require_extra
from selfreg._util.text_features import (
    GROUPS_VERSION,
    PHRASES_VERSION,
    ROLES_VERSION,
    hashed_phrases,
    hashed_roles,
    hashed_words,
)
from selfreg._util.text_index import presence
from selfreg.helper.models.per_budget import CERTAIN, PerBudget, weighted_loss
from selfreg.prm.config import EncoderConfig
from selfreg.prm.linear import WEIGHTS, read_arrays
from selfreg.prm.transformer import Examples, read_record, write_model_folder

Floats = NDArray[np.float64]
# Sorted distinct numbers of the groups of one kind in a text, each below the second argument.
Reader = Callable[[str, int], NDArray[np.int64]]

HASHED = 2**17  # number of hash values of the groups of a kind; those of the next kind come after them
# Groups that trees read: at most so many, each in this share of the tasks at least.
MOST_GROUPS, TASK_SHARE = 600, 0.1
# Trees of an action at most, and the splits from root to leaf. Each tree is grown on half of the texts, and each split
# is the best of a fifth of the groups: chance in single tasks weighs less, and training is faster.
TREES, DEPTH, RATE, TEXT_SHARE, GROUP_SHARE = 120, 4, 0.1, 0.5, 0.2
# Least texts of a leaf: this share of those that are learnt, at most so many.
LEAF_SHARE, LEAF = 0.025, 20
INNER = 2**DEPTH - 1
# Texts that are read at once: bounds memory.
TEXTS = 4_096


class Forest(NamedTuple):
    """Complete binary trees: a text goes right where it has the group of the split.

    Attributes
    ----------
    action : int64 (trees,)
        Index of the action to whose log-odds each tree adds.
    split : int64 (trees, INNER)
        Column of the group of each inner node, level by level.
    leaf : float64 (trees, INNER + 1)
    """

    action: NDArray[np.int64]
    split: NDArray[np.int64]
    leaf: Floats

    @classmethod
    def of(cls, model: Any, actions: NDArray[np.int64], count: int) -> Forest:
        """The first `count` rounds of a fitted `GradientBoostingClassifier` with these classes."""
        adds = actions[1:] if len(actions) == 2 else actions
        trees = [_complete(one.tree_) for row in model.estimators_[:count] for one in row]
        splits, leaves = zip(*trees, strict=True)
        return cls(np.tile(adds, count), np.array(splits), model.learning_rate * np.array(leaves))

    @classmethod
    def empty(cls) -> Forest:
        """No trees."""
        return cls(np.zeros(0, np.int64), np.zeros((0, INNER), np.int64), np.zeros((0, INNER + 1)))

    def check(self, groups: int, actions: int) -> None:
        """Raise ValueError where splits, leaves or actions are not of so many groups and actions."""
        n, places = len(self.action), ((self.split, groups), (self.action, actions))
        fit = self.action.shape == (n,) and self.split.shape == (n, INNER) and self.leaf.shape == (n, INNER + 1)
        fit = fit and all(one.dtype == np.int64 and np.isin(one, np.arange(size)).all() for one, size in places)
        if not fit or not np.isfinite(self.leaf).all():
            raise ValueError("its trees do not fit its word groups and actions")

    def add(self, logits: Floats, groups: NDArray[np.bool_]) -> None:
        """Add what the trees say of texts with these groups, bool (n, size), to their logits (n, n_actions)."""
        trees = np.arange(len(self.action))
        for first in range(0, len(groups), TEXTS):
            rows = groups[first : first + TEXTS]
            texts, node = np.arange(len(rows))[:, None], np.zeros((len(rows), len(trees)), np.int64)
            for _ in range(DEPTH):
                node = 2 * node + 1 + rows[texts, self.split[trees, node]]
            leaves = self.leaf[trees, node - INNER]
            for action in np.unique(self.action):
                logits[first : first + TEXTS, action] += leaves[:, self.action == action].sum(axis=1)


def _complete(tree: Any) -> tuple[list[int], list[float]]:
    """Splits and leaves of a tree of scikit-learn with all its branches drawn out to `DEPTH`."""
    level, splits = [0], list[int]()
    for _ in range(DEPTH):
        ends = [tree.children_left[node] < 0 for node in level]
        splits += [0 if end else int(tree.feature[node]) for node, end in zip(level, ends, strict=True)]
        level = [
            node if end else int(child[node])
            for node, end in zip(level, ends, strict=True)
            for child in (tree.children_left, tree.children_right)
        ]
    return splits, [float(tree.value[node, 0, 0]) for node in level]


class TreesDecider(PerBudget):
    """Gradient-boosted trees on the word and role groups of texts that separate decisions in many tasks.

    "The thing is in my hand, and its place is near" takes a combination of groups, which a linear model cannot weigh.
    "I am in the room that the map says" looks the same in all tasks by the roles of the words.
    """

    form: ClassVar[str] = "trees"
    # Kinds of groups that are read; in a record, each has its version.
    readers: ClassVar[tuple[Reader, ...]] = (hashed_words, hashed_roles)
    versions: ClassVar[Mapping[str, int]] = {"groups": GROUPS_VERSION, "roles": ROLES_VERSION}

    def __init__(self, actions: Sequence[str], limits: Sequence[int], groups: NDArray[np.int64]) -> None:
        super().__init__(actions, limits)
        self.read_groups(groups)
        self._forests = [Forest.empty() for _ in self._intercept]

    @classmethod
    def build(
        cls, actions: Sequence[str], limits: Sequence[int], texts: Sequence[str], config: EncoderConfig
    ) -> TreesDecider:
        """Untrained; `choose_features` chooses the groups."""
        return cls(actions, limits, np.zeros(0, np.int64))

    def read_groups(self, groups: NDArray[np.int64], seed: int = 0) -> None:
        """Read these groups of texts, sorted numbers of `groups_of`; the seed is that of trees to come."""
        self._seed = seed
        self.groups, self._column = groups, np.full(len(self.readers) * HASHED, -1)
        self._column[groups] = np.arange(len(groups))

    def choose_features(self, train: Examples, config: EncoderConfig) -> None:
        """The groups that separate the decisions of `train`, and the seed of the trees."""
        assert train.tasks is not None  # `examples` has them
        present = read_all(train.texts, self.readers)
        self.read_groups(informative_groups(present, train.tasks, train.targets.sum(axis=1)), config.seed)

    def features(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which groups each text has, bool (n, groups)."""
        result = np.zeros((len(texts), len(self.groups)), bool)
        read = self.readers[: 1 + int(self.groups.max(initial=0)) // HASHED]
        for row, text in zip(result, texts, strict=True):
            columns = self._column[groups_of(text, read)]
            row[columns[columns >= 0]] = True
        return result

    def fit_point(self, p: int, known: Any, votes: Floats, held_out: Any, checks: Floats) -> float:
        """As of `PerBudget`; the least loss on validation chooses the number of trees."""
        with require_extra("ml", "trees"):
            from sklearn.ensemble import GradientBoostingClassifier
        weight, count = votes.sum(axis=0), TREES
        used = np.flatnonzero(weight)
        self._forests[p], self._intercept[p] = Forest.empty(), 0.0
        if len(used) < 2 or not known.shape[1]:  # no decision here, or only one, or no group that separates texts
            self._intercept[p] = -CERTAIN * (len(used) > 0)
            self._intercept[p, used] = np.log(weight[used] / weight.sum())
            return weighted_loss(self.logits_at(p, held_out), checks)
        rows, decisions = np.nonzero(votes)
        model = GradientBoostingClassifier(
            n_estimators=TREES, max_depth=DEPTH, learning_rate=RATE, subsample=TEXT_SHARE, max_features=GROUP_SHARE,
            min_samples_leaf=min(LEAF, 1 + int(LEAF_SHARE * len(rows))), random_state=self._seed,
        )  # fmt: skip
        model.fit(known[rows], decisions, sample_weight=votes[rows, decisions] / votes[rows, decisions].mean())
        if checks.any():
            stages = model.staged_decision_function(held_out)
            count = 1 + int(np.argmin([weighted_loss(self._logits(raw, used), checks) for raw in stages]))
        self._forests[p] = Forest.of(model, used, count)
        (raw,) = islice(model.staged_decision_function(known[:1]), count - 1, count)
        self._intercept[p] = (self._logits(raw, used) - self.logits_at(p, known[:1]))[0]  # without the trees
        return weighted_loss(self.logits_at(p, held_out), checks)

    def _logits(self, raw: Floats, used: NDArray[np.int64]) -> Floats:
        """Log-odds of all actions from what scikit-learn gives for the classes in use."""
        logits = np.full((len(raw), len(self.actions)), -CERTAIN)
        logits[:, used] = np.column_stack([np.zeros(len(raw)), raw]) if len(used) == 2 else raw
        return logits

    def logits_at(self, p: int, features: Any) -> Floats:
        """Log-odds of the actions at a point of the budget lattice, float64 (n, n_actions)."""
        logits = np.repeat(self._intercept[[p]], len(features), axis=0)
        self._forests[p].add(logits, features)
        return logits

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write groups and trees atomically, nothing pickled."""
        sizes = [len(one.action) for one in self._forests]
        action, split, leaf = (np.concatenate(part) for part in zip(*self._forests, strict=True))
        made: dict[str, Any] = {"groups": self.groups, "intercept": self._intercept, "sizes": np.array(sizes)}
        with write_model_folder(folder, {**record, **self.versions}, card) as new:
            np.savez_compressed(new / WEIGHTS, **made, action=action, split=split, leaf=leaf)

    @classmethod
    def load_saved(
        cls, folder: str | os.PathLike[str], schema: str, device: str
    ) -> tuple[TreesDecider, dict[str, Any]]:
        """Model and record from a folder that `save` wrote.

        Raises
        ------
        ValueError
            The folder is damaged, or of other word groups.
        """
        record, arrays = read_record(folder, schema), read_arrays(Path(folder))
        try:
            # Before roles were read, records had none, and the groups were those of words alone.
            size = HASHED * sum(name in record for name in cls.versions)
            if any(record.pop(name, version) != version for name, version in cls.versions.items()):
                raise ValueError("its word groups are those of another version; train the helper again")
            groups, sizes, intercept = (arrays[name] for name in ("groups", "sizes", "intercept"))
            if groups.dtype != np.int64 or not ((groups >= 0) & (groups < size)).all():
                raise ValueError("its word groups are not numbers of word groups")
            model = cls(record["actions"], record["limits"], groups)
            every = Forest(*(arrays[name] for name in Forest._fields))
            every.check(len(groups), len(model.actions))
            if intercept.shape != model._intercept.shape or not np.isfinite(intercept).all():
                raise ValueError("its intercepts do not fit its record")
            if sizes.shape != intercept.shape[:1] or (sizes < 0).any() or sizes.sum() != len(every.action):
                raise ValueError("its trees are not as many as its budgets have")
            parts = (np.split(one, sizes.cumsum()[:-1]) for one in every)
            model._forests, model._intercept = [Forest(*one) for one in zip(*parts, strict=True)], intercept
        except Exception as error:  # array and key errors of many kinds
            raise ValueError(
                f"{str(folder)!r} cannot be loaded: {WEIGHTS} or its record is damaged: {error}"
            ) from error
        return model, record


class FittedQDecider(TreesDecider):
    """Such trees that also read phrases under no label, and learn labels of `selfreg.helper.fitted_q`."""

    form: ClassVar[str] = "fitted-q"
    readers: ClassVar[tuple[Reader, ...]] = (*TreesDecider.readers, hashed_phrases)
    versions: ClassVar[Mapping[str, int]] = {**TreesDecider.versions, "phrases": PHRASES_VERSION}


def groups_of(text: str, readers: Sequence[Reader] = TreesDecider.readers) -> NDArray[np.int64]:
    """Sorted distinct numbers of the groups in a text: those of the first kind below `HASHED`, and so on."""
    return np.concatenate([read(text, HASHED) + k * HASHED for k, read in enumerate(readers)])


def read_all(texts: Sequence[str], readers: Sequence[Reader] = TreesDecider.readers) -> sp.csr_array:
    """Ones at the groups of each text (`groups_of`), csr (n, kinds * `HASHED`)."""
    return presence([groups_of(text, readers) for text in texts], len(readers) * HASHED)


def informative_groups(
    present: sp.csr_array, tasks: Sequence[list[str]], votes: Floats, least_share: float = TASK_SHARE
) -> NDArray[np.int64]:
    """Numbers of the groups that separate decisions in many tasks, sorted, int64, at most `MOST_GROUPS`.

    A group counts by how far the weight of a decision in its texts is from the mean, in standard errors over tasks. Of
    groups that the same texts have, the first one counts.

    Parameters
    ----------
    present : csr (n, groups)
        Ones at the groups of each text (`read_all`).
    tasks : sequence of list of str, length n
        Those that have the text; its weight is divided among them.
    votes : float64 (n, n_actions)
        Weights of their decisions, over all budgets.
    least_share : float
        Share of the tasks in which a group must be.
    """
    columns, each = present.tocsc(), [len(one) for one in tasks]
    member = np.unique([task for one in tasks for task in one], return_inverse=True)[1]
    share = sp.csr_array((np.repeat(1 / np.array(each), each), (member, np.repeat(np.arange(len(tasks)), each))))
    in_tasks, count = np.diff((share @ columns).tocsc().indptr), np.diff(columns.indptr)
    candidates = np.flatnonzero((in_tasks >= max(2, least_share * share.shape[0])) & (count < len(tasks)))
    columns, certainty = columns[:, candidates], np.zeros(len(candidates))
    weight = votes.sum(axis=1)
    for excess in (votes[:, 1:] - weight[:, None] * votes[:, 1:].sum(axis=0) / weight.sum()).T:
        sums = share @ sp.diags_array(excess) @ columns
        spread = np.sqrt(np.asarray((sums * sums).sum(axis=0)).ravel())
        certainty = np.maximum(certainty, np.abs(np.asarray(sums.sum(axis=0)).ravel()) / np.maximum(spread, 1e-300))
    chosen: dict[bytes, int] = {}
    for column in np.argsort(-certainty, kind="stable").tolist():
        if len(chosen) == MOST_GROUPS:
            break
        rows = columns.indices[columns.indptr[column] : columns.indptr[column + 1]]
        chosen.setdefault(rows.tobytes(), int(candidates[column]))
    return np.sort(np.array([*chosen.values()], dtype=np.int64))
