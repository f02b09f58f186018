"""A few rules that a person can print and follow, learned from the plan's labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import Step
from selfreg.decisions import BudgetLeft, Decision
from selfreg.helper.labels import Labels

Floats = npt.NDArray[np.float64]

MOST_RULES, MOST_WORDS = 5, 100
# A rule must hold at this many steps, of this many tasks, and add this share of all that requests could add.
LEAST_STEPS, LEAST_TASKS, LEAST_SHARE = 10, 3, 0.03
# Shares of the steps between which a word tells something.
COMMON = (0.02, 0.98)
TIMES, STEPS = (1, 2, 3), (1, 2, 3, 4, 6, 8, 12)
WORD = re.compile(r"[^\W\d_]{3,}")
ORDINALS = {2: "second", 3: "third"}


class Rule(NamedTuple):
    """Request `help` where all conditions hold.

    Attributes
    ----------
    help : str
    word : str
        In the text of the state; "" for any text.
    times : int
        It is at least the n-th state of the episode with the word.
    step : int
        From this step on, counted from 1.
    left : int
        Units of budget that are left at least.
    unit : str
        What a unit is called: "request" where each request takes one.
    """

    help: str
    word: str = ""
    times: int = 1
    step: int = 1
    left: int = 1
    unit: str = "request"

    def __str__(self) -> str:
        parts = [f"Request {self.help}"]
        if self.word:
            parts.append(f'when the state says "{self.word}"')
            if self.times > 1:
                parts.append(f"for the {ORDINALS[self.times]} time or more")
        if self.step > 1:
            parts.append(f"from step {self.step} on")
        if not self.word and self.step == 1:
            parts.append("at every step")
        unit = f"{self.unit} is" if self.left == 1 else f"{self.unit}s are"
        return f"{' '.join(parts)}, while at least {self.left} {unit} left."

    def holds(self, seen: Sequence[frozenset[str]]) -> bool:
        """Whether the conditions hold, given the words of the states so far; the budget aside."""
        if len(seen) < self.step:
            return False
        return not self.word or (self.word in seen[-1] and sum(self.word in one for one in seen) >= self.times)


@dataclass(frozen=True)
class RuleList:
    """Requests the help of the first rule that holds.

    Parameters
    ----------
    rules : tuple of Rule

    Examples
    --------
    >>> from selfreg.data import Step
    >>> from selfreg.helper.rule_list import Rule, RuleList
    >>> rules = RuleList((Rule("person", "error", times=2),))
    >>> print(rules.rules[0])
    Request person when the state says "error" for the second time or more, while at least 1 request is left.
    >>> [rules.decide([Step("Error")] * n, (1,)).action for n in (1, 2)]
    ['nohelp', 'person']
    """

    rules: tuple[Rule, ...]
    name: str = "rules"

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The help of the first rule that holds and whose budget is left."""
        left = None if budget_left is None else min(budget_left)
        seen = [_words(step.state) for step in steps]
        for rule in self.rules:
            if (left is None or left >= rule.left) and rule.holds(seen):
                return Decision(rule.help, budget_left=budget_left)
        return Decision(budget_left=budget_left)


@lru_cache(maxsize=10_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in WORD.findall(text))


def learn_rules(labels: Labels, most: int = MOST_RULES) -> RuleList:
    """Rules that gain most by the labels, one after the other, each where no earlier one holds.

    The gain of a rule is the sum of the advantages of its help over going alone, over all steps and budgets where it
    holds. A request that harms counts against it.

    Parameters
    ----------
    labels : Labels
        Of one budget.
    most : int
        Largest number of rules.

    Raises
    ------
    ValueError
        If the labels are of several budgets.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> from selfreg.helper import label
    >>> from selfreg.helper.rule_list import learn_rules
    >>> logs = [Trajectory(f"{i}", f"{i}{help}", float(bool(help)), (Step("an error", intervention=help),))
    ...         for i in range(9) for help in (None, "person")]
    >>> model = estimate_mdp(logs, Features(["step"]))
    >>> print(*learn_rules(label(logs, model, selfreg.solve(model.mdp, 1))).rules)
    Request person at every step, while at least 1 request is left.
    """
    if labels.budgets.shape[1] != 1:
        raise ValueError(f"the labels are of {labels.budgets.shape[1]} budgets; expected one")
    gains = np.nan_to_num(labels.q[..., 1:] - labels.q[..., :1])[:, 1:]  # steps, budgets from 1 on, help types
    conditions, masks = _conditions(labels)
    tasks = np.unique(labels.tasks, return_inverse=True)[1]
    costs = [labels.model.mdp.costs[name][0] for name in labels.actions[1:]]
    unit = "request" if set(costs) == {1} else "unit"
    supported = _supported(masks, tasks)
    possible = float(gains.max(axis=2, initial=0.0).clip(0).sum())
    rules: list[Rule] = []
    while len(rules) < most and supported.any() and gains.size:
        from_left = np.cumsum(gains[:, ::-1], axis=1)[:, ::-1]  # the sum over this budget and all larger ones
        scores = (masks @ from_left.reshape(len(gains), -1)).reshape(len(conditions), *gains.shape[1:])
        scores[~supported] = -np.inf
        best = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[best] <= LEAST_SHARE * possible or scores[best] <= 0:
            break
        which, left, kind = (int(i) for i in best)
        word, times, step = conditions[which]
        rules.append(Rule(labels.actions[1 + kind], word, times, step, max(left + 1, costs[kind]), unit))
        gains[masks.indices[masks.indptr[which] : masks.indptr[which + 1]], left:] = 0.0
    return RuleList(tuple(rules))


def _conditions(labels: Labels) -> tuple[list[tuple[str, int, int]], sp.csr_array]:
    """Word, times and step of every condition, simple ones first, and ones where it holds, csr (conditions, steps)."""
    number, lengths = labels.step + 1, [len(one.steps) for one in labels.trajectories]
    texts = dict[str, int]()
    text = np.array([texts.setdefault(step.state, len(texts)) for one in labels.trajectories for step in one.steps])
    words = [_words(one) for one in texts]
    first = np.cumsum([0, *lengths[:-1]])
    begin, place = np.repeat(first, lengths), first[labels.episode] + labels.step
    counts = Counter[str]()
    for some, n in zip(words, np.bincount(text[place], minlength=len(words)).tolist(), strict=True):
        counts.update(dict.fromkeys(some, n))
    low, high = (share * len(place) for share in COMMON)
    common = sorted((word for word, n in counts.items() if low <= n <= high), key=lambda word: (-counts[word], word))
    found = {("", 1, k): np.flatnonzero(number >= k) for k in STEPS}
    for word in common[:MOST_WORDS]:
        here = np.array([word in some for some in words])[text]
        seen = np.cumsum(here)
        times = (seen - (seen - here)[begin])[place]
        rows = np.flatnonzero(here[place])
        for n in TIMES:
            for k in STEPS[:3]:
                found[word, n, k] = rows[(times[rows] >= n) & (number[rows] >= k)]
    ends = np.cumsum([0, *map(len, found.values())])
    holds = (np.ones(ends[-1]), np.concatenate([*found.values()]), ends)
    return list(found), sp.csr_array(holds, shape=(len(found), len(place)))


def _supported(masks: sp.csr_array, tasks: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Whether each condition holds at enough steps of enough tasks, bool (conditions,)."""
    held = np.split(masks.indices, masks.indptr[1:-1])
    return np.array([len(rows) >= LEAST_STEPS and np.unique(tasks[rows]).size >= LEAST_TASKS for rows in held])
