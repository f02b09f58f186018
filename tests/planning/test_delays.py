"""Help that comes late or never: the transformed model against a recursion over requests, and against plain cases."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import selfreg

LIVE = 7


def random_model(seed: int, n_budgets: int = 1) -> selfreg.InterventionMDP:
    """Acyclic: states lead to later ones, then to success or failure; help is missing in some."""
    random = np.random.default_rng(seed)
    tables = {}
    for name in ("nohelp", "model", "person"):
        table = np.zeros((LIVE + 2, LIVE + 2))
        for i in range(LIVE):
            weights = random.random(LIVE + 1 - i) * (random.random(LIVE + 1 - i) < 0.6)
            weights[random.integers(len(weights))] += 0.1
            table[i, i + 1 :] = weights / weights.sum()
        if name != "nohelp":
            table[random.random(LIVE + 2) < 0.2] = 0
        tables[name] = table
    value = [*[np.nan] * LIVE, 0.9, 0.1]
    costs = {"model": 1, "person": 2} if n_budgets == 1 else {"model": (1, 0), "person": (0, 1)}
    return selfreg.InterventionMDP(tables, value, costs)


def true_values(mdp: selfreg.InterventionMDP, arrival: list[float], budget: int) -> list[list[float]]:
    """Success from each state without a request, by enumeration of when help comes; one budget."""
    rows = {name: mdp.transitions[name].toarray() for name in mdp.actions}
    cost = {name: units[0] for name, units in mdp.costs.items()}

    def go(name: str, state: int, after) -> float:
        return sum(p * after(j) for j, p in enumerate(rows[name][state]) if p)

    @cache
    def value(state: int, left: int) -> float:
        if mdp.terminal[state]:
            return float(mdp.terminal_value[state])
        options = [go("nohelp", state, lambda j: value(j, left))]
        if rows["model"][state].any() and left >= cost["model"]:
            options.append(go("model", state, lambda j: value(j, left - cost["model"])))
        if rows["person"][state].any() and left >= cost["person"]:
            options.append(requested(state, left, 0))
        return max(options)

    @cache
    def requested(state: int, left: int, age: int) -> float:
        """With a request of this age that nobody has answered before, which holds its units."""
        if mdp.terminal[state]:
            return float(mdp.terminal_value[state])
        if age == len(arrival):
            return value(state, left)
        nobody = 1 - sum(arrival[:age])
        comes = arrival[age] / nobody if nobody > 1e-12 else 0.0
        answered = go("nohelp", state, lambda j: value(j, left))
        if rows["person"][state].any():
            answered = max(answered, go("person", state, lambda j: value(j, left - cost["person"])))
        # After the last age the request is closed, and the state is like any other, but for age 0.
        if age and age == len(arrival) - 1:
            alone = value(state, left)
        else:
            alone = go("nohelp", state, lambda j: requested(j, left, age + 1))
        return comes * answered + (1 - comes) * alone

    return [[value(state, b) for b in range(budget + 1)] for state in range(mdp.n_states)]


ARRIVALS = ([1.0], [0.6], [0.0], [0.2, 0.3], [0.0, 0.0, 0.7], [0.1, 0.2, 0.0, 0.3, 0.1], [0.5, 0.5], [0.0, 1.0, 0.0])


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_all_ways_that_help_can_come(seed, arrival) -> None:
    mdp = random_model(seed)
    delayed = selfreg.delay_help(mdp, "person", arrival)
    found = selfreg.solve(delayed, 4).value[: mdp.n_states]
    np.testing.assert_allclose(found, true_values(mdp, arrival, 4), rtol=0, atol=1e-12)


def test_help_that_comes_at_once_or_never_is_the_model_itself() -> None:
    mdp = random_model(5)
    value = selfreg.solve(mdp, 4).value
    at_once = selfreg.solve(selfreg.delay_help(mdp, "person", [1]), 4)
    np.testing.assert_allclose(at_once.value[: mdp.n_states], value, atol=1e-12)
    without = {name: table for name, table in mdp.transitions.items() if name != "person"}
    alone = selfreg.solve(selfreg.InterventionMDP(without, mdp.terminal_value, {"model": 1}), 4)
    for never in ([0], [0, 0, 0]):
        found = selfreg.solve(selfreg.delay_help(mdp, "person", never), 4)
        np.testing.assert_allclose(found.value[: mdp.n_states], alone.value, atol=1e-12)


def test_more_or_earlier_help_is_worth_no_less() -> None:
    mdp = random_model(6)

    def value(arrival: list[float]):
        return selfreg.solve(selfreg.delay_help(mdp, "person", arrival), 4).value[: mdp.n_states]

    for worse, better in (([0.3], [0.4]), ([0.2, 0.2], [0.2, 0.4])):
        assert (value(worse) <= value(better) + 1e-12).all()


def test_only_the_answer_is_paid_for() -> None:
    """Expected usage is that of answered requests: 0.8 of one unit."""
    alone = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
    helped = np.array([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "person": helped}, [np.nan, 1, 0], {"person": 3})
    delayed = selfreg.delay_help(mdp, "person", [0.8])
    assert dict(delayed.costs) == {"person": (0,), "person given": (3,)}
    usage = selfreg.expected_usage(selfreg.solve(delayed, 3))
    assert usage[0, 3].tolist() == pytest.approx([2.4])
    front = selfreg.frontier(delayed, 0)
    assert (front.usage[-1], front.success[-1]) == pytest.approx((2.4, 0.9))


def test_several_budgets_and_models_with_cycles() -> None:
    both = selfreg.delay_help(random_model(2, n_budgets=2), "person", [0.3, 0.4])
    assert (both.costs["person"], both.costs["person given"]) == ((0, 0), (0, 1))
    assert selfreg.solve(both, (2, 1)).value.shape == (both.n_states, 3, 2)
    # The agent tries again until it fails; help that comes two tries later ends it well.
    alone = np.array([[0.9, 0, 0.1], [0, 0, 0], [0, 0, 0]])
    helped = np.array([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "person": helped}, [np.nan, 1, 0], {"person": 1})
    value = selfreg.solve(selfreg.delay_help(mdp, "person", [0, 0, 0.5]), 1).value[0, 1]
    once = 0.81 * 0.5  # two tries survived, and answered; else the next request
    assert value == pytest.approx(once / (1 - 0.81 * 0.5), abs=1e-8)


def test_states_keep_their_names() -> None:
    mdp = selfreg.InterventionMDP.from_dict(
        {"work": {"nohelp": {"stuck": 0.5, "done": 0.5}}, "stuck": {"nohelp": "lost", "person": "done"}},
        {"done": 1, "lost": 0},
        costs={"person": 1},
    )
    slow = selfreg.delay_help(mdp, "person", [0.1, 0.2, 0.3])
    added = [(block, name) for block in ("person given", "person open 1") for name in ("work", "stuck")]
    assert list(slow.states) == [*mdp.states, *added]
    assert selfreg.solve(slow, 1).value[slow.state_index("stuck"), 1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("help", "arrival", "message"),
    [
        ("nohelp", [1], "help is 'nohelp'; expected a help type of the model: model, person"),
        ("oracle", [1], "help is 'oracle'"),
        ("person", [], "arrival is empty"),
        ("person", [0.6, 0.5], "arrival sums to 1.1; expected at most 1"),
        ("person", [0.5, -0.1], r"arrival\[1\]"),
        ("person", [float("nan")], r"arrival\[0\]"),
        ("person", 0.5, "arrival is 0.5; expected a sequence of probabilities"),
        ("person", "1", "arrival is '1'; expected a sequence of probabilities"),
        (["person"], [1], r"help is \['person'\]; expected a help type"),
        ("person given", [1], "the model has the action"),
    ],
)
def test_misuse_is_named(help, arrival, message) -> None:
    mdp = random_model(0)
    if help == "person given":
        mdp, help = selfreg.delay_help(mdp, "person", [1]), "person"
    with pytest.raises((ValueError, TypeError), match=message):
        selfreg.delay_help(mdp, help, arrival)
