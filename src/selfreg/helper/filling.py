"""The estimated model with every action in every state: what a policy by text would do where the log never tried it.

With exact keys a state of a longer episode is visited once or twice, so that one of its actions was often not tried. If
help does nothing there, a policy that waits is worth too little: later states were helped less often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.text_index import WordGroups
from selfreg.data import NOHELP, state_text
from selfreg.estimate.abstraction import ExactKey
from selfreg.mdp import InterventionMDP

if TYPE_CHECKING:
    from selfreg.helper.labels import Labels

# Similar states that an action is taken from, of at most so many of a task; rows of similarities in one go.
NEIGHBOURS, MOST_STATES, BLOCK = 3, 500, 500


def fill_untried(labels: Labels) -> InterventionMDP:
    """The model of the labels with every action in every state.

    Where states have exact keys without the step, an action that was not tried does what it did in the three most
    similar states of the same task: the mean of their rows, by the cosine of the word groups of their texts
    (`selfreg._util.text_features.hashed_words`). Only labelled states are filled, also those whose row is the PRM's,
    and lend rows, at most 500 of a task. Where no state of the task has the action, or keys are others, untried help
    changes nothing and costs, and untried "nohelp" keeps its row.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import ExactKey, estimate_mdp
    >>> from selfreg.helper import label
    >>> from selfreg.helper.filling import fill_untried
    >>> logs = [
    ...     Trajectory("t", "a", 0.0, (Step("red door"),)),
    ...     Trajectory("t", "b", 1.0, (Step("red door", intervention="help"),)),
    ...     Trajectory("t", "c", 0.0, (Step("blue door"),)),
    ... ]
    >>> model = estimate_mdp(logs, ExactKey())
    >>> labels = label(logs, model, selfreg.solve(model.mdp, 1))
    >>> model.mdp.available("help").tolist(), fill_untried(labels).available("help").tolist()
    ([True, False, False, False], [True, True, False, False])
    """
    model, mdp = labels.model, labels.model.mdp
    rows = dict(mdp.transitions)
    if isinstance(model.abstraction, ExactKey) and not model.abstraction.step:
        tried = {name: mdp.available(name) if name != NOHELP else ~model.borrowed & ~mdp.terminal for name in rows}
        lent = _find_similar(labels, tried)
        for name, states in tried.items():
            kept = sp.diags_array((states | (np.diff(lent[name].indptr) == 0)) * 1.0)
            rows[name] = sp.csr_array(kept @ rows[name] + lent[name] @ rows[name])
    return add_missing_help(InterventionMDP(rows, mdp.terminal_value, mdp.costs))


def add_missing_help(mdp: InterventionMDP) -> InterventionMDP:
    """The model with help everywhere: where it was never tried it costs, and changes nothing.

    A helper requests help in such states too, and what it pays there counts.
    """
    alone = mdp.transitions[NOHELP]
    rows = {NOHELP: alone}
    for name, matrix in mdp.transitions.items():
        if name != NOHELP:
            untried = sp.diags_array((np.diff(matrix.indptr) == 0).astype(np.float64))
            rows[name] = sp.csr_array(matrix + untried @ alone)
    return InterventionMDP(rows, mdp.terminal_value, mdp.costs)


def _find_similar(labels: Labels, tried: dict[str, NDArray[np.bool_]]) -> dict[str, sp.csr_array]:
    """For each action, the weights of similar states in states where it was not tried, csr (n_states, n_states)."""
    states, places = np.unique(labels.state, return_index=True)
    trajectories = [labels.trajectories[e] for e in labels.episode[places].tolist()]
    steps = labels.step[places].tolist()
    _, task = np.unique([one.task for one in trajectories], return_inverse=True)
    found = {name: list[tuple[NDArray[np.int64], NDArray[np.int64]]]() for name in tried}
    for members in np.split(np.argsort(task, kind="stable"), np.cumsum(np.bincount(task))[:-1]):
        here = states[members]
        known = {name: every[here] for name, every in tried.items()}
        if all(one.all() or not one.any() for one in known.values()):
            continue
        vectors = _vectors([state_text(trajectories[i].steps[: steps[i] + 1], 0) for i in members.tolist()])
        for name, one in known.items():
            donors, lacking = np.flatnonzero(one), np.flatnonzero(~one)
            donors = donors[np.linspace(0, len(donors) - 1, min(len(donors), MOST_STATES)).astype(int)]
            for block in np.array_split(lacking, -(-len(lacking) // BLOCK)) if len(donors) and len(lacking) else []:
                similar = donors[_most_similar(vectors[block] @ vectors[donors].T)]
                found[name].append((np.repeat(here[block], similar.shape[1]), here[similar].ravel()))
    shape = (labels.model.mdp.n_states,) * 2
    return {name: _weights(pairs, shape) for name, pairs in found.items()}


def _vectors(texts: list[str]) -> sp.csr_array:
    """Word groups of each text, at length 1."""
    groups = WordGroups().rows(texts)
    return sp.csr_array(sp.diags_array(1.0 / np.sqrt(np.maximum(np.diff(groups.indptr), 1))) @ groups)


def _most_similar(similarity: sp.csr_array) -> NDArray[np.int64]:
    """Columns of the `NEIGHBOURS` largest values of each row; of ties, the first ones."""
    return np.argsort(-similarity.toarray(), axis=1, kind="stable")[:, :NEIGHBOURS]


def _weights(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]], shape: tuple[int, int]) -> sp.csr_array:
    if not pairs:
        return sp.csr_array(shape)
    row, column = (np.concatenate(part) for part in zip(*pairs, strict=True))
    counts = np.bincount(row, minlength=shape[0])
    return sp.csr_array((1.0 / counts[row], (row, column)), shape=shape)
