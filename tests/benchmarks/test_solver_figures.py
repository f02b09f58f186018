"""The figures' instances are what they say, the peers give the solver's answers, and the table can be printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import selfreg
from benchmarks import expected_peers, frontier, helper, instances, peers, pools, solver
from selfreg.helper import HelperExamples

ROOT = Path(__file__).parents[2]
SMALL = {
    "layered": instances.instance_a(n_states=800, budget=5),
    "cyclic": instances.instance_b(n_states=60, budget=3),
    "tiny": instances.instance_t(),
}
CAN_DO = [
    (peers.SCIPY, "layered"),
    (peers.SCIPY, "tiny"),
    (peers.SCIPY_READY, "layered"),
    (peers.SCIPY_SWEEPS, "layered"),
    (peers.SCIPY_SWEEPS, "cyclic"),
    (peers.NUMBA, "layered"),
    (peers.QUANTECON, "tiny"),
    (peers.QUANTECON, "cyclic"),
    (peers.MDPTOOLBOX, "tiny"),
    (peers.MDPTOOLBOX, "cyclic"),
    (peers.STORM, "layered"),
    (peers.STORM, "cyclic"),
]


@pytest.mark.filterwarnings("default")  # what other packages warn of when imported is theirs
@pytest.mark.parametrize(("peer", "kind"), CAN_DO, ids=lambda value: getattr(value, "name", value))
def test_peer_gives_the_solver_s_answer(peer, kind) -> None:
    instance = SMALL[kind]
    try:
        call = peer.prepare(instance)
    except ImportError as error:
        pytest.skip(f"{peer.name} is not installed ({error.name})")
    solution, value = selfreg.solve(instance.mdp, instance.budget), call()
    assert value.shape == solution.value.shape
    answered = ~np.isnan(value)
    assert answered.all() or (peer is peers.STORM and answered.sum() == 1)
    assert np.max(np.abs(value - solution.value)[answered]) <= peer.tolerance + solution.bound


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("peer", "kind"),
    [
        (expected_peers.SCIPY, "layered"),
        (expected_peers.SCIPY_CUT, "layered"),
        (expected_peers.SCIPY_READY, "layered"),
        (expected_peers.SCIPY_SWEEPS, "cyclic"),
        (expected_peers.STORM, "layered"),
        (expected_peers.STORM, "cyclic"),
        (expected_peers.HIGHS, "layered"),
        (expected_peers.HIGHS, "cyclic"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_peer_gives_the_frontier_s_point(peer, kind) -> None:
    instance, start = SMALL[kind], 3
    try:
        call = peer.prepare(instance, start, 1.5)
    except ImportError as error:
        pytest.skip(f"{peer.name} is not installed ({error.name})")
    found = selfreg.reward_search(instance.mdp, start, 1.5)
    assert found.mixture.usage == pytest.approx(1.5)
    assert abs(call() - found.mixture.success) <= peer.tolerance + found.gap + 1e-9


def test_figures_of_the_frontier_are_checked() -> None:
    figures = [frontier.whole(SMALL["layered"], expected_peers.SCIPY, 1), frontier.vertices(SMALL["layered"])]
    assert all(figure.right for figure in figures)
    assert [figure.verdict(frontier.TARGETS) for figure in figures][1] == "met"


@pytest.mark.parametrize("kind", SMALL)
def test_instance_is_what_the_design_says(kind) -> None:
    instance = SMALL[kind]
    live = instance.mdp.n_states - 2
    assert instance.mdp.actions == ("nohelp", "help")
    assert np.isnan(instance.terminal_value[:live]).all()
    assert instance.terminal_value[live:].tolist() == [1, 0]
    for name, matrix in instance.transitions.items():
        assert matrix.has_canonical_format
        assert np.shares_memory(matrix.data, instance.mdp.transitions[name].data)
        rows = np.repeat(np.arange(live + 2), np.diff(matrix.indptr))
        if instance.layers is None:
            leak = np.asarray(matrix[:live, live:].sum(axis=1))
            np.testing.assert_allclose(leak, 0.01, rtol=0, atol=1e-12)
        else:
            layer = np.searchsorted(instance.layers, np.arange(live + 2), side="right")
            inner = rows < instance.layers[-2]
            assert np.all(layer[matrix.indices[inner]] == layer[rows[inner]] + 1)
            assert np.all(matrix.indices[~inner] >= live)


def test_help_is_worth_having_in_every_instance() -> None:
    for instance in SMALL.values():
        solution = selfreg.solve(instance.mdp, instance.budget)
        assert solution.policy.any()
        assert solution.value[:, -1].mean() > solution.value[:, 0].mean()


def test_instances_are_functions_of_their_seed() -> None:
    one, same, other = (instances.instance_t(seed=seed) for seed in (1, 1, 2))
    for name, matrix in one.transitions.items():
        assert np.array_equal(matrix.data, same.transitions[name].data)
        assert not np.array_equal(matrix.data, other.transitions[name].data)
    first, second = instances.instance_m(n_models=2)
    assert not np.array_equal(first.transitions["help"].data, second.transitions["help"].data)


def test_layers_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="n_states=50 does not make 40 layers"):
        instances.instance_a(n_states=50)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (solver.Figure("A", "scipy", 4.0, ""), "met"),
        (solver.Figure("A", "scipy", 3.9, ""), "missed"),
        (solver.Figure("T", "microseconds a call", 99.0, ""), "met"),
        (solver.Figure("T", "microseconds a call", 101.0, ""), "missed"),
        (solver.Figure("A", "scipy", 9.0, "", right=False), "WRONG"),
        (solver.Figure("A", "scipy", None, "not installed"), ""),
        (solver.Figure("A", "numba, 20 lines", 1.0, ""), ""),
    ],
)
def test_verdict_follows_the_target(figure, verdict) -> None:
    assert figure.verdict(solver.TARGETS) == verdict


def test_every_target_is_a_line_of_the_table_or_needs_the_full_run() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()][:2] for line in done.stdout.splitlines()]
    full_run_only = {(instance, name) for instance, name in solver.TARGETS if instance == "C"}
    full_run_only |= {("B", "10x states"), ("B", "budgets 0..64 / 0..16")}
    assert set(solver.TARGETS) - full_run_only <= {tuple(line) for line in lines}


def test_an_unknown_command_names_those_there_are() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "solver,imports,simulate" in done.stderr


@pytest.mark.parametrize("kind", ["sigmoid", "three kinds"])
def test_pools_peers_give_the_best_split(kind) -> None:
    success, total = pools.curves(kind, n_tasks=12, units=5), 23
    best = selfreg.allocate(success, total).total_success
    assert pools.programme(success, total) == pytest.approx(best, abs=1e-12)
    assert pools.highs_choices(success, total)() == pytest.approx(best, abs=1e-9)


def test_pools_peer_gives_the_best_mixture() -> None:
    mdp, limits = pools.with_person(instances.instance_t()), (0.7, 0.2)
    best = selfreg.constrained(mdp, 2, limits)
    assert pools.occupancy(mdp, 2, limits)() == pytest.approx(best.success, abs=pools.LP_ERROR)


def test_agreement_counts_what_decisions_are_worth() -> None:
    """By hand: task a meets 3 of 4 and task b 1 of 2; at budget 1 only the first entry counts."""
    test = HelperExamples(
        ["x", "y", "z"], np.array([[1], [2], [2]]), np.array([1, 0, 1]), np.array([3.0, 1.0, 2.0]),
        ["a", "a", "b"], ("nohelp", "help"),
    )  # fmt: skip
    one = helper.Result("one", 0, test, np.array([True, False, False]))
    none = helper.Result("none", 0, test, np.zeros(3, dtype=bool))
    assert helper.agreement([one]).mean == pytest.approx(3 / 6)
    assert helper.agreement([one, none]).mean == pytest.approx(3 / 12)
    assert helper.agreement([one], [none]).mean == pytest.approx(3 / 6)
    assert helper.agreement([one], budget=1).mean == 1
    assert helper.agreement([one], budget=2).mean == 0
    low, high = helper.agreement([one])[1:]
    assert (low, high) == (0, 3 / 4), "both tasks drawn from b, or both from a"


def test_helper_baselines_learn_what_they_can() -> None:
    """Low scores and the word `bad` mean help at budget 2; at budget 1 there is nothing to learn but the majority."""
    rows = [(f"{word} {i}", [b], int(b == 2 and word == "bad"), f"task {i}")
            for i in range(30) for word in ("bad", "good") for b in (1, 2)]  # fmt: skip
    texts, budgets, decisions, tasks = map(list, zip(*rows, strict=True))
    examples = HelperExamples(
        texts, np.array(budgets), np.array(decisions), np.ones(len(rows)), tasks, ("nohelp", "help")
    )
    parts = [examples.select_tasks([f"task {i}" for i in part]) for part in (range(20), range(20, 25), range(25, 30))]

    class Scores:
        def score(self, texts: list[str]) -> np.ndarray:
            return np.array([0.2 if text.startswith("bad") else 0.8 for text in texts])

    case = helper.Case(None, Scores(), None)  # type: ignore[arg-type]
    for rule, right in ((helper.majority, 0.75), (helper.prm_threshold, 1.0)):
        assert (rule(case, *parts) == parts[2].decisions).mean() == right, rule


def test_figures_of_sweeps_can_be_printed_and_are_right() -> None:
    from benchmarks import sweep

    lines = [*sweep.many(40, 1), *sweep.from_disk(4_000, 3)]
    assert all(line.right for line in lines)
    assert {("M", "1 thread / 2 threads"), ("M", "loop over scipy, 2 threads")} <= {(f.instance, f.name) for f in lines}
    assert lines[-1].number < 4.0


def test_figures_of_ingestion_can_be_printed_and_are_right(capsys) -> None:
    from benchmarks import ingest

    ingest.main(["--episodes", "1500", "--workers", "1", "--formats", "jsonl.zst"])
    printed = capsys.readouterr().out
    assert "jsonl.zst" in printed
    assert "WRONG" not in printed


def test_a_simulated_cluster_is_no_faster_than_its_workers() -> None:
    from benchmarks import instances, shards

    network = shards.Network(1e9, 0.0)
    models = [instances.layered("local", 4_000, 40, budget=4).mdp, shards.blocks(6, 2, 40)]
    for mdp, loss in zip(models, (1.5, 3.0), strict=True):
        shape, alone = shards.shape_of(mdp, 4)
        one, fetched = shards.simulated(mdp, shape, 5, 1, network)
        assert one == pytest.approx(alone)
        assert fetched == 0
        for workers in (2, 6):
            seconds, fetched = shards.simulated(mdp, shape, 5, workers, network)
            assert 0.999 * alone / workers <= seconds < alone / workers * loss + fetched / 1e9 * 80
    shape, alone = shards.shape_of(instances.cyclic("B", 500, budget=4).mdp, 4)
    assert np.bincount(shape.component).max() >= 490
    assert shards.simulated(instances.cyclic("B", 500, budget=4).mdp, shape, 5, 8, network)[0] > 0.9 * alone
