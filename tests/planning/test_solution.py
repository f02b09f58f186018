"""What solutions, frontiers and simulations say of themselves, and the forms of policies that are evaluated."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given

import selfreg
import strategies
from selfreg.planning.simulation import MeanError

NAN = np.nan


@pytest.fixture
def mdp() -> selfreg.InterventionMDP:
    return selfreg.InterventionMDP.from_dict(
        {
            "start": {"nohelp": {"done": 0.6, "trouble": 0.4}, "help": {"done": 0.7, "trouble": 0.3}},
            "trouble": {"nohelp": {"done": 0.1, "lost": 0.9}, "help": {"done": 0.8, "lost": 0.2}},
        },
        {"done": 1, "lost": 0},
    )


# ---- explain ---------------------------------------------------------------------------------------------------------


def test_explain_by_hand(mdp) -> None:
    """From start with one unit: alone 0.6 + 0.4 * 0.8; help now leaves trouble without help, 0.7 + 0.3 * 0.1."""
    reason = selfreg.solve(mdp, 2).explain("start", 1)
    assert (reason.state, reason.budget, reason.action) == ("start", (1,), "nohelp")
    assert reason.values == pytest.approx({"nohelp": 0.92, "help": 0.73})
    assert reason.last_unit == pytest.approx((0.92 - 0.64,))
    assert str(reason).splitlines()[0] == "state start, budget left 1: nohelp"


def test_explain_names_what_cannot_be_done(mdp) -> None:
    solution = selfreg.solve(mdp, 1)
    assert solution.explain("start", 0).excluded == {"help": "costs more than is left"}
    assert np.isnan(solution.explain("start", 0).last_unit[0])
    assert solution.explain("done", 1).action is None
    assert str(solution.explain("lost", 1)) == "state lost: terminal, value 0"
    with pytest.raises(ValueError, match="'strat', an unknown state; did you mean 'start'"):
        solution.explain("strat", 1)
    with pytest.raises(ValueError, match="budget 5 is beyond the lattice"):
        solution.explain("start", 5)


@given(strategies.models())
def test_explain_has_the_entries_of_q(case) -> None:
    model, budget = case
    solution = selfreg.solve(model, budget)
    for place in np.ndindex(solution.value.shape):
        reason = solution.explain(place[0], place[1:])
        expected = {name: q for name in model.actions if not np.isnan(q := solution.q(name)[place])}
        assert reason.values == pytest.approx(expected, abs=1e-12)
        if reason.values:
            assert reason.values[reason.action] == pytest.approx(reason.value, abs=1e-8)


def test_explain_of_a_robust_plan(mdp) -> None:
    robust = selfreg.solve(mdp, 1, robust=selfreg.L1(radius=0.2))
    reason = robust.explain("trouble", 1)
    assert reason.values == pytest.approx({"nohelp": 0.0, "help": 0.7})
    assert reason.value == pytest.approx(0.7)


@pytest.mark.parametrize("robust", [None, selfreg.L1(radius=0.1)])
def test_q_at_is_an_entry_of_q_and_checks_the_budget(mdp, robust) -> None:
    solution = selfreg.solve(mdp, 2, robust=robust)
    for left in (1, np.int64(1), (1,), [1], np.array([1])):
        assert solution.q_at("help", "start", left) == pytest.approx(solution.q("help")[0, 1], abs=1e-12)
    assert np.isnan(solution.q_at("help", "start", 0))
    for left, error, message in (
        (3, ValueError, r"budget 3 is beyond the lattice .* ends at \(2,\)"),
        (-1, ValueError, "budget is -1; expected an int >= 0"),
        ((1, 1), ValueError, r"budget \(1, 1\) has 2 entries"),
        ("1", TypeError, "budget is '1'"),
        (True, TypeError, "budget is True"),
        (None, TypeError, "budget is None"),
        (np.ma.masked_array(1, True), TypeError, "budget is a masked array"),
    ):
        for ask in (lambda left: solution.q_at("help", "start", left), lambda left: solution.explain("start", left)):
            with pytest.raises(error, match=message):
                ask(left)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "robust", [None, selfreg.L1(radius={"nohelp": [0.1] * 4, "help": 0.2}), selfreg.Intervals(width=0.1)]
)
def test_saved_solutions_are_the_same(mdp, tmp_path, robust) -> None:
    solution = selfreg.solve(mdp, 2, robust=robust, dtype=np.float32)
    solution.save(tmp_path / "plan")
    for mmap in (False, True):
        again = selfreg.Solution.load(tmp_path / "plan", mmap=mmap)
        assert type(again) is type(solution)
        assert again.value.dtype == solution.value.dtype
        assert (again.budget, again.bound, again.mdp.states) == (solution.budget, solution.bound, mdp.states)
        for name in ("value", "policy"):
            np.testing.assert_array_equal(getattr(again, name), getattr(solution, name))
        np.testing.assert_array_equal(again.q("help"), solution.q("help"))


def test_only_saved_solutions_are_replaced(mdp, tmp_path) -> None:
    solution = selfreg.solve(mdp, 1)
    solution.save(tmp_path / "plan")
    with pytest.raises(FileExistsError):
        solution.save(tmp_path / "plan")
    solution.save(tmp_path / "plan", overwrite=True)
    mdp.save(tmp_path / "model")
    with pytest.raises(FileExistsError, match=r"missing solution\.json"):
        solution.save(tmp_path / "model", overwrite=True)
    with pytest.raises(ValueError, match=r"model is not a saved solution \(missing solution.json\)"):
        selfreg.Solution.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("policy.npy", np.full((4, 2), 7, np.int8), "policy.npy do not fit the model"),
        ("policy.npy", np.zeros((4, 3), np.int8), r"policy.npy holds int8 \(4, 3\); expected int8 \(4, 2\)"),
        ("value.npy", None, "value.npy is missing"),
        ("solution.json", b"{", "solution.json is not valid JSON"),
        ("solution.json", b'{"schema": "selfreg.solution/1", "budget": [1]}', "lacks 'bound'"),
        (
            "solution.json",
            b'{"schema": "selfreg.solution/1", "budget": [-1], "bound": 0, "robust": null}',
            "list of ints",
        ),
    ],
)
def test_broken_folders_are_named(mdp, tmp_path, file, content, message) -> None:
    selfreg.solve(mdp, 1).save(tmp_path / "plan")
    target = tmp_path / "plan" / file
    target.unlink()
    if isinstance(content, bytes):
        target.write_bytes(content)
    elif content is not None:
        np.save(target, content)
    with pytest.raises(ValueError, match=message):
        selfreg.Solution.load(tmp_path / "plan")


# ---- policies --------------------------------------------------------------------------------------------------------


def wait(state, left=0):
    return "help" if state == "trouble" and left else "nohelp"


def test_forms_of_one_policy_have_one_value(mdp) -> None:
    indices = np.array([[0, 0], [0, 1], [0, 0], [0, 0]])
    names = np.array(mdp.actions)[indices]
    expected = selfreg.evaluate_policy(mdp, indices, 0, budget=1)
    for policy in (names, names.tolist(), wait, selfreg.solve(mdp, 1)):
        result = selfreg.evaluate_policy(mdp, policy, "start", budget=1)
        assert (result.success, result.requests) == (expected.success, expected.requests)
        runs = selfreg.simulate(mdp, policy, "start", 50, budget=1, n_threads=1)
        assert runs.success.tolist() == selfreg.simulate(mdp, indices, 0, 50, budget=1, n_threads=1).success.tolist()


def test_policies_without_a_budget(mdp) -> None:
    by_name = {"start": "nohelp", "trouble": "help"}
    for policy in (by_name, by_name.get, ["nohelp", "help", None, None], {0: 0, 1: 1}):
        assert selfreg.evaluate_policy(mdp, policy, "start").success == pytest.approx(0.92)


def test_a_solution_brings_its_budget(mdp) -> None:
    solution = selfreg.solve(mdp, 2)
    assert selfreg.evaluate_policy(mdp, solution, "start").success == pytest.approx(solution.value[0, 2])
    assert selfreg.evaluate_policy(mdp, solution, "start", budget=1).success == pytest.approx(solution.value[0, 1])
    np.testing.assert_allclose(selfreg.evaluate_policy(mdp, solution).success, solution.value)
    assert selfreg.simulate(mdp, solution, "start", 20, n_threads=1).usage.max() == 2


@given(strategies.models())
def test_the_value_of_a_solution_is_evaluated(case) -> None:
    model, budget = case
    solution = selfreg.solve(model, budget)
    np.testing.assert_allclose(selfreg.evaluate_policy(model, solution).success, solution.value, atol=1e-8)


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ({"start": "help"}, ValueError, "policy has no action for state 'trouble'"),
        ({"strat": "help"}, ValueError, "'strat', an unknown state"),
        (lambda state: "hlep", ValueError, "policy of state 'start' is 'hlep', an unknown action"),
        (lambda state: None, TypeError, "policy of state 'start' is None"),
        (lambda state: 4, ValueError, r"policy of state 'start' is 4; expected 0\.\.1"),
        (None, TypeError, "policy is of type NoneType; expected a Solution, a function, a mapping"),
        (np.ma.masked_array([1, 0, 0, 0], [1, 0, 0, 0]), TypeError, "policy is a masked array"),
        ([[1, 0, 0, 0], [1]], ValueError, "policy has rows of different lengths"),
        ({"start": 0, 9: 0}, ValueError, r"a state of policy is 9; expected 0\.\.3"),
        ("halp", ValueError, "policy is 'halp', an unknown action; expected one of"),
        (["help", "hlep", None, None], ValueError, r"policy\[1\] is 'hlep', an unknown action"),
    ],
)
def test_wrong_policies_are_named(mdp, policy, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.evaluate_policy(mdp, policy, 0)
    with pytest.raises(error, match=message):
        selfreg.simulate(mdp, policy, 0, 5)


def test_the_name_of_an_action_is_taken_wherever_it_can_be(mdp) -> None:
    everywhere = ["help" if mdp.transitions["help"][[s]].sum() else "nohelp" for s in range(mdp.n_states)]
    alone = selfreg.evaluate_policy(mdp, "nohelp", 0)
    assert (alone.success, alone.usage[0]) == (selfreg.solve(mdp, 0).value[0, 0], 0)
    assert selfreg.evaluate_policy(mdp, "help", 0).success == selfreg.evaluate_policy(mdp, everywhere, 0).success
    for budget in (0, 1, 2):
        always = selfreg.evaluate_policy(mdp, "help", 0, budget=budget)
        assert always.usage[0] <= budget
        assert selfreg.simulate(mdp, "help", 0, 200, budget=budget, seed=0).usage.max() <= budget
        assert always.success <= selfreg.solve(mdp, budget).value[0, budget] + 1e-12


def test_a_function_of_the_state_alone_is_taken_with_a_budget_too(mdp) -> None:
    state_only = selfreg.evaluate_policy(mdp, lambda state: "nohelp", 0, budget=1)
    assert state_only.success == selfreg.evaluate_policy(mdp, lambda state, left: "nohelp", 0, budget=1).success
    with_rest = selfreg.evaluate_policy(mdp, lambda *both: "nohelp" if len(both) == 2 else "help", 0, budget=1)
    assert with_rest.usage[0] == 0


def test_a_plan_for_other_actions_is_refused(mdp) -> None:
    other = selfreg.InterventionMDP.from_dict({"a": {"nohelp": "b", "expert": "b"}}, {"b": 1})
    with pytest.raises(ValueError, match=r"policy is for the actions \('nohelp', 'expert'\)"):
        selfreg.simulate(mdp, selfreg.solve(other, 1), 0, 5)
    for policy, kind in ((wait, "function"), ("help", "name")):
        with pytest.raises(TypeError, match=f"policy is a {kind}, which needs start="):
            selfreg.evaluate_policy(mdp, policy)


def test_what_is_no_policy_is_named(mdp) -> None:
    mixture = selfreg.frontier(mdp, 0).at(0.5)
    whole, mixed = selfreg.solve(mdp, 1, keep="start", start=0), selfreg.constrained(mdp, 0, 0.5)
    for policy in (whole, mixture, mixed, mdp.transitions["help"], sp.dok_array((4, 4))):
        for call in (lambda p: selfreg.evaluate_policy(mdp, p, 0), lambda p: selfreg.simulate(mdp, p, 0, 1)):
            with pytest.raises(TypeError, match=f"policy is of type {type(policy).__name__}; expected a Solution"):
                call(policy)


# ---- simulation ------------------------------------------------------------------------------------------------------


def test_summary_is_mean_and_standard_error(mdp) -> None:
    runs = selfreg.simulate(mdp, selfreg.solve(mdp, 2), "start", 400, n_threads=1)
    summary, p = runs.summary(), runs.success.mean()
    assert summary.success.mean == p
    assert summary.success.error == pytest.approx(np.sqrt(p * (1 - p) / 399))
    assert summary.usage[0].mean == runs.usage.mean()
    assert abs(p - 0.94) < 4 * summary.success.error
    assert len(repr(runs).splitlines()) == 1


def test_summaries_of_no_and_one_episode(mdp) -> None:
    for episodes in (0, 1):
        summary = selfreg.simulate(mdp, ["nohelp"] * 4, 0, episodes).summary()
        assert np.isnan(summary.success.error)
    assert np.isnan(selfreg.simulate(mdp, ["nohelp"] * 4, 0, 0).summary().success.mean)
    cut = selfreg.simulate(mdp, ["nohelp"] * 4, 0, 3, max_steps=0).summary()
    assert cut.cut_off == 3
    assert cut.success == MeanError(0.0, 0.0)


def test_seeds(mdp) -> None:
    def successes(seed):
        runs = selfreg.simulate(mdp, ["nohelp"] * 4, 0, 64, seed=seed, n_threads=1)
        again = selfreg.simulate(mdp, ["nohelp"] * 4, 0, 64, seed=runs.seed, n_threads=1)
        assert runs.success.tolist() == again.success.tolist()
        return runs.success.tolist()

    assert successes(np.random.default_rng(1)) == successes(np.random.default_rng(1))
    assert successes(None) != successes(None)
    generator = np.random.default_rng(1)
    assert successes(generator) != successes(generator)
    with pytest.raises(TypeError, match="seed is 'one'"):
        selfreg.simulate(mdp, ["nohelp"] * 4, 0, 64, seed="one")


# ---- pictures and tables ---------------------------------------------------------------------------------------------


def test_plots_show_the_values(mdp) -> None:
    from matplotlib.figure import Figure

    solution, front = selfreg.solve(mdp, 2), selfreg.frontier(mdp, "start")
    axes = solution.plot(["trouble"])
    assert axes.lines[0].get_ydata().tolist() == solution.value[1].tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["trouble"]
    assert len(solution.plot().lines) == 2
    own = Figure().subplots()
    assert front.plot(own) is own
    assert own.lines[0].get_ydata().tolist() == front.success.tolist()
    with pytest.raises(ValueError, match="'truble', an unknown state; did you mean 'trouble'"):
        solution.plot(["truble"])
    for states in (0, "trouble"):
        with pytest.raises(TypeError, match=r"states is .*; expected a sequence of states"):
            solution.plot(states)


def test_a_plot_of_two_budgets_is_an_image(mdp) -> None:
    two = selfreg.InterventionMDP(mdp.transitions, mdp.terminal_value, {"help": (1, 2)})
    solution = selfreg.solve(two, (2, 3))
    np.testing.assert_array_equal(solution.plot([1]).images[0].get_array(), solution.value[1])
    with pytest.raises(ValueError, match="2 states and 2 budgets"):
        solution.plot([0, 1])


def test_tables_of_pandas(mdp) -> None:
    pytest.importorskip("pandas")
    solution, front = selfreg.solve(mdp, 2), selfreg.frontier(mdp, 0)
    frame = solution.to_pandas().set_index(["state", "budget"])
    assert len(frame) == 2 * 3
    assert frame.loc[("start", 1)].to_dict() == {"action": "nohelp", "value": solution.value[0, 1]}
    assert front.to_pandas().success.tolist() == front.success.tolist()
    assert selfreg.simulate(mdp, solution, 0, 9).to_pandas().shape == (9, 4)
    two = selfreg.InterventionMDP(mdp.transitions, mdp.terminal_value, {"help": (1, 2)})
    assert list(selfreg.solve(two, (1, 2)).to_pandas()) == ["state", "budget_1", "budget_2", "action", "value"]


def test_missing_pandas_is_named(mdp, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"Frontier.to_pandas needs pandas, .*pip install pandas"):
        selfreg.frontier(mdp, 0).to_pandas()


def test_results_have_short_names(mdp) -> None:
    solution, front = selfreg.solve(mdp, 2), selfreg.frontier(mdp, 0)
    results = [
        mdp,
        solution,
        front,
        front.at(0.5),
        selfreg.reward_search(mdp, 0, 0.5),
        selfreg.solve_penalized(mdp, [0.1, 0.2]),
        selfreg.evaluate_policy(mdp, solution),
        selfreg.evaluate_policy(mdp, solution, 0),
        selfreg.solve(mdp, 2, keep="start", start=0),
        selfreg.constrained(mdp, 0, [0.5]),
        selfreg.allocate([(solution, 0), (solution, 0)], 3),
        selfreg.hard_cap_price(mdp, 0, [0, 1]),
        selfreg.simulate(mdp, solution, 0, 100),
    ]
    for result in results:
        text = repr(result)
        assert text.startswith(type(result).__name__), text
        assert len(text) < 400, text
        assert "\n" not in text, text
        assert " at 0x" not in text, text


def test_the_table_of_several_budgets_names_the_others(mdp) -> None:
    two = selfreg.InterventionMDP(mdp.transitions, mdp.terminal_value, {"help": (1, 2)}, states=mdp.states)
    solution = selfreg.solve(two, (1, 3))
    html = solution._repr_html_()
    assert "<th>state</th><th>(0, 3) left</th><th>(1, 3) left</th>" in html
    assert (
        f"<td>trouble</td><td>nohelp {solution.value[1, 0, 3]:.3f}</td><td>help {solution.value[1, 1, 3]:.3f}" in html
    )
    assert "<th>state</th><th>0 left</th><th>1 left</th>" in selfreg.solve(mdp, 1)._repr_html_()


def test_html_is_escaped() -> None:
    mdp = selfreg.InterventionMDP.from_dict({"<b>a</b>": {"nohelp": "end", "help": "end"}}, {"end": 1})
    for result in (mdp, selfreg.solve(mdp, 1)):
        html = result._repr_html_()
        assert "&lt;b&gt;a&lt;/b&gt;" in html
        assert "<b>" not in html
    assert "<td>" in selfreg.frontier(mdp, 0)._repr_html_()
