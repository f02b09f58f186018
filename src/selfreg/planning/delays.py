"""Help that comes late, or not at all: the model in which requests are answered after some steps, or never."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.models.validate_model import NOHELP
from selfreg.planning import _arguments

GIVEN = " given"  # ends the name of the action that takes help which has come
TOLERANCE = 1e-9


def delay_help(mdp: InterventionMDP, help: str, arrival: Sequence[float]) -> InterventionMDP:
    """The model in which a request for `help` is answered after some steps, or never.

    A request costs nothing. While nobody has answered, the agent goes on alone, and makes no other request. When help
    comes, it applies in the state that the agent is in by then, and takes its units from the budget: that is what a
    reservation amounts to which is charged with the answer and refunded without one.

    Parameters
    ----------
    mdp : InterventionMDP
        In which help comes at once.
    help : str
        Help type.
    arrival : sequence of float
        Entry k is the probability that help comes k steps after the request; at 0, before the agent does anything. They
        sum to at most 1; the rest is the probability that nobody answers. ``[0.8]``: the agent waits for the answer,
        which comes in 8 of 10 cases.

    Returns
    -------
    InterventionMDP
        States 0 to n - 1 are those of `mdp` without an open request; then come states with help that has come, and with
        an open request. The action `help` is the request, and "`help` given" takes help that has come. Without visits.

    Raises
    ------
    ValueError, TypeError
        The model has no such help type; `arrival` is empty, has a negative number, or sums to more than 1.

    Notes
    -----
    With S_k the probability that nobody has answered before step k, and h_k = arrival_k / S_k: an agent that comes into
    state j with a request of age k has help there with probability h_k, and an open request, or after the last
    age none, with 1 - h_k. The equations are ours.

    Examples
    --------
    Help always succeeds, and the agent alone half the time; the person answers in 8 of 10 cases.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, 1., 0], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "person": helped}, [np.nan, 1, 0], {"person": 1})
    >>> slow = selfreg.delay_help(mdp, "person", [0.8])
    >>> selfreg.solve(slow, 1).value[0].tolist(), slow.actions
    ([0.5, 0.9], ('nohelp', 'person', 'person given'))
    """
    _arguments.check_model(mdp)
    if help not in mdp.actions[1:]:
        raise ValueError(f"help is {help!r}; expected a help type of the model: {', '.join(mdp.costs)}")
    if help + GIVEN in mdp.actions:
        raise ValueError(f"the model has the action {help + GIVEN!r} already")
    layout, alone = _Layout(mdp.terminal, _hazards(arrival)), mdp.transitions[NOHELP]
    plain, live = layout.enter(layout.ages), ~mdp.terminal
    available = sp.diags_array(mdp.available(help).astype(np.float64))
    blocks = {name: [matrix @ plain] for name, matrix in mdp.transitions.items()}
    blocks[help] = [available @ layout.begin(alone)]
    blocks[NOHELP] += [(alone @ layout.enter(age))[live] for age in (layout.ages, *range(2, layout.ages))]
    blocks[help + GIVEN] = [sp.csr_array((mdp.n_states, layout.size)), (mdp.transitions[help] @ plain)[live]]
    rows = {name: layout.stack(parts) for name, parts in blocks.items()}
    value = np.concatenate([mdp.terminal_value, np.full(layout.size - mdp.n_states, np.nan)])
    costs = {**mdp.costs, help: (0,) * mdp.n_budgets, help + GIVEN: mdp.costs[help]}
    return InterventionMDP(rows, value, costs, states=None if mdp.states is None else layout.names(mdp.states, help))


class _Layout:
    """Places of states: those of the model, live ones with help that has come, live ones with requests of ages 1, 2, ..

    `ages` is the number of ages at which help may come, 0 included; after the last one the request is closed.
    """

    def __init__(self, terminal: npt.NDArray[np.bool_], hazards: Sequence[float]) -> None:
        self._live, self._hazards, self.ages = np.flatnonzero(~terminal), hazards, len(hazards)
        self._n, n_live = len(terminal), len(self._live)
        self.size = self._n + n_live * (1 + max(self.ages - 2, 0))

    def _embed(self, block: int, weight: float, states: npt.NDArray[np.int64]) -> sp.csr_array:
        """(n, size): `weight` from live states to their places in a block; 0 is the model, 1 help that has come."""
        number = np.searchsorted(self._live, states)
        places = states if block == 0 else self._n + (block - 1) * len(self._live) + number
        return sp.csr_array((np.full(len(states), weight), (states, places)), shape=(self._n, self.size))

    def enter(self, age: int) -> sp.csr_array:
        """(n, size): where an agent is that comes into a state with a request of this age."""
        if age >= self.ages:
            return self._embed(0, 1.0, np.arange(self._n))
        chance, block = self._hazards[age], 0 if age == self.ages - 1 else age + 1
        ended = np.setdiff1d(np.arange(self._n), self._live)
        waiting = self._embed(block, 1 - chance, self._live)
        return self._embed(0, 1.0, ended) + self._embed(1, chance, self._live) + waiting

    def begin(self, alone: sp.csr_array) -> sp.csr_array:
        """(n, size): rows of the request."""
        chance = self._hazards[0]
        return self._embed(1, chance, self._live) + (1 - chance) * (alone @ self.enter(1))

    def names(self, states: Sequence[Hashable], help: str) -> list[Hashable]:
        """Names of all states: those of the model, ("person given", name), ("person open 1", name), ..."""
        blocks = [help + GIVEN, *(f"{help} open {age}" for age in range(1, self.ages - 1))]
        live = [states[i] for i in self._live.tolist()]
        parts = [name if isinstance(name, tuple) else (name,) for name in live]
        return [*states, *((block, *part) for block in blocks for part in parts)]

    def stack(self, blocks: Sequence[sp.csr_array]) -> sp.csr_array:
        """(size, size): blocks of rows, and empty ones below."""
        below = self.size - sum(block.shape[0] for block in blocks)
        return sp.csr_array(sp.vstack([*blocks, sp.csr_array((below, self.size))], format="csr"))


def _hazards(arrival: Sequence[float]) -> list[float]:
    """P(help comes at an age, if it has not come before)."""
    ages = validate.items("arrival", arrival, "probabilities")
    chances = [validate.probability(f"arrival[{age}]", chance) for age, chance in enumerate(ages)]
    if not chances:
        raise ValueError("arrival is empty; expected the probability that help comes at once, after a step, ...")
    if sum(chances) > 1 + TOLERANCE:
        raise ValueError(f"arrival sums to {sum(chances):g}; expected at most 1")
    hazards, nobody = [], 1.0
    for chance in chances:
        hazards.append(min(chance / nobody, 1.0) if nobody > TOLERANCE else 0.0)
        nobody -= chance
    return hazards
