"""States whose value follows from the graph alone: against all policies, and on chains that are too slow for sums."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import selfreg
import strategies
from selfreg._core import chooser
from selfreg.planning import _structure as structure


def found_certain(mdp: selfreg.InterventionMDP, implementation: str) -> tuple[list[int], list[int]]:
    """`certain` and `action` of every state."""
    arrays = structure.kernel_arrays(list(mdp.transitions.values()))
    n, value = mdp.n_states, mdp.terminal_value
    members, component = np.empty(n, np.int32), np.empty(n, np.int32)
    terminal = mdp.terminal.view(np.uint8)
    graph = chooser.kernel("graph", implementation)
    count = graph.strongly_connected(*arrays[:2], terminal, members, component)
    starts = np.concatenate([[0], np.cumsum(np.bincount(component, minlength=count))]).astype(np.int64)
    certain = np.where(value == 1.0, 1, np.where(value == 0.0, 0, 2)).astype(np.uint8)
    action, is_free = np.zeros(n, np.int8), (~mdp.cost_table.any(axis=1)).astype(np.uint8)
    kernel = chooser.kernel("qualitative", implementation)
    found = kernel.find_certain(*arrays[:2], is_free, terminal, members, starts, component, certain, action)
    assert found == np.count_nonzero((certain < 2) & ~mdp.terminal)
    return certain.tolist(), action.tolist()


def closure(successors: list[set[int]]) -> list[set[int]]:
    """States that each state reaches, itself among them."""
    reached = [{s} for s in range(len(successors))]
    for _ in successors:
        reached = [some.union(*(successors[j] for j in some)) for some in reached]
    return reached


def policy_ones(heads: list[list[set[int]]], policy: dict[int, int], value: np.ndarray) -> set[int]:
    """States from which a policy ends with the value 1 for certain: no state it leads to cannot reach such an end."""
    reached = closure([heads[policy[s]][s] if s in policy else set() for s in range(len(value))])
    good = {s for s, some in enumerate(reached) if any(value[j] == 1.0 for j in some)}
    return {s for s, some in enumerate(reached) if some <= good}


@given(case=strategies.models(max_live=5))
def test_certain_values_are_those_of_all_policies(case) -> None:
    """Enumeration of policies on the graph: some policy of free actions has value 1; no action leads to a value > 0."""
    mdp, _ = case
    value = mdp.terminal_value
    matrices, states = mdp.transitions.values(), range(mdp.n_states)
    heads = [[set(m.indices[m.indptr[s] : m.indptr[s + 1]].tolist()) for s in states] for m in matrices]
    live, free = np.flatnonzero(~mdp.terminal).tolist(), np.flatnonzero(~mdp.cost_table.any(axis=1)).tolist()
    choices = [[a for a in free if heads[a][s]] for s in live]
    ones: set[int] = set()
    for chosen in product(*choices):
        ones |= policy_ones(heads, dict(zip(live, chosen, strict=True)), value)
    anywhere = closure([set().union(*(part[s] for part in heads)) if s in live else set() for s in range(len(value))])
    zeros = {s for s, some in enumerate(anywhere) if all(not value[j] > 0.0 for j in some)}
    expected = [1 if s in ones else 0 if s in zeros else 2 for s in range(mdp.n_states)]
    results = [found_certain(mdp, name) for name in ("cython", "python")]
    assert results[0] == results[1]
    certain, action = results[0]
    assert certain == expected
    assert ones <= policy_ones(heads, {s: action[s] for s in live}, value)
    solution = selfreg.solve(mdp, 0 if mdp.n_budgets == 1 else (0,) * mdp.n_budgets)
    if isinstance(structure.load_structure(mdp, None, certain=True)[1], structure.Components):
        assert np.all(solution.value[sorted(ones)] == 1.0)
        assert np.all(solution.value[sorted(zeros)] == 0.0)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), n_actions=st.integers(1, 4))
def test_larger_graphs_agree_with_the_twin(seed, n, n_actions) -> None:
    """Few successors, so that components, value 1 and removal in several rounds are common."""
    random = np.random.default_rng(seed)
    matrices = {}
    for k in range(n_actions):
        rows = np.zeros((n + 2, n + 2))
        for s in range(n):
            if k == 0 or random.random() < 0.6:
                heads = np.unique(random.choice([*range(n), n, n, n + 1], int(random.integers(1, 4))))
                rows[s, heads] = 1 / len(heads)
        matrices["nohelp" if k == 0 else f"help {k}"] = sp.csr_array(rows)
    value = np.concatenate([np.full(n, np.nan), [1.0, 0.0]])
    costs = {name: int(random.integers(0, 2)) for name in list(matrices)[1:]}
    mdp = selfreg.InterventionMDP(matrices, value, costs)
    assert found_certain(mdp, "cython") == found_certain(mdp, "python")
    solution = selfreg.solve(mdp, 1)
    judged = selfreg.evaluate_policy(mdp, solution.policy, start=0, budget=1)
    assert judged.success == pytest.approx(solution.value[0, 1], abs=1e-8)


def test_value_1_needs_no_steps(implementation) -> None:
    """A step on has probability 1e-30; help that costs nothing waits: 1 with every budget, exactly."""
    n = 50
    on = sp.diags_array([np.full(n, 1.0), np.full(n, 1e-30)], offsets=[0, 1], shape=(n, n + 1))
    stay = sp.csr_array((np.ones(n), (np.arange(n), np.maximum(np.arange(n) - 1, 0))), shape=(n + 1, n + 1))
    nohelp = sp.csr_array(sp.vstack([on, sp.csr_array((1, n + 1))]))
    back = nohelp.tolil()
    back[n - 1, 0] = 1e-30
    mdp = selfreg.InterventionMDP(
        {"nohelp": sp.csr_array(back), "wait": stay, "person": stay}, [*[np.nan] * n, 1.0], {"wait": 0, "person": 1}
    )
    solution = selfreg.solve(mdp, 2, implementation=implementation)
    assert np.all(solution.value == 1.0)
    assert np.all(solution.policy == 0)
    assert solution.bound == 0.0


def test_value_0_needs_no_steps(implementation) -> None:
    """A slow walk that only ends in failure, beside one that may succeed."""
    n = 40
    walk = np.zeros((n + 2, n + 2))
    for s in range(n - 1):
        walk[s, max(s - 1, 0)] += 0.9
        walk[s, s + 1] += 0.1
    walk[n - 1, n + 1] = 1.0
    better = walk.copy()
    better[n - 2] = 0
    better[n - 2, [0, n]] = 0.5
    without = selfreg.InterventionMDP({"nohelp": walk, "help": walk}, [*[np.nan] * n, 1, 0], {"help": 1})
    solution = selfreg.solve(without, 3, implementation=implementation)
    assert np.all(solution.value[:n] == 0.0)
    assert solution.bound == 0.0
    with_help = selfreg.InterventionMDP({"nohelp": walk, "help": better}, [*[np.nan] * n, 1, 0], {"help": 1})
    solution = selfreg.solve(with_help, 1, implementation=implementation)
    assert np.all(solution.value[: n - 1, 0] == 0.0)
    assert np.all(solution.value[: n - 1, 1] > 0.4)


def test_a_model_that_was_judged_before_is_solved_alike() -> None:
    """Other uses of a model keep an analysis without certain values; the two do not mix."""
    rows = np.array([[0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": rows}, [np.nan, np.nan, 1, 0], {})
    assert selfreg.evaluate_policy(mdp, "nohelp", start=0).success == pytest.approx(1.0)
    assert selfreg.solve(mdp, 0).value[:2].tolist() == [[1.0], [1.0]]
    other = selfreg.InterventionMDP({"nohelp": rows}, [np.nan, np.nan, 1, 0], {})
    assert selfreg.solve(other, 0).value[:2].tolist() == [[1.0], [1.0]]
    assert selfreg.evaluate_policy(other, "nohelp", start=0).success == pytest.approx(1.0)
