"""The helper at run time: state and remaining budget in, a decision out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfreg.data import NOHELP, Step, state_text
from selfreg.ledger import Ledger
from selfreg.prm.classifier import TextClassifier
from selfreg.prm.prm import PRM

SCHEMA = "selfreg.helper/1"


@dataclass(frozen=True)
class Decision:
    """What to do in a state, and why.

    Attributes
    ----------
    action : str
        "nohelp", or the help type to call.
    request_probability : float
        P(any help that can be paid), by the helper.
    success_probability : dict of str to float
        P(success) of the actions for which it is known: of "nohelp" where a PRM is attached.
    budget_left : tuple of int
        Before this decision is paid.
    reason : str
        In words.
    """

    action: str
    request_probability: float
    success_probability: dict[str, float]
    budget_left: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Helper:
    """Decides whether to ask for help. Made by `train_helper` or `load`.

    Attributes
    ----------
    classifier : TextClassifier
        One logit an action.
    actions : tuple of str
        "nohelp" first, then the help types.
    costs : dict of str to tuple of int
        Of each help type, in units of each budget.
    limits : tuple of int
        Largest budgets seen in training: more than that is read as that.
    history : int
        Earlier steps that `decide` shows to the classifier.
    figures : dict of str to float
        Of training and of held-out test tasks: see `train_helper`.
    split : dict of str to list of str
        The tasks of `train`, `validation` and `test`.
    prm : PRM or None
        Gives P(success | nohelp) to decisions; not saved with the helper.

    Raises
    ------
    ValueError
        The costs do not fit the actions and budgets.
    """

    classifier: TextClassifier
    actions: tuple[str, ...]
    costs: dict[str, tuple[int, ...]]
    limits: tuple[int, ...]
    history: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)
    prm: PRM | None = None

    def __post_init__(self) -> None:
        check_costs(self.actions, self.costs, len(self.limits))

    def decide(self, history: Sequence[Step | str], ledger: Ledger) -> Decision:
        """Decide for the last state of `history`; the ledger is read and not charged.

        The most probable action that can be paid, ties to "nohelp".

        Parameters
        ----------
        history : sequence of Step or str
            The episode so far; a str is a state.
        ledger : Ledger
            With as many budgets as the helper was trained for.

        Raises
        ------
        TypeError
            `history` is one str and no sequence.
        ValueError
            `history` is empty, or the ledger has another number of budgets.
        """
        if isinstance(history, str):
            raise TypeError("history is a str; expected a sequence of states or steps")
        if not history:
            raise ValueError("history is empty; expected at least the current state")
        steps, left = [Step(state=s) if isinstance(s, str) else s for s in history], ledger.left
        probability = self.request_probabilities([state_text(steps, self.history)], [left])[0]
        action = self.actions[int(np.argmax(probability))]
        success = {} if self.prm is None else {NOHELP: float(self.prm.score([self.prm.text(steps)])[0])}
        request = float(probability[1:].sum())
        return Decision(action, request, success, left, self._reason(action, request, left))

    def request_probabilities(self, texts: Sequence[str], budgets: ArrayLike) -> NDArray[np.float64]:
        """P(action) in many states: 0 for help that the budget cannot pay, the rest sums to 1.

        Parameters
        ----------
        texts : sequence of str, length n
            State texts, without the budget.
        budgets : array_like of int, shape (n, m)
            What is left of each of the m budgets.

        Returns
        -------
        ndarray of float64, shape (n, n_actions)

        Raises
        ------
        ValueError
            `budgets` has another shape.
        """
        left = np.asarray(budgets).reshape(-1, len(self.limits)) if not len(texts) else np.asarray(budgets)
        if left.shape != (len(texts), len(self.limits)):
            raise ValueError(f"budgets have shape {left.shape}; expected {(len(texts), len(self.limits))}")
        logits = self.classifier.logits(texts, budget_prefixes(np.minimum(left, self.limits)))
        logits[~affordable(self.actions, self.costs, left)] = -np.inf
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a standard transformers folder with selfreg.json, whole or not at all; without the PRM."""
        record = {"schema": SCHEMA, "actions": self.actions, "costs": self.costs, "limits": self.limits}
        rest = {"history": self.history, "figures": self.figures, "split": self.split}
        self.classifier.save(folder, record | rest)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], prm: PRM | None = None, device: str = "cpu") -> Helper:
        """Helper from a folder that `save` wrote, with `prm` attached.

        Raises
        ------
        ValueError
            `folder` holds no helper.
        """
        classifier, record = TextClassifier.load(folder, SCHEMA, device)
        costs = {action: tuple(cost) for action, cost in record["costs"].items()}
        limits, actions = tuple(record["limits"]), tuple(record["actions"])
        return cls(classifier, actions, costs, limits, record["history"], record["figures"], record["split"], prm)

    def with_prm(self, prm: PRM) -> Helper:
        """The same helper with `prm` attached."""
        return replace(self, prm=prm)

    def _reason(self, action: str, request: float, left: tuple[int, ...]) -> str:
        shown = " ".join(map(str, left))
        paid = affordable(self.actions, self.costs, np.array([left]))[0]
        dear = [
            f"{a} (cost {' '.join(map(str, self.costs[a]))})"
            for a, can in zip(self.actions, paid, strict=True)
            if not can
        ]
        if len(dear) == len(self.actions) - 1:
            return f"{action}: budget {shown} cannot pay for {', '.join(dear)}"
        reason = f"{action}: P(request) {request:.2f} with budget {shown}"
        return f"{reason}, which cannot pay for {', '.join(dear)}" if dear else reason


def budget_prefixes(budgets: NDArray[np.int64]) -> list[str]:
    """First part of the model's input: ``budget 2 |``, one number for each budget."""
    return [f"budget {' '.join(map(str, row))} |" for row in budgets.tolist()]


def affordable(
    actions: Sequence[str], costs: Mapping[str, Sequence[int]], budgets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether budgets (n, m) can pay for each action, bool (n, n_actions)."""
    charges = np.array([[0] * budgets.shape[1], *(costs[action] for action in actions[1:])])
    return np.asarray((charges[None] <= budgets[:, None]).all(axis=2))


def check_costs(actions: Sequence[str], costs: Mapping[str, Sequence[int]], n_budgets: int) -> None:
    """Raise ValueError unless there is a cost for every help type, with an entry for every budget."""
    if not actions or actions[0] != NOHELP or len(set(actions)) < len(actions) or len(actions) < 2:
        raise ValueError(f"actions are {tuple(actions)}; expected {NOHELP!r} and then distinct help types")
    if set(costs) != set(actions[1:]):
        raise ValueError(f"costs are given for {sorted(costs)}; expected {sorted(actions[1:])}")
    for action, cost in costs.items():
        if len(cost) != n_budgets or min(cost) < 0:
            raise ValueError(f"cost of {action!r} is {tuple(cost)}; expected {n_budgets} nonnegative entries")
