"""Rules of thumb behind the interface of a helper's model: they are deployed where nothing learnt is better.

A rule reads the number of the decision, or the PRM's text, in place of the state (`read`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from selfreg.data import Step
from selfreg.decisions import spread_requests
from selfreg.helper.models.transformer import deduplicate
from selfreg.prm.prm import PRM
from selfreg.prm.transformer import read_record, write_model_folder

Floats = NDArray[np.float64]

# Log-odds of what a rule does not decide.
NEVER = -50.0
PRM_FOLDER = "prm"


class RuleDecider:
    """Requests one type of help where a condition holds."""

    form: ClassVar[str]

    def __init__(
        self, actions: Sequence[str], limits: Sequence[int], help: str, cost: Sequence[int], settings: Mapping[str, Any]
    ) -> None:
        self.actions, self.limits = tuple(actions), tuple(limits)
        self.help, self.cost, self.settings = help, tuple(cost), dict(settings)

    def read(self, steps: Sequence[Step], history: int) -> str:
        """The number of the decision, from 1."""
        return str(len(steps))

    def requests(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the rule requests help, bool (n,), for texts that `read` made and budgets (n, m)."""
        raise NotImplementedError

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions): 0 for the one that the rule decides."""
        chosen = np.where(self.requests(texts, budgets), self.actions.index(self.help), 0)
        logits = np.full((len(texts), len(self.actions)), NEVER)
        logits[np.arange(len(texts)), chosen] = 0.0
        return logits

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write the record with the rule, atomically."""
        rule = {"help": self.help, "cost": list(self.cost), **self.settings}
        with write_model_folder(folder, {**record, "rule": rule}, card) as new:
            self._save_more(new)

    def _save_more(self, folder: Path) -> None:
        """Files beside the record: none by default."""
        return

    @classmethod
    def load_saved(cls, folder: str | os.PathLike[str], schema: str, device: str) -> tuple[RuleDecider, dict[str, Any]]:
        """Rule and record from a folder that `save` wrote; ValueError where it is damaged."""
        record = read_record(folder, schema)
        rule = dict(record.get("rule") or {})
        try:
            help, cost = rule.pop("help"), rule.pop("cost")
            model = cls(record["actions"], record["limits"], help, cost, rule)
            model._load_more(Path(folder), device)
        except KeyError as error:
            raise ValueError(f"{str(folder)!r} is damaged: its rule is missing {error}") from None
        return model, record

    def _load_more(self, folder: Path, device: str) -> None:
        return


class FirstK(RuleDecider):
    """At every decision, while there is budget."""

    form = "first-k"

    def requests(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Always."""
        return np.ones(len(texts), bool)


class LastK(RuleDecider):
    """The last decisions of an episode of `horizon` decisions, as many as the budget left pays for."""

    form = "last-k"

    def requests(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """From decision `horizon` - k + 1 on, with budget for k requests."""
        number, horizon = np.array(list(map(int, texts))), int(self.settings["horizon"])
        return np.asarray(number > horizon - count_requests(budgets, self.cost, horizon))


class EveryN(RuleDecider):
    """Decisions at equal distances over what is left of an episode of `horizon` decisions."""

    form = "every-n"

    def requests(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """At every n-th decision, n by the budget of the whole episode: the largest of the limits."""
        number, horizon = np.array(list(map(int, texts))), int(self.settings["horizon"])
        requests = int(count_requests(np.array([self.limits]), self.cost, horizon)[0])
        return np.asarray(number % spread_requests(requests, horizon) == 0)


class ScoreThreshold(RuleDecider):
    """P(request) is the PRM's P(failure); the helper's thresholds decide."""

    form = "prm"
    prm: PRM

    def read(self, steps: Sequence[Step], history: int) -> str:
        """The PRM's text."""
        return self.prm.text(steps)

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions)."""
        different, rows = deduplicate(texts)
        score = np.clip(self.prm.score(different), 1e-9, 1 - 1e-9)[rows]
        logits = np.full((len(texts), len(self.actions)), NEVER)
        logits[:, 0], logits[:, self.actions.index(self.help)] = np.log(score), np.log1p(-score)
        return logits

    def _save_more(self, folder: Path) -> None:
        self.prm.save(folder / PRM_FOLDER)

    def _load_more(self, folder: Path, device: str) -> None:
        self.prm = PRM.load(folder / PRM_FOLDER, device)


def count_requests(budgets: NDArray[np.int64], cost: Sequence[int], most: int) -> NDArray[np.int64]:
    """How many requests at this cost the budgets (n, m) pay for, at most `most`, int64 (n,)."""
    charged = np.array(cost)
    if not charged.any():
        return np.full(len(budgets), most)
    return np.asarray(np.minimum((budgets[:, charged > 0] // charged[charged > 0]).min(axis=1), most))


RULES: dict[str, type[RuleDecider]] = {one.form: one for one in (FirstK, LastK, EveryN, ScoreThreshold)}
