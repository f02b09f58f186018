"""Models of UMB files that the package `umbi` writes, against models made by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import selfreg

ats = pytest.importorskip("umbi.ats", reason="needs the extra umb")


def write(path: Path, choices, goal=(), rewards=None, state_rewards=None, branch_rewards=None, change=None) -> Path:
    """A file of `choices`: one list of rows a state, a row being a dict of state to probability."""
    model = ats.ExplicitAts()
    for _ in choices:
        model.add_state()
    for state, rows in enumerate(choices):
        for row in rows:
            choice = model.add_state_choice(state)
            for target, probability in row.items():
                choice.add_branch(target, probability)
    model.set_initial_states([0])
    model.add_ap_annotation("goal", alias="done").set_state_values([s in goal for s in range(len(choices))])
    model.add_ap_annotation("other").set_state_values([False] * len(choices))
    for name, values in (rewards or {}).items():
        model.add_reward_annotation(name).set_choice_values(values)
    for name, values in (state_rewards or {}).items():
        model.add_reward_annotation(name).set_state_values(values)
    for name, values in (branch_rewards or {}).items():
        model.add_reward_annotation(name).set_branch_values(values)
    if change is not None:
        change(model)
    ats.write(model, path / "model.umb")
    return path / "model.umb"


# Half alone, or nine times in ten for 2; a free second choice loses; state 1 is the goal, 2 has no choices.
CHOICES = [[{1: 0.5, 2: 0.5}, {2: 1.0}, {1: 0.9, 2: 0.1}], [{1: 1.0}], []]
COAL = {"coal": [0, 0, 2, 0]}


def test_rewards_become_budgets(tmp_path) -> None:
    mdp = selfreg.InterventionMDP.from_umb(write(tmp_path, CHOICES, [1], COAL), budgets=["coal"])
    assert mdp.actions == ("nohelp", "choice 2", "coal 2")
    assert dict(mdp.costs) == {"choice 2": (0,), "coal 2": (2,)}
    np.testing.assert_array_equal(mdp.terminal_value, [np.nan, 1, 0])
    assert selfreg.solve(mdp, 3).value[0].tolist() == [0.5, 0.5, 0.9, 0.9]


def test_without_budgets_every_choice_is_free(tmp_path) -> None:
    mdp = selfreg.InterventionMDP.from_umb(write(tmp_path, CHOICES, [1], COAL), "done")
    assert mdp.actions == ("nohelp", "choice 2", "choice 3")
    assert selfreg.solve(mdp, 0).value[0].tolist() == [0.9]


def test_several_budgets_and_rewards_of_states(tmp_path) -> None:
    choices = [[{1: 1.0}, {1: 0.5, 3: 0.5}], [{2: 1.0}], [{2: 1.0}], []]
    path = write(tmp_path, choices, [2], {"time": [1, 0, 0, 0]}, {"coal": [0, 3, 9, 0]})
    mdp = selfreg.InterventionMDP.from_umb(path, budgets=("coal", "time"))
    assert dict(mdp.costs) == {"coal 3": (3, 0), "time 1": (0, 1)}
    value = selfreg.solve(mdp, (3, 1)).value[0]
    assert value[2].tolist() == [0, 0]  # waits in state 1
    assert value[3].tolist() == [0.5, 1.0]


def test_fractions_and_zero_branches(tmp_path) -> None:
    path = write(
        tmp_path, [[{0: Fraction(1, 3), 1: Fraction(1, 3), 2: Fraction(1, 3), 3: Fraction(0)}], [], [], []], [1]
    )
    mdp = selfreg.InterventionMDP.from_umb(path)
    assert mdp.transitions["nohelp"].nnz == 3
    assert selfreg.solve(mdp, 0).value[0, 0] == pytest.approx(0.5, abs=1e-15)


def random_choices(random: np.random.Generator, n: int) -> list[list[dict[int, float]]]:
    result = []
    for _ in range(n):
        rows = []
        for _ in range(random.integers(0, 4)):
            heads = random.choice(n, size=random.integers(1, min(n, 4) + 1), replace=False)
            rows.append(dict(zip(heads.tolist(), random.dirichlet(np.ones(len(heads))).tolist(), strict=True)))
        result.append(rows)
    return result


def test_random_models_against_value_iteration(tmp_path) -> None:
    random = np.random.default_rng(0)
    for _ in range(25):
        n, most = int(random.integers(2, 8)), 3
        choices = random_choices(random, n)
        count, goal = sum(map(len, choices)), {int(random.integers(n))}
        coal = random.integers(0, 3, count).tolist()
        path = write(tmp_path, choices, goal, {"coal": coal} if count else None)
        mdp = selfreg.InterventionMDP.from_umb(path, budgets=["coal"] if count else ())
        value = np.zeros((n, most + 1))
        value[list(goal)] = 1.0
        for _ in range(2000):
            each = iter(coal)
            for s, rows in enumerate(choices):
                for row in rows:
                    paid = next(each)
                    if s not in goal:
                        for b in range(paid, most + 1):
                            value[s, b] = max(value[s, b], sum(p * value[j, b - paid] for j, p in row.items()))
        np.testing.assert_allclose(selfreg.solve(mdp, most).value, value, atol=1e-7)


def game(model) -> None:
    model.num_players, model.state_to_player, model.player_to_name = 2, [0, 1, 0], ["a", "b"]


def continuous(model) -> None:
    model.time, model.state_to_exit_rate = ats.TimeType.STOCHASTIC, [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("written", "read", "error", "message"),
    [
        ({}, {"goal": "success"}, ValueError, "no label 'success'; it has 'done', 'other'"),
        ({}, {"budgets": ["coal"]}, ValueError, "no reward 'coal'; it has none"),
        ({"rewards": COAL}, {"budgets": "coal"}, TypeError, "expected a sequence"),
        ({"rewards": {"coal": [0, 0, 0.5, 0]}}, {"budgets": ["coal"]}, ValueError, "choice 2 in state 0 is 0.5"),
        ({"rewards": {"coal": [0, -1, 0, 0]}}, {"budgets": ["coal"]}, ValueError, "choice 1 in state 0 is -1"),
        ({"branch_rewards": {"coal": [1, 0, 0, 0, 0, 0]}}, {"budgets": ["coal"]}, ValueError, "depends on the branch"),
        ({"change": game}, {}, ValueError, "game of 2 players"),
        ({"change": continuous}, {}, ValueError, "stochastic time"),
    ],
)
def test_what_cannot_be_read_is_named(written, read, error, message, tmp_path) -> None:
    path = write(tmp_path, CHOICES, [1], **written)
    with pytest.raises(error, match=message):
        selfreg.InterventionMDP.from_umb(path, **read)


def test_a_file_that_does_not_exist(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        selfreg.InterventionMDP.from_umb(tmp_path / "none.umb")


def test_a_file_of_another_kind(tmp_path) -> None:
    (tmp_path / "model.umb").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"model\.umb is not a UMB file"):
        selfreg.InterventionMDP.from_umb(tmp_path / "model.umb")
