"""Models of dicts, of Gymnasium's tables and of other models, against computations of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import selfreg
import strategies

NAN = np.nan
ROWS = {
    "start": {"nohelp": {"done": 0.6, "trouble": 0.4}, "help": {"done": 0.7, "trouble": 0.3}},
    "trouble": {"nohelp": {"done": 0.1, "lost": 0.9}, "help": {"done": 0.8, "lost": 0.2}},
}
ENDS = {"done": 1, "lost": 0}
make = selfreg.InterventionMDP.from_dict


def by_action(rows):
    return {action: {state: rows[state][action] for state in rows} for action in ("nohelp", "help")}


@pytest.mark.parametrize("rows", [ROWS, by_action(ROWS)], ids=["by state", "by action"])
def test_a_dict_is_the_same_model_as_its_matrices(rows) -> None:
    mdp = make(rows, ENDS)
    assert mdp.states == ("start", "trouble", "done", "lost")
    assert mdp.transitions["nohelp"].toarray().tolist() == [[0, 0.4, 0.6, 0], [0, 0, 0.1, 0.9], [0] * 4, [0] * 4]
    assert mdp.transitions["help"].toarray().tolist() == [[0, 0.3, 0.7, 0], [0, 0, 0.8, 0.2], [0] * 4, [0] * 4]
    np.testing.assert_array_equal(mdp.terminal_value, [NAN, NAN, 1, 0])
    assert dict(mdp.costs) == {"help": (1,)}


def test_numbers_are_indices_and_tuples_are_names() -> None:
    numbered = make({1: {"nohelp": {0: 0.5, 2: 0.5}}, 0: {"nohelp": 2}}, {np.int64(2): 1})
    assert numbered.states is None
    assert numbered.transitions["nohelp"].toarray().tolist() == [[0, 0, 1], [0.5, 0, 0.5], [0, 0, 0]]
    tuples = make({(0, "a"): {"nohelp": {(1, "a"): 1.0}}}, {(1, "a"): 0.5})
    assert selfreg.solve(tuples, 0, keep="start", start=(0, "a")).value.tolist() == [0.5]


def test_the_constructor_takes_lists_and_mappings_of_rows() -> None:
    lists = selfreg.InterventionMDP({"nohelp": [[0, 0.5, 0.5], [0] * 3, [0] * 3]}, [NAN, 1, 0], {})
    numbered = selfreg.InterventionMDP({"nohelp": {0: {1: 0.5, 2: 0.5}}}, [NAN, 1, 0], {})
    named = selfreg.InterventionMDP({"nohelp": {"a": {"b": 0.5, "c": 0.5}}}, [NAN, 1, 0], {}, states=["a", "b", "c"])
    for mdp in (numbered, named):
        assert mdp.transitions["nohelp"].toarray().tolist() == lists.transitions["nohelp"].toarray().tolist()


def test_visits_of_a_dict() -> None:
    mdp = make(ROWS, ENDS, visits={"nohelp": {"start": 9, "trouble": 4}, "help": {"trouble": 2}})
    assert {name: array.tolist() for name, array in mdp.visits.items()} == {
        "nohelp": [9, 4, 0, 0],
        "help": [0, 2, 0, 0],
    }
    with pytest.raises(ValueError, match="names 'trubble', an unknown state; did you mean 'trouble'"):
        make(ROWS, ENDS, visits={"nohelp": {"trubble": 9}, "help": {}})


@pytest.mark.parametrize(
    ("rows", "ends", "error", "message"),
    [
        (
            {"a": {"nohelp": {"b": 0.5, "dnoe": 0.5}}},
            {"b": 1, "done": 0},
            ValueError,
            "'dnoe', an unknown state; did you mean 'done'",
        ),
        ({"a": {"nohelp": {"b": 0.93}}}, {"b": 1}, ValueError, r"\['nohelp'\]\['a'\] sums to 0.93; expected 1"),
        ({"a": {"nohelp": {"b": -1.0, "c": 2.0}}}, {"b": 1}, ValueError, r"\['nohelp'\]\['a'\]\['b'\] is -1.0"),
        ({"a": {"nohelp": {"b": "1"}}}, {"b": 1}, TypeError, r"\['nohelp'\]\['a'\]\['b'\] is '1'"),
        ({"a": {"nohelp": 0.5}}, {"b": 1}, TypeError, r"\['nohelp'\]\['a'\] must be a mapping of state to probability"),
        ({"a": {"nohelp": "b"}, "c": {"help": "b"}}, {"b": 1}, ValueError, "state 'c' has no \"nohelp\" row"),
        ({"a": {"help": "b"}}, {"b": 1}, ValueError, 'transitions has no "nohelp"'),
        ({}, {"b": 1}, ValueError, "transitions is empty"),
        ([[0, 1]], {"b": 1}, TypeError, "transitions must be a mapping; got list"),
        ({"a": {"nohelp": "b"}}, [1], TypeError, "terminal_value must be a mapping"),
        ({"a": {"nohelp": "b"}}, {"b": 2}, ValueError, r"terminal_value\['b'\] is 2"),
        ({"a": {"nohelp": "b"}}, {"b": "won"}, TypeError, r"terminal_value\['b'\] is 'won'"),
        ({0: {"nohelp": 5}}, {5: 1}, ValueError, r"not 0..1: 1 is missing"),
        ({"a": {"nohelp": 1}}, {1: 1}, TypeError, "state 1 has an unusable name"),
    ],
)
def test_wrong_dicts_are_named(rows, ends, error, message) -> None:
    with pytest.raises(error, match=message):
        make(rows, ends)


def test_names_go_with_the_model(tmp_path) -> None:
    mdp = make({(0, 1.5): {"nohelp": "end"}}, {"end": 1})
    mdp.save(tmp_path / "m")
    assert selfreg.InterventionMDP.open(tmp_path / "m").states == ((0, 1.5), "end")
    with pytest.raises(ValueError, match="states names 'a' twice"):
        selfreg.InterventionMDP({"nohelp": [[0, 1], [0, 0]]}, [NAN, 1], {}, states=["a", "a"])
    with pytest.raises(ValueError, match="states has 3 names; expected 2"):
        selfreg.InterventionMDP({"nohelp": [[0, 1], [0, 0]]}, [NAN, 1], {}, states=["a", "b", "c"])
    for states in ((name for name in "ab"), 5, {"a", "b"}, "ab", np.array("a")):
        with pytest.raises(TypeError, match=f"states must be a sequence of names; got {type(states).__name__}"):
            selfreg.InterventionMDP({"nohelp": [[0, 1], [0, 0]]}, [NAN, 1], {}, states=states)


def test_a_start_by_name() -> None:
    mdp = make(ROWS, ENDS)
    by_name = selfreg.frontier(mdp, {"start": 0.5, "trouble": 0.5})
    by_array = selfreg.frontier(mdp, [0.5, 0.5, 0, 0])
    assert by_name.success.tolist() == by_array.success.tolist()
    with pytest.raises(ValueError, match="start is 'strat', an unknown state; did you mean 'start'"):
        selfreg.frontier(mdp, "strat")
    with pytest.raises(ValueError, match=r"start sums to 0\.5"):
        selfreg.frontier(mdp, {"start": 0.5})


# ---- Gymnasium -------------------------------------------------------------------------------------------------------


def returns(P, policy, discount: float, sweeps: int = 4000) -> np.ndarray:
    """Discounted sum of rewards of a policy (states, actions), or of the best one, by plain sweeps over the table."""
    value = np.zeros(len(P))
    for _ in range(sweeps):
        q = np.array(
            [[sum(p * (r + (0 if d else discount * value[j])) for p, j, r, d in P[s][a]) for a in P[s]] for s in P]
        )
        value = q.max(axis=1) if policy is None else (q * policy).sum(axis=1)
    return value


@pytest.fixture
def lake():
    gymnasium = pytest.importorskip("gymnasium")
    return gymnasium.make("FrozenLake-v1", map_name="4x4", is_slippery=True)


def test_frozen_lake(lake) -> None:
    mdp = selfreg.InterventionMDP.from_gymnasium(lake)
    P = lake.unwrapped.P
    assert mdp.n_states == 16
    assert np.flatnonzero(mdp.terminal).tolist() == [5, 7, 11, 12, 15]
    live = ~mdp.terminal
    uniform = returns(P, np.full((16, 4), 0.25), 1.0, 600)
    np.testing.assert_allclose(selfreg.solve(mdp, 0).value[live, 0], uniform[live], atol=1e-9)
    always = [selfreg.evaluate_policy(mdp, ["help"] * 16, s).success for s in np.flatnonzero(live).tolist()]
    np.testing.assert_allclose(always, returns(P, None, 1.0, 1500)[live], atol=1e-6)


def test_an_optimal_policy_does_not_wait_for_ever() -> None:
    """Without slipping every state that can reach the goal has value 1, and standing still looks as good as walking."""
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    mdp = selfreg.InterventionMDP.from_gymnasium(env)
    assert selfreg.evaluate_policy(mdp, ["help"] * 16, 0).success == 1.0


def random_table(generator: np.random.Generator, n: int = 5):
    """A table with rewards of any size, of which some entries end episodes in states that are not terminal."""

    def entries():
        chance = generator.dirichlet(np.ones(3))
        return [
            (p, int(generator.integers(n)), float(generator.normal()), bool(generator.random() < 0.2)) for p in chance
        ]

    P = {s: {a: entries() for a in range(2)} for s in range(n - 1)}
    P[n - 1] = {a: [(1.0, n - 1, 0.0, True)] for a in range(2)}
    return P


@pytest.mark.parametrize("seed", range(6))
def test_discounted_rewards(seed) -> None:
    generator = np.random.default_rng(seed)
    P, policy = random_table(generator), generator.dirichlet(np.ones(2), size=5)
    policies = {"nohelp": policy, "help": "optimal"}
    mdp = selfreg.InterventionMDP.from_gymnasium(P, policies, discount=0.8)
    rewards = [entry[2] for row in P.values() for entries in row.values() for entry in entries]
    low, high = min(rewards), max(rewards)
    live = np.flatnonzero(~mdp.terminal)[:4].tolist()
    for action, expected in (("nohelp", returns(P, policy, 0.8, 200)), ("help", returns(P, None, 0.8, 200))):
        value = [selfreg.evaluate_policy(mdp, [action] * mdp.n_states, s).success for s in live]
        np.testing.assert_allclose((low + np.array(value) * (high - low)) / (1 - 0.8), expected[live], atol=1e-6)


def test_rewards_at_the_end_become_terminal_states() -> None:
    P = {0: {0: [(0.5, 1, 0.25, True), (0.5, 1, 0.75, True)]}, 1: {0: [(1.0, 1, 0.0, True)]}}
    mdp = selfreg.InterventionMDP.from_gymnasium(P, {"nohelp": [0, 0]})
    assert selfreg.solve(mdp, 0).value[0].tolist() == [0.5]
    assert np.nan_to_num(mdp.terminal_value, nan=-1).tolist() == [-1, 0, 0.25, 0.75]


@pytest.mark.parametrize(
    ("P", "options", "error", "message"),
    [
        ({0: {0: [(1.0, 0, -1.0, False)]}}, {}, ValueError, r"P\[0\]\[0\] pays -1 before the end"),
        (
            {0: {0: [(1.0, 0, 20.0, True)], 1: [(1.0, 0, 0.0, False)]}},
            {},
            ValueError,
            r"P\[0\]\[0\] pays 20 outside of",
        ),
        ({0: {0: [(0.9, 0, 0.0, True)]}}, {}, ValueError, r"P\[0\]\[0\] sums to 0.9"),
        ({0: {0: [(1.0, 3, 0.0, True)]}}, {}, ValueError, r"P\[0\]\[0\] has \(1.0, 3, 0.0, True\)"),
        ({0: {0: [(1.0, 0)]}}, {}, ValueError, r"P\[0\]\[0\] has \(1.0, 0\)"),
        ({1: {0: []}}, {}, ValueError, "P lacks 0"),
        (object(), {}, TypeError, "env is a object without a table P"),
        (
            {0: {0: [(1.0, 0, 0.0, False)]}},
            {"policies": {"nohelp": "best"}},
            ValueError,
            r"policies\['nohelp'\] is 'best'",
        ),
        (
            {0: {0: [(1.0, 0, 0.0, False)]}},
            {"policies": {"nohelp": [4]}},
            ValueError,
            r"of state 0 is 4; expected an action",
        ),
        (
            {0: {0: [(1.0, 0, 0.0, False)]}},
            {"policies": {"nohelp": np.ma.masked_array([0], [True])}},
            TypeError,
            r"policies\['nohelp'\] is a masked array",
        ),
        ({0: {0: [(1.0, 0, 0.0, False)]}}, {"discount": 1.5}, ValueError, "discount is 1.5"),
    ],
)
def test_wrong_tables_are_named(P, options, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.InterventionMDP.from_gymnasium(P, **options)


# ---- discounting and finite horizons ---------------------------------------------------------------------------------


def values_by_step(mdp, budget: int, steps: int, discount: float, end: float) -> np.ndarray:
    """Value (n, budget + 1) of at most so many steps, by recursion over steps with dense matrices."""
    terminal, final = mdp.terminal, np.where(mdp.terminal, mdp.terminal_value, end)
    value = np.repeat(final[:, None], budget + 1, axis=1)
    for _ in range(steps):
        after = np.repeat(np.where(terminal, final, -1.0)[:, None], budget + 1, axis=1)
        for name, (cost,) in zip(mdp.actions, mdp.cost_table.tolist(), strict=True):
            rows = mdp.transitions[name].toarray()
            for b in range(cost, budget + 1):
                choice = np.where(mdp.available(name), discount * (rows @ value[:, b - cost]), -1.0)
                after[:, b] = np.maximum(after[:, b], choice)
        value = after
    return value


@given(strategies.models(budgets=1), st.integers(0, 4), st.sampled_from([0.0, 0.5]))
def test_unrolled_is_the_recursion_over_steps(case, horizon, end) -> None:
    mdp, (budget,) = case
    value = selfreg.solve(mdp.unrolled(horizon, end=end), budget).value
    np.testing.assert_allclose(
        value.reshape(horizon + 1, mdp.n_states, -1)[0], values_by_step(mdp, budget, horizon, 1.0, end), atol=1e-12
    )


@given(strategies.models(budgets=1))
def test_discounted_is_the_recursion_with_a_factor(case) -> None:
    mdp, (budget,) = case
    value = selfreg.solve(mdp.discounted(0.5), budget).value[:-1]
    np.testing.assert_allclose(value, values_by_step(mdp, budget, 60, 0.5, 0.0), atol=1e-8)


def test_names_and_visits_of_changed_models() -> None:
    mdp = make(ROWS, ENDS, visits={"nohelp": {"start": 9, "trouble": 4}, "help": {"trouble": 2}})
    assert mdp.unrolled(2).visits["nohelp"].tolist() == [9, 4, 0, 0] * 3
    assert mdp.unrolled(1).states[4] == (1, "start")
    assert mdp.discounted(0.9).states[-1] == "stopped"
    assert mdp.discounted(0.9).discounted(0.9).states[-1] == "stopped 2"
    assert mdp.discounted(0.9).visits["help"].tolist() == [0, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mdp: mdp.discounted(1), "discount is 1; expected a number between 0 and 1"),
        (lambda mdp: mdp.unrolled(-1), "horizon is -1"),
        (lambda mdp: mdp.unrolled(2, end=1.5), "end is 1.5; expected a probability"),
    ],
)
def test_wrong_changes_are_named(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        change(make(ROWS, ENDS))


def test_ends_by_state_and_costs_of_1_by_default() -> None:
    rows = {"nohelp": {"a": {"won": 0.5, "lost": 0.5}}, "help": {"a": "won"}}
    states = ["a", "won", "lost"]
    named = selfreg.InterventionMDP(rows, {"won": 1, "lost": 0}, states=states)
    listed = selfreg.InterventionMDP(rows, [None, 1, 0], {"help": 1}, states=states)
    assert named.costs == listed.costs == {"help": (1,)}
    assert selfreg.solve(named, 1).value.tolist() == selfreg.solve(listed, 1).value.tolist()
    numbered = selfreg.InterventionMDP({"nohelp": [[0, 0.5, 0.5], [0] * 3, [0] * 3]}, {1: 1, 2: 0})
    assert numbered.terminal.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("ends", "error", "message"),
    [
        ({"won": 1, "lsot": 0}, ValueError, "terminal_value has 'lsot', an unknown state; did you mean 'lost'"),
        ({"won": 2, "lost": 0}, ValueError, r"terminal_value\['won'\] is 2; expected a number in \[0, 1\]"),
        ({"won": "yes"}, TypeError, r"terminal_value\['won'\] is 'yes'"),
    ],
)
def test_wrong_ends_are_named(ends, error, message) -> None:
    rows = {"nohelp": {"a": {"won": 0.5, "lost": 0.5}}}
    with pytest.raises(error, match=message):
        selfreg.InterventionMDP(rows, ends, states=["a", "won", "lost"])
    with pytest.raises(TypeError, match="pass states="):
        selfreg.InterventionMDP({"nohelp": {0: 1}}, {1: 1})
