"""`solve(..., out=)`: the same answers, in the caller's memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import selfreg
import strategies


def empty(solution: selfreg.Solution) -> tuple[np.ndarray, np.ndarray]:
    return np.full_like(solution.value, np.nan), np.full_like(solution.policy, 77)


@given(case=strategies.models())
def test_answers_are_those_without_out(implementation, case) -> None:
    mdp, budget = case
    for dtype in (np.float64, np.float32):
        plain = selfreg.solve(mdp, budget, dtype=dtype, implementation=implementation)
        value, policy = empty(plain)
        found = selfreg.solve(mdp, budget, dtype=dtype, out=(value, policy), implementation=implementation)
        again = selfreg.solve(mdp, budget, dtype=dtype, out=found, implementation=implementation)
        assert np.shares_memory(found.value, value)
        assert np.shares_memory(again.policy, policy)
        assert (found.bound, again.bound) == (plain.bound, plain.bound)
        np.testing.assert_array_equal(value, plain.value)
        np.testing.assert_array_equal(policy, plain.policy)


@given(case=strategies.models())
def test_robust_answers_are_those_without_out(case) -> None:
    mdp, budget = case
    plain = selfreg.solve(mdp, budget, robust=selfreg.L1(radius=0.1))
    value, policy = empty(plain)
    found = selfreg.solve(mdp, budget, robust=selfreg.L1(radius=0.1), out=(value, policy))
    assert found.value.base is value or found.value is value
    assert found.robust == plain.robust
    np.testing.assert_array_equal(value, plain.value)
    np.testing.assert_array_equal(policy, plain.policy)


def small() -> selfreg.InterventionMDP:
    alone, helped = np.zeros((3, 3)), np.zeros((3, 3))
    alone[0] = [0, 0.5, 0.5]
    helped[0] = [0, 0.9, 0.1]
    return selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((3, 3)), TypeError, "pair of arrays"),
        (([[0.0]], np.zeros((3, 3), np.int8)), TypeError, "value must be an array; got list"),
        (
            (np.zeros((3, 4)), np.zeros((3, 3), np.int8)),
            ValueError,
            r"value is float64 \(3, 4\).*need float64 \(3, 3\)",
        ),
        ((np.zeros((3, 3), np.float32), np.zeros((3, 3), np.int8)), ValueError, "value is float32"),
        ((np.zeros((3, 3)), np.zeros((3, 3))), ValueError, "policy is float64"),
        ((np.ma.zeros((3, 3)), np.zeros((3, 3), np.int8)), TypeError, "out: value is a masked array"),
        ((np.zeros((3, 3)), np.ma.zeros((3, 3), np.int8)), TypeError, "out: policy is a masked array"),
        ((np.zeros((3, 6))[:, ::2], np.zeros((3, 3), np.int8)), ValueError, "value must be C-contiguous"),
        ((np.broadcast_to(0.0, (3, 3)), np.zeros((3, 3), np.int8)), ValueError, "value must be C-contiguous"),
        ((np.zeros((3, 3)), np.frombuffer(bytes(9), np.int8).reshape(3, 3)), ValueError, "policy must be"),
    ],
)
def test_other_memory_is_refused(out, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.solve(small(), 2, out=out)


def test_arrays_that_overlap_are_refused() -> None:
    value = np.zeros((3, 3))
    with pytest.raises(ValueError, match="share memory"):
        selfreg.solve(small(), 2, out=(value, value.view(np.int8).ravel()[:9].reshape(3, 3)))


def test_out_is_for_all_states() -> None:
    with pytest.raises(ValueError, match='out is for keep="all"'):
        selfreg.solve(small(), 2, keep="start", start=0, out=selfreg.solve(small(), 2))
