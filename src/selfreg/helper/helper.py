"""The helper at run time: decides from the state's text and the budget left."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfreg._util.bootstrap import as_texts
from selfreg._util.files import atomic_folder
from selfreg.data import NOHELP, Step, state_text
from selfreg.decisions import BudgetLeft, Decision
from selfreg.helper.memory import Memory
from selfreg.helper.models import KNOWN, RULES
from selfreg.helper.models.transformer import FEATURES, DecisionModel
from selfreg.helper.reasons import make_decision, mask_affordable, recall
from selfreg.prm.prm import PRM
from selfreg.prm.transformer import RECORD, read_record

SCHEMA = "selfreg.helper/1"


@dataclass(frozen=True)
class Helper:
    """Decides whether to request help; a `DecisionPolicy`. Create with `train_helper` or `load`.

    Attributes
    ----------
    classifier : DecisionModel
        Gives log-odds of the actions.
    actions : tuple of str
        "nohelp" first, then the help types.
    costs : dict of str to tuple of int
        Of each help type, in units of each budget.
    limits : tuple of int
        Largest budgets of the training; larger ones are treated as these.
    history : int
        Earlier steps that `decide` shows to the classifier.
    figures : dict of str to float
        Of training and of held-out test tasks: see `train_helper`.
    split : dict of str to list of str
        The tasks of `train`, `validation` and `test`.
    thresholds : tuple of float or None
        For each point of the budget lattice, in C order: help is requested where P(request) is above it. None: the most
        probable action. See `calibrate`.
    memory : Memory or None
        Logged states, for reasons.
    prm : PRM or None
        Gives P(success | nohelp) to decisions; not saved with the helper.

    Raises
    ------
    ValueError
        The costs do not fit the actions and budgets, or the thresholds the lattice.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> from selfreg.helper import HelperConfig, label, train_helper
    >>> rows = [("red", None, 0.0), ("red", "help", 1.0), ("green", None, 1.0), ("green", "help", 0.0)]
    >>> logs = [
    ...     Trajectory(f"task {i}", f"{i}/{k}", won, (Step(f"{light} light", intervention=who),))
    ...     for i in range(12)
    ...     for k, (light, who, won) in enumerate(rows)
    ... ]
    >>> model = estimate_mdp(logs, Features(["class"], {"red": "red", "green": "green"}))
    >>> labels = label(logs, model, selfreg.solve(model.mdp, 1))
    >>> helper = train_helper(labels, HelperConfig(form="tfidf"))
    >>> ledger = selfreg.Ledger(1)
    >>> decision = helper.decide(["red light"], ledger.left)
    >>> decision.action, decision.success_probability["help"] - decision.success_probability["nohelp"] > 0.5
    ('help', True)
    >>> ledger.charge("run 1", "step 1", helper.costs["help"])
    True
    >>> helper.decide(["red light"], ledger.left).reason.split(".")[0]
    'nohelp: budget 0 cannot pay for help (cost 1)'
    """

    classifier: DecisionModel
    actions: tuple[str, ...]
    costs: dict[str, tuple[int, ...]]
    limits: tuple[int, ...]
    history: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None
    memory: Memory | None = field(default=None, compare=False, repr=False)
    prm: PRM | None = None
    name: ClassVar[str] = "helper"

    def __post_init__(self) -> None:
        check_costs(self.actions, self.costs, len(self.limits))
        points = int(np.prod([top + 1 for top in self.limits]))
        if self.thresholds is not None and len(self.thresholds) != points:
            raise ValueError(f"there are {len(self.thresholds)} thresholds; expected one for each of {points} budgets")

    def decide(self, steps: Sequence[Step | str], budget_left: BudgetLeft) -> Decision:
        """Decide for the last state of `steps`.

        The most probable action that the budget can pay for, ties to "nohelp"; with `thresholds`, the most probable
        help type where P(request) is above the threshold of the budget left.

        Parameters
        ----------
        steps : sequence of Step or str
            The episode so far; a str is a state.
        budget_left : tuple of int, or None
            Units left of each budget, such as `ledger.left`. None (no limit) and budgets above those of the
            training are treated as the largest budget of the training.

        Raises
        ------
        TypeError
            `steps` is a str, or has an element other than Step and str; `budget_left` is not a tuple of int.
        ValueError
            `steps` is empty, or `budget_left` has another number of budgets or a negative number.
        """
        return self.decide_batch([steps], [budget_left])[0]

    def decide_batch(
        self, histories: Sequence[Sequence[Step | str]], budgets_left: Sequence[BudgetLeft]
    ) -> list[Decision]:
        """Decide in many states, in one pass of the classifier; arguments and errors as for `decide`."""
        if len(histories) != len(budgets_left):
            raise ValueError(f"there are {len(histories)} histories and {len(budgets_left)} budgets; expected as many")
        if not len(histories):
            return []
        episodes = [_steps(history) for history in histories]
        texts = [self.classifier.read(steps, self.history) for steps in episodes]
        budgets = self._budgets(texts, [self._left(left) for left in budgets_left])
        probability = self.request_probabilities(texts, budgets)
        actions = [self.actions[int(a)] for a in self._choose(probability, budgets)]
        requests = probability[:, 1:].sum(axis=1)
        rule = self.memory is not None and self.classifier.form in RULES  # which does not read the state
        shown = [state_text(steps, self.history) for steps in episodes] if rule else texts
        recalled = recall(self, shown, budgets)
        if self.prm is not None:
            recalled = [
                one if one.success else one._replace(success=self._score_by_prm(steps))
                for one, steps in zip(recalled, episodes, strict=True)
            ]
        rows = zip(actions, requests.tolist(), budgets, budgets_left, recalled, strict=True)
        return [make_decision(self, *row) for row in rows]

    def _score_by_prm(self, steps: Sequence[Step]) -> dict[str, float]:
        return {} if self.prm is None else {NOHELP: float(self.prm.score([self.prm.text(steps)])[0])}

    def _left(self, budget_left: BudgetLeft) -> tuple[int, ...]:
        """Budget left as numbers."""
        if budget_left is None:
            return self.limits
        if not isinstance(budget_left, tuple):
            raise TypeError(f"budget_left is {budget_left!r}; expected a tuple of int such as ledger.left, or None")
        if len(budget_left) != len(self.limits):
            raise ValueError(f"budget_left is {budget_left}; expected {len(self.limits)} number(s)")
        return budget_left

    def request_probabilities(self, texts: Sequence[str], budgets: ArrayLike) -> NDArray[np.float64]:
        """P(action) in many states: 0 for help that the budget cannot pay for; rows sum to 1.

        Parameters
        ----------
        texts : sequence of str, length n
            State texts, without the budget.
        budgets : array_like of int, shape (n, m)
            Units left of each of the m budgets.

        Returns
        -------
        ndarray of float64, shape (n, n_actions)

        Raises
        ------
        TypeError
            `budgets` has an entry that is not a whole number.
        ValueError
            `budgets` has another shape, or a negative entry.
        """
        left = self._budgets(texts, budgets)
        if not len(texts):
            return np.empty((0, len(self.actions)))
        payable = mask_affordable(self.actions, self.costs, left)
        if not payable[:, 1:].any():
            return payable.astype(np.float64)
        return normalize_odds(self.classifier.decision_logits(texts, np.minimum(left, self.limits)), payable)

    def action_chances(self, steps: Sequence[Step | str], budget_left: BudgetLeft) -> NDArray[np.float64]:
        """P(action) for the last state of `steps`, float64 (n_actions,); arguments and errors as for `decide`."""
        text = self.classifier.read(_steps(steps), self.history)
        left = self._budgets([text], [self._left(budget_left)])
        return np.asarray(self.request_probabilities([text], left)[0])

    def choices(self, texts: Sequence[str], budgets: ArrayLike) -> NDArray[np.int64]:
        """Index of the action that `decide` takes in each of many states, int64 (n,); arguments as above."""
        return self._choose(self.request_probabilities(texts, budgets), self._budgets(texts, budgets))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a standard transformers folder with selfreg.json and memory, atomically; without the PRM.

        Raises
        ------
        FileExistsError
            `folder` exists and was not saved by selfreg.
        OSError
            The disk is full; `folder` is unchanged.
        """
        with atomic_folder(folder, RECORD, overwrite=True) as new:
            self.write_into(new)

    def write_into(self, new: Path) -> None:
        """Write what `save` writes into a new folder."""
        record = {"schema": SCHEMA, "form": self.classifier.form, "actions": self.actions, "costs": self.costs}
        rest = {"history": self.history, "figures": self.figures, "split": self.split, "thresholds": self.thresholds}
        self.classifier.save(new, record | {"limits": self.limits} | rest, self._card())
        if self.memory is not None:
            self.memory.save(new)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], prm: PRM | None = None, device: str = "cpu") -> Helper:
        """Helper from a folder that `save` wrote, with `prm` attached.

        Raises
        ------
        ValueError
            `folder` is not a saved helper, or is damaged.
        """
        form = read_record(folder, SCHEMA).get("form", FEATURES)
        if form not in KNOWN:
            raise ValueError(f"{str(folder)!r} has helper form {form!r}; expected one of {', '.join(KNOWN)}")
        try:
            model, record = KNOWN[form].load_saved(folder, SCHEMA, device)
            costs = {action: tuple(cost) for action, cost in record["costs"].items()}
            known = {name: record[name] for name in ("history", "figures", "split")}
        except KeyError as error:
            raise ValueError(f"{str(folder)!r} is damaged: its {RECORD} is missing {error}") from None
        thresholds = record.get("thresholds")
        known["thresholds"] = None if thresholds is None else tuple(thresholds)
        return cls(model, model.actions, costs, model.limits, **known, memory=Memory.load(Path(folder)), prm=prm)

    def with_prm(self, prm: PRM) -> Helper:
        """The same helper with `prm` attached."""
        return replace(self, prm=prm)

    def without_memory(self) -> Helper:
        """The same helper without the logged states: decisions without neighbours and values, in less time."""
        return replace(self, memory=None)

    def _card(self) -> str:
        costs = ", ".join(f"{name} (cost {' '.join(map(str, cost))})" for name, cost in self.costs.items())
        tasks = ", ".join(f"{len(names)} for {part}" for part, names in self.split.items())
        figures = "\n".join(f"| {name} | {text} |" for name, text in as_texts(self.figures).items())
        return (
            "---\nlibrary_name: transformers\ntags: [selfreg]\n---\n"
            f"# Helper\n\nDecides when an agent requests {costs}, with budgets up to "
            f"{' '.join(map(str, self.limits))}; form: {self.classifier.form}. Load it with "
            f"`selfreg.Helper.load(folder)`.\n\nTasks: {tasks}. Figures are those of `selfreg.helper.train_helper`, "
            f"on test tasks.\n\n| figure | value |\n| --- | --- |\n{figures}\n"
        )

    def _budgets(self, texts: Sequence[str], budgets: ArrayLike) -> NDArray[np.int64]:
        """Budgets as int64; what is above all limits and costs becomes the largest of these, which decides the same."""
        left = budgets if isinstance(budgets, np.ndarray) else np.asarray(budgets, dtype=object)
        if not len(texts):
            left = left.reshape(-1, len(self.limits))
        if left.shape != (len(texts), len(self.limits)):
            raise ValueError(f"budgets have shape {left.shape}; expected {(len(texts), len(self.limits))}")
        if left.dtype.kind not in "iu":
            whole = [_whole(entry) for entry in left.flat]
            left = np.array(whole, dtype=object if whole else np.int64).reshape(left.shape)
        if left.size and left.min() < 0:
            raise ValueError(f"budgets contain {left.min()}; expected no negative number")
        most = np.max([self.limits, *self.costs.values()], axis=0)
        return np.asarray(np.minimum(left, most.astype(np.uint64) if left.dtype == np.uint64 else most), dtype=np.int64)

    def points(self, left: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of budgets (n, m) in the lattice."""
        shape = tuple(top + 1 for top in self.limits)
        return np.asarray(np.ravel_multi_index(tuple(np.minimum(left, self.limits).T), shape))

    def _choose(self, probability: NDArray[np.float64], left: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.thresholds is None:
            return np.asarray(probability.argmax(axis=1))
        requests = probability[:, 1:].sum(axis=1) > np.array(self.thresholds)[self.points(left)]
        # help that the budget cannot pay for has probability 0
        requests &= (probability[:, 1:] > 0).any(axis=1)
        return np.asarray(np.where(requests, probability[:, 1:].argmax(axis=1) + 1, 0))


def _steps(history: Sequence[Step | str]) -> list[Step]:
    if isinstance(history, str):
        raise TypeError("steps is a str; expected a sequence of states or steps")
    if not len(history):
        raise ValueError("steps is empty; expected at least the current state")
    if set(map(type, history)) == {Step}:  # a long history in a fraction of the time
        return cast("list[Step]", list(history))
    for i, one in enumerate(history):
        if not isinstance(one, Step | str):
            raise TypeError(f"steps[{i}] is {one!r}; expected a Step or a str")
    return [Step(state=one) if isinstance(one, str) else one for one in history]


def normalize_odds(logits: NDArray[np.float64], payable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """P(action) from log-odds (n, n_actions): 0 where an action is not payable; rows sum to 1."""
    logits = np.where(payable, logits, -np.inf)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _whole(entry: Any) -> int:
    try:
        if isinstance(entry, bool | np.bool_):
            raise TypeError
        return operator.index(entry)
    except TypeError:
        raise TypeError(f"budgets contain {entry!r}; expected whole numbers") from None


def check_costs(actions: Sequence[str], costs: Mapping[str, Sequence[int]], n_budgets: int) -> None:
    """Raise ValueError unless there is a cost for every help type, with an entry for every budget."""
    if not actions or actions[0] != NOHELP or len(set(actions)) < len(actions) or len(actions) < 2:
        raise ValueError(f"actions are {tuple(actions)}; expected {NOHELP!r} and then distinct help types")
    if set(costs) != set(actions[1:]):
        raise ValueError(f"costs are given for {sorted(costs)}; expected {sorted(actions[1:])}")
    for action, cost in costs.items():
        if len(cost) != n_budgets or min(cost) < 0:
            raise ValueError(f"cost of {action!r} is {tuple(cost)}; expected {n_budgets} nonnegative entries")
