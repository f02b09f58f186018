"""The ledger: pays once, never too much, whatever races."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg.helper import Ledger


def test_pays_once_for_a_step() -> None:
    ledger = Ledger(3)
    assert [ledger.charge("run", 0, 2), ledger.charge("run", 0, 2), ledger.left] == [True, True, (1,)]
    assert [ledger.charge("run", 1, 2), ledger.left] == [False, (1,)]
    assert [ledger.charge("other", 0, 1), ledger.charge("run", 1, 2), ledger.left] == [True, False, (0,)]
    assert repr(ledger) == "Ledger(limits=(3,), left=(0,))"


def test_refusal_is_remembered() -> None:
    ledger = Ledger((1, 5))
    assert not ledger.charge("run", 0, (2, 1))
    assert ledger.left == (1, 5)
    assert not ledger.charge("run", 0, (2, 1))


@given(
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
    st.lists(st.tuples(st.integers(0, 4), st.tuples(st.integers(0, 3), st.integers(0, 3))), max_size=12),
)
def test_follows_a_plain_account(limits: tuple[int, int], charges: list[tuple[int, tuple[int, int]]]) -> None:
    ledger, paid, answers = Ledger(limits), [0, 0], {}
    for step, cost in charges:
        if step in answers and answers[step][0] != cost:
            with pytest.raises(ValueError, match="was charged"):
                ledger.charge("run", step, cost)
            continue
        if step not in answers:
            fits = all(p + c <= top for p, c, top in zip(paid, cost, limits, strict=True))
            answers[step] = cost, fits
            paid = [p + c for p, c in zip(paid, cost, strict=True)] if fits else paid
        assert ledger.charge("run", step, cost) == answers[step][1]
        assert ledger.left == tuple(top - p for top, p in zip(limits, paid, strict=True))


def test_racing_threads_neither_overspend_nor_pay_twice() -> None:
    """Eight threads charge the same 200 steps in different orders; 100 can be paid."""
    ledger, start = Ledger(100), threading.Barrier(8)
    answers: list[dict[int, bool]] = [{} for _ in range(8)]

    def work(worker: int) -> None:
        steps = list(range(200))
        random.Random(worker).shuffle(steps)
        start.wait()
        for step in steps:
            answers[worker][step] = ledger.charge("run", step, 1)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.left == (0,)
    assert all(answer == answers[0] for answer in answers)
    assert sum(answers[0].values()) == 100


def test_numpy_integers_are_whole_numbers() -> None:
    ledger = Ledger(np.array([2, 3]))
    assert ledger.charge("run", 0, np.array([1, 1]))
    assert ledger.left == (1, 2)
    assert all(type(left) is int for left in ledger.left)


@pytest.mark.parametrize("value", [1.5, "2", True, None, [1, 2.0], np.float64(2)])
def test_fractions_and_other_things_are_type_errors(value: object) -> None:
    with pytest.raises(TypeError, match="expected whole numbers"):
        Ledger(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected whole numbers"):
        Ledger(1).charge("run", 0, value)  # type: ignore[arg-type]


def test_negative_and_misshapen_are_value_errors() -> None:
    with pytest.raises(ValueError, match="limits is -1"):
        Ledger(-1)
    with pytest.raises(ValueError, match="limits is empty"):
        Ledger(())
    with pytest.raises(ValueError, match="cost is -1"):
        Ledger(1).charge("run", 0, -1)
    with pytest.raises(ValueError, match="has 1 entries; expected one for each of 2 budgets"):
        Ledger((1, 1)).charge("run", 0, 1)
