"""Train a helper on the planner's decisions: state text and remaining budget in, P(action) out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfreg.helper.runtime import Helper, affordable, budget_prefixes, check_costs
from selfreg.ledger import units
from selfreg.prm.classifier import Examples, TextClassifier, split_tasks
from selfreg.prm.encoder import EncoderConfig


@dataclass(frozen=True)
class HelperConfig(EncoderConfig):
    """How to train a helper: every setting is the encoder's."""


@dataclass(frozen=True)
class HelperExamples:
    """Optimal decisions to imitate: one entry for each labelled step and budget.

    Attributes
    ----------
    texts : list of str, length N
        State texts, without the budget.
    budgets : ndarray of int64, shape (N, m)
        What is left of each budget.
    decisions : ndarray of int64, shape (N,)
        Index into `actions`.
    weights : ndarray of float64, shape (N,)
        How much the decision matters: |advantage| times visits. Entries of weight 0 teach nothing.
    tasks : list of str, length N
    actions : tuple of str
        "nohelp" first, then the help types.

    Raises
    ------
    TypeError
        Budgets or decisions are not of an integer type.
    ValueError
        Naming the field, and the first entry, that is wrong.
    """

    texts: list[str]
    budgets: NDArray[np.int64]
    decisions: NDArray[np.int64]
    weights: NDArray[np.float64]
    tasks: list[str]
    actions: tuple[str, ...]

    def __post_init__(self) -> None:
        n, m = len(self.texts), self.budgets.shape[1] if self.budgets.ndim == 2 else 0
        if not n or not m or self.budgets.shape != (n, m):
            raise ValueError(f"budgets have shape {self.budgets.shape}; expected ({n}, m), nothing empty")
        for name in ("decisions", "weights"):
            if getattr(self, name).shape != (n,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; expected {(n,)}")
        if len(self.tasks) != n:
            raise ValueError(f"there are {len(self.tasks)} tasks; expected {n}, one for each text")
        for name in ("budgets", "decisions"):
            if getattr(self, name).dtype.kind not in "iu":
                raise TypeError(f"{name} have dtype {getattr(self, name).dtype}; expected whole numbers")
        _check_entries("budgets", self.budgets.min(axis=1), 0, np.inf)
        _check_entries("decisions", self.decisions, 0, len(self.actions) - 1)
        _check_entries("weights", self.weights, 0, np.finfo(np.float64).max)

    def of(self, tasks: Sequence[str]) -> HelperExamples:
        """The examples of some tasks."""
        wanted = set(tasks)
        i = np.flatnonzero([task in wanted for task in self.tasks])
        texts, names = [self.texts[k] for k in i], [self.tasks[k] for k in i]
        return HelperExamples(texts, self.budgets[i], self.decisions[i], self.weights[i], names, self.actions)

    def merged(self) -> Examples:
        """Distinct pairs of text and budget, decisions by weight; entries of weight 0 only if there are no others."""
        used = np.flatnonzero(self.weights) if self.weights.any() else np.arange(len(self.texts))
        weights = self.weights[used] if self.weights.any() else np.ones(len(used))
        pairs = list(zip((self.texts[i] for i in used), budget_prefixes(self.budgets[used]), strict=True))
        place = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
        votes = np.zeros((len(place), len(self.actions)))
        rows = np.array([place[pair] for pair in pairs])
        np.add.at(votes, (rows, self.decisions[used]), weights)
        total = votes.sum(axis=1)
        return Examples([text for text, _ in place], votes / total[:, None], total, [prefix for _, prefix in place])


def train_helper(
    examples: HelperExamples,
    config: HelperConfig | None = None,
    *,
    costs: Mapping[str, int | Sequence[int]] | None = None,
) -> Helper:
    """Train one helper for every budget of the lattice.

    Parameters
    ----------
    examples : HelperExamples
    config : HelperConfig, optional
    costs : mapping of str to int or sequence of int, optional
        Of each help type, in units of each budget; 1 each where there is one budget and this is left out.

    Returns
    -------
    Helper
        Its `figures` on held-out test tasks: `agreement` with the optimal decisions, `agreement_weighted` by how much
        they matter, the same for always taking the training majority (`majority`, `majority_weighted`);
        `constant_decision` is 1 where every decision was the same, so that nothing could be learnt; `epochs`,
        `validation_loss`, and the number of examples.

    Raises
    ------
    ValueError
        Costs do not fit, a decision could not be paid, there are fewer than 3 tasks, or training diverges.
    """
    config, m = config or HelperConfig(), examples.budgets.shape[1]
    charges = _charges(examples.actions, costs, m)
    paid = affordable(examples.actions, charges, examples.budgets)[np.arange(len(examples.texts)), examples.decisions]
    if not paid.all():
        i = int(np.argmin(paid))
        action, budget = examples.actions[examples.decisions[i]], examples.budgets[i].tolist()
        raise ValueError(f"decisions[{i}] is {action!r} at cost {charges[action]}, over its budget {budget}")
    split = split_tasks(examples.tasks, config)
    train, validation, test = (examples.of(split[name]) for name in ("train", "validation", "test"))
    merged = train.merged()
    classifier = TextClassifier.create(examples.actions, [*merged.texts, *set(merged.prefixes or ())], config)
    figures = classifier.fit(merged, validation.merged(), config, "training the helper")
    limits = tuple(int(top) for top in examples.budgets.max(axis=0))
    helper = Helper(classifier, examples.actions, charges, limits, config.history, figures, split)
    figures |= {"train_examples": float(len(merged.texts)), "test_examples": float(len(test.texts))}
    figures |= _agreement(helper, train, test) | {"constant_decision": float(np.ptp(examples.decisions) == 0)}
    return helper


def _agreement(helper: Helper, train: HelperExamples, test: HelperExamples) -> dict[str, float]:
    """How often held-out decisions are met, each counted once and by its weight (if any has one)."""
    pairs = list(zip(test.texts, map(tuple, test.budgets.tolist()), strict=True))
    distinct = list(dict.fromkeys(pairs))
    chosen = helper.request_probabilities([t for t, _ in distinct], [b for _, b in distinct]).argmax(axis=1)
    known = dict(zip(distinct, chosen, strict=True))
    hit = test.decisions == np.array([known[pair] for pair in pairs])
    figures = {}
    for name, train_weights, weights in (
        ("", np.ones(len(train.texts)), np.ones(len(test.texts))),
        ("_weighted", train.weights, test.weights),
    ):
        if weights.any():
            majority = np.bincount(train.decisions, train_weights).argmax()
            figures[f"agreement{name}"] = float(np.average(hit, weights=weights))
            figures[f"majority{name}"] = float(np.average(test.decisions == majority, weights=weights))
    return figures


def _charges(
    actions: Sequence[str], costs: Mapping[str, int | Sequence[int]] | None, n_budgets: int
) -> dict[str, tuple[int, ...]]:
    if costs is None:
        if n_budgets != 1:
            raise ValueError(f"costs are needed where there are {n_budgets} budgets")
        costs = dict.fromkeys(actions[1:], 1)
    charges = {action: units(cost, f"cost of {action!r}") for action, cost in costs.items()}
    check_costs(actions, charges, n_budgets)
    return charges


def _check_entries(name: str, values: NDArray[np.int64] | NDArray[np.float64], low: float, high: float) -> None:
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"{name}[{i}] is {values[i]}; expected a number from {low:g} to {high:g}")
