"""Forms of use of the solver: threads, memory, precision, interruption; and the shapes that are hard for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import oracles
import selfreg
import strategies
from selfreg._core import chooser
from selfreg.planning import _structure as structure


def layered(n_layers: int, width: int, shuffled: bool = False, seed: int = 0) -> selfreg.InterventionMDP:
    """States in layers, four successors in the next one; the last layer is terminal."""
    generator = np.random.default_rng(seed)
    n = n_layers * width
    order = generator.permutation(n) if shuffled else np.arange(n)

    def matrix(bias: float) -> sp.csr_array:
        rows = np.repeat(np.arange(n - width), 4)
        columns = (rows // width + 1) * width + generator.integers(0, width, len(rows))
        weights = generator.dirichlet(np.ones(4), n - width) ** (1 + bias)
        weights = (weights / weights.sum(axis=1, keepdims=True)).ravel()
        return sp.csr_array(sp.coo_array((weights, (order[rows], order[columns])), shape=(n, n)))

    value = np.full(n, np.nan)
    value[order[-width:]] = generator.random(width)
    return selfreg.InterventionMDP({"nohelp": matrix(0.0), "help": matrix(1.0)}, value, {"help": 1})


def leaky(n: int, leak: float, kind: str) -> selfreg.InterventionMDP:
    """One component that leaks `leak` a step: a directed ring, a symmetric one, or a random graph; help leaks half."""
    generator = np.random.default_rng(n)
    quality = generator.random(n)

    def matrix(successors: np.ndarray, weights: np.ndarray, leak: float) -> sp.csr_array:
        states = np.arange(n)
        rows = np.concatenate([np.repeat(states, successors.shape[1]), states, states])
        columns = np.concatenate([successors.ravel(), np.full(n, n), np.full(n, n + 1)])
        entries = np.concatenate([(weights * (1 - leak)).ravel(), leak * quality, leak * (1 - quality)])
        return sp.csr_array(sp.coo_array((entries, (rows, columns)), shape=(n + 2, n + 2)))

    ring = np.arange(n)[:, None]
    successors = {
        "directed": (ring + 1) % n,
        "symmetric": np.hstack([(ring + 1) % n, (ring - 1) % n]),
        "random": generator.integers(0, n, (n, 5)),
    }[kind]
    weights = generator.dirichlet(np.ones(successors.shape[1]), n)
    if kind == "symmetric":
        weights = np.full((n, 2), 0.5)
    helped = matrix(generator.integers(0, n, (n, 2)), np.full((n, 2), 0.5), 0.5)
    value = np.concatenate([np.full(n, np.nan), [1.0, 0.0]])
    return selfreg.InterventionMDP({"nohelp": matrix(successors, weights, leak), "help": helped}, value, {"help": 1})


# ---- threads, precision, keep


@pytest.mark.parametrize("shuffled", [False, True])
def test_any_number_of_threads_gives_the_same_bits(shuffled) -> None:
    mdp = layered(12, 1500, shuffled)
    one = selfreg.solve(mdp, 9, n_threads=1)
    for n_threads in (2, 3, None):
        many = selfreg.solve(mdp, 9, n_threads=n_threads)
        assert np.array_equal(one.value, many.value)
        assert np.array_equal(one.policy, many.policy)
        start = selfreg.solve(mdp, 9, n_threads=n_threads, keep="start", start=np.full(18000, 1 / 18000))
        assert np.array_equal(start.value, selfreg.solve(mdp, 9, keep="start", start=np.full(18000, 1 / 18000)).value)


@given(case=strategies.models(), luck=st.integers(0, 2**32 - 1))
def test_keep_start_is_the_expectation_of_keep_all(implementation, case, luck) -> None:
    mdp, budget = case
    weight = np.random.default_rng(luck).dirichlet(np.ones(mdp.n_states))
    every = selfreg.solve(mdp, budget, implementation=implementation)
    kept = selfreg.solve(mdp, budget, keep="start", start=weight, implementation=implementation)
    np.testing.assert_allclose(kept.value, np.tensordot(weight, every.value, axes=1), rtol=0, atol=1e-12)
    assert kept.bound == every.bound
    one = selfreg.solve(mdp, budget, keep="start", start=0, implementation=implementation)
    np.testing.assert_allclose(one.value, every.value[0], rtol=0, atol=1e-12)


@given(case=strategies.models())
def test_float32_is_float64_to_single_precision(implementation, case) -> None:
    mdp, budget = case
    single = selfreg.solve(mdp, budget, dtype=np.float32, implementation=implementation)
    assert single.value.dtype == np.float32
    double = selfreg.solve(mdp, budget, implementation=implementation)
    np.testing.assert_allclose(single.value, double.value, rtol=0, atol=2e-6)


def test_keep_start_needs_little_memory() -> None:
    mdp = layered(60, 400)
    every, kept = (selfreg.solve_memory(mdp, 16, keep=keep) for keep in ("all", "start"))
    assert every >= mdp.n_states * 17 * 9
    assert kept < every / 5
    with pytest.raises(MemoryError, match=rf"solving needs {every:,} bytes beyond the model; max_memory is 1,000"):
        selfreg.solve(mdp, 16, max_memory=1000)
    assert selfreg.solve(mdp, 16, keep="start", start=3, max_memory=kept).value.shape == (17,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_threads": 0}, ValueError, "n_threads is 0; expected at least 1"),
        ({"n_threads": 1.5}, TypeError, "n_threads is 1.5"),
        ({"dtype": np.int32}, ValueError, "dtype is int32; expected float64 or float32"),
        ({"dtype": "nonsense"}, TypeError, "expected float64 or float32"),
        ({"keep": "some"}, ValueError, "keep is 'some'"),
        ({"keep": "start"}, ValueError, 'keep="start" needs start='),
        ({"start": 0}, ValueError, 'start= needs keep="start"'),
        ({"keep": "start", "start": 5}, ValueError, r"start is 5; expected a state 0..0"),
        ({"keep": "start", "start": [0.5]}, ValueError, "start sums to 0.5"),
        ({"keep": "start", "start": [0.5, 0.5]}, ValueError, r"start has shape \(2,\)"),
        ({"keep": "start", "start": sp.csr_array([[1.0]])}, TypeError, "start is <Compressed Sparse Row"),
        ({"keep": "start", "start": sp.dok_array([[1.0]])}, TypeError, "start is .*; expected a state, or one"),
        ({"keep": "start", "start": [[1.0], 0]}, TypeError, r"start is \[\[1.0\], 0\]; expected a state, or one"),
        ({"keep": "start", "start": [1j]}, TypeError, r"start is \[1j\]; expected a state, or one"),
        ({"keep": "start", "start": np.ma.masked_array(0, True)}, TypeError, "start is a masked array"),
        ({"keep": "start", "start": "a"}, ValueError, "start is 'a', an unknown state"),
        ({"keep": "start", "start": [-1.0]}, ValueError, r"start\[0\] is -1"),
        ({"max_memory": -1}, ValueError, "max_memory is -1"),
    ],
)
def test_bad_forms_are_refused_by_name(options, error, message) -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.zeros((1, 1))}, [1.0], {})
    with pytest.raises(error, match=message):
        selfreg.solve(mdp, 1, **options)


def test_127_actions() -> None:
    n = 127
    alone = np.zeros((3, 3))
    alone[0, 1:] = [0.1, 0.9]
    matrices = {"nohelp": alone}
    for k in range(1, n):
        helped = np.zeros((3, 3))
        helped[0, 1:] = [0.1 + 0.005 * k, 0.9 - 0.005 * k]
        matrices[f"help{k}"] = helped
    mdp = selfreg.InterventionMDP(matrices, [np.nan, 1, 0], {f"help{k}": k for k in range(1, n)})
    assert selfreg.solve(mdp, 200).policy[0].tolist() == [min(b, n - 1) for b in range(201)]


# ---- hard shapes


@pytest.mark.parametrize("kind", ["directed", "symmetric", "random"])
@pytest.mark.parametrize(("n", "leak"), [(30, 1e-2), (30, 1e-6), (300, 1e-4), (300, 1e-6)])
def test_nearly_closed_components_and_long_chains(kind, n, leak) -> None:
    mdp = leaky(n, leak, kind)
    solution = selfreg.solve(mdp, 3)
    assert 0.0 < solution.bound <= 1e-9
    # Policy evaluation by a dense solve is good to about 1e-16 / leak.
    points, choices = oracles.product_choices(mdp, (1,)) if n <= 30 else (None, None)
    if points is not None:
        chosen = {point: int(solution.policy[point]) for point in points}
        success = oracles.policy_success(points, choices, mdp.terminal_value, chosen).reshape(n + 2, 2)
        np.testing.assert_allclose(success, solution.value[:, :2], rtol=0, atol=1e-9 + 1e-15 / leak)
    backed_up = np.fmax(solution.q("nohelp"), solution.q("help"))[:n]
    np.testing.assert_allclose(backed_up, solution.value[:n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("budget", [(0, 0), (2, 1), (4, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_layers_together_agree_with_layers_one_by_one(budget, seed) -> None:
    """Two components in a row, three help types, states that only help gets out of, and some that never succeed."""
    random, size = np.random.default_rng(seed), 60
    n = 2 * size + 2
    matrices = {}
    for name in ("nohelp", "free", "first", "second"):
        rows = np.zeros((n, n))
        for s in range(2 * size):
            inner = random.integers(0, size, 3) + size * (s // size)
            rows[s, inner] += random.random(3)
            outer = random.integers(size, n, 2) if s < size else [n - 2, n - 1]
            rows[s, outer] += random.random(2) * (0.2 if name == "nohelp" else 0.4)
        if name == "nohelp":
            rows[5:8] = rows[3, None]
            rows[5:7] = 0.0
            rows[5, 6] = rows[6, 5] = 1.0
        else:
            rows[random.random(n) < 0.5] = 0.0
        rows[:-2] /= np.maximum(rows[:-2].sum(axis=1, keepdims=True), 1e-300)
        rows[2 * size - 1] = 0.0
        rows[2 * size - 1, 2 * size - 1] = name == "nohelp"
        matrices[name] = rows
    value = np.full(n, np.nan)
    value[-2:] = [1, 0]
    mdp = selfreg.InterventionMDP(matrices, value, {"free": (0, 0), "first": (1, 0), "second": (1, 2)})
    together, apart = selfreg.solve(mdp, budget), selfreg.solve(mdp, budget, tol=1e-13)
    assert 0.0 < together.bound <= 1e-9
    assert 0.0 < apart.bound <= 1e-13
    np.testing.assert_allclose(together.value, apart.value, rtol=0, atol=together.bound)
    assert not together.value[2 * size - 1].any()
    assert not together.policy[together.value == 0.0].any()


@given(strategies.models(cyclic=True))
def test_layers_one_by_one_agree_with_the_twin(case) -> None:
    mdp, budget = case
    apart, twin = (selfreg.solve(mdp, budget, tol=1e-13, implementation=name) for name in ("cython", "python"))
    assert max(apart.bound, twin.bound) <= 1e-13
    np.testing.assert_allclose(apart.value, twin.value, rtol=0, atol=1e-12)


def test_sweeps_follow_all_free_actions() -> None:
    """Acting alone goes back to the first state, free help goes on: sweeps of 300 states would creep by one state."""
    n, s = 300, np.arange(300)
    back = sp.csr_array((np.tile([0.4, 0.6], n), (np.repeat(s, 2), np.tile([0, n], n))), shape=(n + 2, n + 2))
    onward = sp.csr_array(
        (np.tile([0.9, 0.1], n), (np.repeat(s, 2), np.stack([np.append(s[1:], n + 1), 0 * s], axis=1).ravel())),
        shape=(n + 2, n + 2),
    )
    mdp = selfreg.InterventionMDP({"nohelp": back, "help": onward}, [*[np.nan] * n, 0.5, 1.0], {"help": 0})
    components = structure.load_structure(mdp, None)[1]
    assert isinstance(components, structure.Components)
    inner = components.members[components.members < n]
    assert inner.tolist() == s[::-1].tolist()
    value = selfreg.solve(mdp, 0).value[:n, 0]
    backup = np.maximum(0.4 * value[0] + 0.3, 0.9 * np.append(value[1:], 1.0) + 0.1 * value[0])
    assert value.min() >= 0.5  # of acting alone for ever
    np.testing.assert_allclose(value, backup, rtol=0, atol=1e-9)


def order_of_sweeps(name: str, matrices: list[sp.csr_array], label: np.ndarray, members: np.ndarray) -> list[int]:
    """`members`, which are by label, as the kernel reorders them."""
    from selfreg._core import chooser

    result, starts = members.astype(np.int32), np.concatenate([[0], np.cumsum(np.bincount(label))])
    arrays = structure.kernel_arrays(matrices)
    chooser.kernel("graph", name).order_sweeps(*arrays, label.astype(np.int32), starts.astype(np.int64), result)
    return result.tolist()


def test_sweeps_come_after_their_likely_successors(implementation) -> None:
    """A shuffled chain whose edges back have less mass, half of it by a second action: its order is found."""
    n, random = 60, np.random.default_rng(0)
    chain = random.permutation(n)
    matrices = [np.zeros((n, n)), np.zeros((n, n))]
    for place in range(n):
        back = chain[random.integers(0, n, 20)]
        matrices[0][chain[place], back] = 0.02
        if place + 1 < n:
            matrices[place % 2][chain[place], chain[place + 1]] = 0.6
    sparse = [sp.csr_array(matrix) for matrix in matrices]
    members = np.append(np.setdiff1d(np.arange(n), chain[0]), chain[0])  # the last one is where the search begins
    assert order_of_sweeps(implementation, sparse, np.zeros(n, np.int64), members) == chain[::-1].tolist()


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), density=st.floats(0.01, 1.0), n_actions=st.integers(1, 3))
def test_the_order_of_sweeps_is_that_of_the_twin(seed, n, density, n_actions) -> None:
    random = np.random.default_rng(seed)
    label, matrices = np.sort(random.integers(0, 3, n)), []
    for _ in range(n_actions):
        matrix = sp.random_array((n, n), density=density, rng=random, format="csr")
        matrix.data = np.round(matrix.data, 1)  # many of the same mass
        matrices.append(matrix)
    members = np.lexsort((random.random(n), label))
    orders = [order_of_sweeps(name, matrices, label, members) for name in ("cython", "python")]
    assert orders[0] == orders[1]
    assert label[orders[0]].tolist() == label.tolist()
    assert sorted(orders[0]) == list(range(n))


def test_rows_that_stay_and_chains_of_components() -> None:
    """The kernel and its twin agree; a ring of two states stays, and what leads to a state without rows does not."""
    from selfreg._core import chooser

    def parts(matrices):
        return [m.indptr.astype(np.int64) for m in matrices], [m.indices.astype(np.int32) for m in matrices]

    ring = sp.csr_array(np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 1, 0]]))
    back = sp.csr_array(np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]))
    random, label = np.random.default_rng(4), np.array([0, 0, 0, 1], np.int32)
    for name in ("cython", "python"):
        kernel, remaining = chooser.kernel("graph", name), np.ones((2, 4), np.uint8)
        remaining[1, [0, 3]] = 0
        assert kernel.prune_rows(*parts([ring, back]), label, remaining) == 3
        assert remaining.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
        path = sp.csr_array(np.eye(4, k=-1))
        order = np.arange(4, dtype=np.int32)
        counted = np.array([1, 1, 0, 1], np.uint8)
        assert kernel.longest_chain(*parts([path]), np.zeros(4, np.uint8), order, order, counted) == 3
        terminal = np.array([0, 0, 1, 0], np.uint8)
        assert kernel.longest_chain(*parts([path]), terminal, order, order, counted) == 2
    for _ in range(50):
        n = int(random.integers(2, 12))
        matrices = [sp.random_array((n, n), density=1.5 / n, rng=random, format="csr") for _ in range(3)]
        label, results = random.integers(0, 2, n).astype(np.int32), []
        for name in ("cython", "python"):
            remaining = np.array([np.diff(m.indptr) > 0 for m in matrices]).view(np.uint8)
            left = chooser.kernel("graph", name).prune_rows(*parts(matrices), label, remaining)
            results.append((left, remaining.tolist()))
        assert results[0] == results[1]
        assert results[0][0] == np.sum(results[0][1])


def test_large_random_component_agrees_with_the_linear_program() -> None:
    mdp = leaky(200, 0.01, "random")
    solution = selfreg.solve(mdp, 3)
    expected = oracles.linear_program(mdp, (3,))
    assert np.abs(solution.value - expected).max() <= solution.bound + 1e-8


def test_a_tolerance_out_of_reach_raises_with_the_bound_that_was_reached() -> None:
    with pytest.raises(selfreg.ConvergenceError, match=r"tol=1e-15 was not reached") as caught:
        selfreg.solve(leaky(100, 1e-3, "random"), 2, tol=1e-15)
    assert caught.value.bound > 1e-15


def test_long_chain_without_cycles() -> None:
    n = 200_000
    step = sp.csr_array(sp.diags_array(np.ones(n - 1), offsets=1, shape=(n, n)))
    value = np.full(n, np.nan)
    value[-1] = 0.75
    mdp = selfreg.InterventionMDP({"nohelp": step}, value, {})
    assert np.all(selfreg.solve(mdp, 1).value == 0.75)
    assert selfreg.solve(mdp, 1, keep="start", start=0).value.tolist() == [0.75, 0.75]
    ring = step.tolil()
    ring[n - 2, 0], ring[n - 2, n - 1] = 0.5, 0.5
    mdp = selfreg.InterventionMDP({"nohelp": ring.tocsr()}, value, {})
    np.testing.assert_allclose(selfreg.solve(mdp, 0).value, 0.75, rtol=0, atol=1e-9)


def test_one_budget_moves_like_two_of_which_one_is_nothing() -> None:
    costs = np.array([[0], [0], [2], [5], [1]])
    one = structure.lattice_moves(costs, (4,))
    two = structure.lattice_moves(np.hstack([costs, 0 * costs]), (4, 1))
    for part, other in zip(one, two, strict=True):
        assert part.dtype == other.dtype
        np.testing.assert_array_equal(part, other)
    assert one[2].tolist() == [[1, 0, 4], [2, 2, 2], [4, 1, 3]]


# ---- orders and places, against their twins


@given(strategies.models(cyclic=False))
def test_levels_and_slots_agree_with_their_twins_and_with_their_meaning(case) -> None:
    mdp, _ = case
    arrays = structure.kernel_arrays(list(mdp.transitions.values()))
    terminal = mdp.terminal.view(np.uint8)
    found = []
    for implementation in ("cython", "python"):
        levels = structure.analyse(arrays, mdp.terminal, [0], implementation)
        assert isinstance(levels, structure.Levels)
        slot = np.empty(mdp.n_states, np.int32)
        count = chooser.kernel("graph", implementation).allocate_slots(*arrays[:2], terminal, *levels, slot)
        found.append((*levels, slot, count))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    level, _, members, slot, count = found[0]
    assert slot.max(initial=-1) < count
    edges = [(s, j) for m in mdp.transitions.values() for s, j in zip(*m.nonzero(), strict=True) if not terminal[s]]
    assert all(level[s] > level[j] for s, j in edges)
    assert sorted(members) == list(range(mdp.n_states))
    last = {s: max([level[s], *(level[r] for r, j in edges if j == s)]) for s in range(mdp.n_states)}
    for s in range(mdp.n_states):  # no two states share a place while both are needed
        for r in range(s):
            if slot[s] == slot[r]:
                assert last[r] < level[s] or last[s] < level[r]


# ---- several callers, interruption


def test_several_python_threads_at_once() -> None:
    models = [layered(8, 200, seed=i) for i in range(4)] + [leaky(200, 0.01, "random")]
    expected = [selfreg.solve(mdp, 6).value for mdp in models]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(lambda mdp: selfreg.solve(mdp, 6, n_threads=2).value, models))
            assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


def test_the_gil_is_released() -> None:
    mdp = layered(40, 10_000)
    selfreg.solve(mdp, 16)
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    for _ in range(10):
        selfreg.solve(mdp, 32, n_threads=1)
    end = time.perf_counter()
    done.set()
    thread.join()
    during = [t for t in ticks if begin < t < end]
    assert len(during) > 10


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background may ignore it
sys.path[:0] = [sys.argv[1], sys.argv[1] + '/planning']
import numpy as np, selfreg
from test_structure import layered, leaky
mdp = layered(60, 20_000) if sys.argv[2] == "levels" else leaky(20_000, 1e-5, "symmetric")
budget = 16 if sys.argv[2] == "levels" else 200
selfreg.solve(mdp, 0 if sys.argv[2] == "levels" else 0, tol=1e-3)
print("ready", flush=True)
try:
    while True:
        selfreg.solve(mdp, budget)
except KeyboardInterrupt:
    print(time.time(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process")
@pytest.mark.parametrize("kind", ["levels", "components"])
def test_ctrl_c_is_heard_within_a_fifth_of_a_second(kind) -> None:
    here = os.path.dirname(os.path.dirname(__file__))
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, here, kind], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "ready"
        time.sleep(0.5)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        heard = float(process.stdout.readline())
        assert heard - sent < 0.2 * max(1.0, os.getloadavg()[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
