"""Relabelling: improve the plan's labels for a policy that reads only the text.

The plan uses everything in the logs of a task, also what no text shows yet, such as where an object will be. Its
advantages assume that later decisions know this too. Relabelling replaces them in rounds: a linear model of words
learns the labels, its policy is evaluated in the estimated model, and every decision is labelled again with
Q(s, b, a) = sum_j P_a[s,j] V(j, b - c_a) less the price of a, where V is the success of that policy less a part of the
price of its requests (`selfreg.helper.pricing`). This is approximate policy iteration with a classifier (Lagoudakis &
Parr, 2003) that weights errors by their cost (Ross & Bagnell, 2014), on the tables over (state, budget left) of this
library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg.helper.config import HelperConfig
from selfreg.helper.filling import add_missing_help
from selfreg.helper.labels import Labels
from selfreg.helper.models import FORMS
from selfreg.helper.models.linear import LinearDecider, WordsDecider
from selfreg.helper.models.transformer import deduplicate
from selfreg.helper.pricing import evaluate_at_price, with_values
from selfreg.helper.reasons import mask_affordable

Floats = NDArray[np.float64]


# Inverse weights of the penalty; with stronger penalties the policy of a round is too coarse to improve.
STRENGTHS = (1.0, 10.0)


class Relabelled(NamedTuple):
    """Labels of the last round in success, and less the price of help, and the model that learned the latter."""

    labels: Labels
    priced: Labels
    model: LinearDecider


def relabel(labels: Labels, priced: Labels, split: Mapping[str, Sequence[str]], config: HelperConfig) -> Relabelled:
    """Improve labels for a policy that reads only the text, in `rounds` rounds.

    The number of rounds is not chosen on validation tasks: their few tasks tell rounds apart by chance.

    Parameters
    ----------
    labels, priced : Labels
        The plan's, and those of the plan at the price of help (`plan_at_price`).
    split : mapping of str to sequence of str
        Tasks for "train" and "validation", which choose the penalty of the linear model.
    config : HelperConfig
        The model has the form `form` where that is linear, else the form "words". Low-count labels are treated as
        `min_count` says.
    """
    reader, prices = _Reader(labels, split, config), labels.prices(config.price)
    mdp, success = labels.filled if config.fill else add_missing_help(labels.model.mdp), None
    for _ in range(config.rounds):
        success, value = evaluate_at_price(labels, mdp, reader.learn(priced), prices)
        priced = with_values(labels, value, prices)
    reader.learn(priced)
    return Relabelled(labels if success is None else with_values(labels, success), priced, reader.model)


def reading_form(form: str) -> type[LinearDecider]:
    """The model that learns the labels in each round: of this form where that is linear, else of the form "words"."""
    model: type[LinearDecider] = FORMS[form]
    return model if issubclass(model, LinearDecider) else WordsDecider


class _Reader:
    """Learns labels from words of the text, and decides in every state of the estimated model."""

    def __init__(self, labels: Labels, split: Mapping[str, Sequence[str]], config: HelperConfig) -> None:
        self.texts, self.place = deduplicate(labels.texts(config.history))
        self.limits = tuple(int(top) for top in labels.budgets.max(axis=0))
        self.config = config
        self.parts = [labels.are_of(split[name]) for name in ("train", "validation")]
        known = [self.texts[i] for i in np.unique(self.place[self.parts[0]])]
        self.model = reading_form(config.form).build(labels.actions, self.limits, known, config)
        self.features = self.model.features(self.texts)
        size = labels.model.mdp.n_states, len(self.texts)
        self.seen = sp.csr_array((np.ones(len(self.place)), (labels.state, self.place)), shape=size)

    def learn(self, labels: Labels) -> NDArray[np.int8]:
        """Learn labels; the action in every state and point, int8 (n_states, points).

        It is the most probable over the texts of a state, and nohelp in a state without text.
        """
        worth = np.nan_to_num(np.abs(labels.advantage)) * np.minimum(labels.support / self.config.min_count, 1.0)
        paid = mask_affordable(labels.actions, labels.model.mdp.costs, labels.budgets)
        policy = np.zeros((self.seen.shape[0], len(labels.budgets)), dtype=np.int8)
        for p in range(len(labels.budgets)):
            votes = [np.zeros((len(self.texts), len(labels.actions))) for _ in self.parts]
            for mine, part in zip(votes, self.parts, strict=True):
                np.add.at(mine, (self.place[part], labels.decision[part, p]), worth[part, p])
            self.model.fit_point(p, self.features, votes[0], self.features, votes[1], STRENGTHS)
            logits = np.where(paid[p], self.model.logits_at(p, self.features), -np.inf)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            policy[:, p] = (self.seen @ (odds / odds.sum(axis=1, keepdims=True))).argmax(axis=1)
        return policy
