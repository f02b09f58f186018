"""What is given by mistake: an error that names it, and nothing is stored."""

from __future__ import annotations

import collections
import math
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

from selfreg.data import Step
from selfreg.decisions import Decision, Neighbour
from selfreg.runtime import Budget, Desk, Ledger, Recorder, SQLiteLedger, StepToDecide, micro_units

STEPS = [Step("ready")]
NO_UNITS = (
    {2, 3}, frozenset({2}), b"\x02", bytearray(b"\x02"), 2.0, np.float64(2), math.inf, math.nan, True, np.bool_(True),
    10**30, 2**63, -1, None, "5", {"a": 1}, Decimal(2), Fraction(2), 2j, np.array([[2]]), np.array([2.0]),
    np.array([True]), np.array([2, None], dtype=object), np.uint64(2**63), [], (), [[1]], [True], ["1"], object(),
    [Budget(1), 2], (i for i in (1,)),
)  # fmt: skip
NO_IDS = ({2}, b"\x02", 2.0, 1.0, math.nan, True, np.bool_(True), None, (1, 2), [1], Decimal(1), 2**63, "\ud800")
NO_SECONDS = (math.nan, math.inf, -1, 0, True, "5", [1], 10**400)


class Always:
    costs: ClassVar = {"person": 1}

    def decide(self, steps, budget_left):
        return Decision("person")


def recorder(**settings) -> Recorder:
    return Recorder(Always(), Ledger(5), **settings)


@pytest.mark.parametrize("wrong", NO_UNITS, ids=lambda one: type(one).__name__)
def test_units_are_whole_numbers(wrong) -> None:
    ledger = Ledger(9)
    with pytest.raises((TypeError, ValueError), match="limits"):
        Ledger(wrong)
    with pytest.raises((TypeError, ValueError), match="cost"):
        ledger.reserve("run", 0, wrong)
    with pytest.raises((TypeError, ValueError), match="limit is"):
        Budget(wrong)
    with pytest.raises((TypeError, ValueError), match="limit is"):
        ledger.raise_limit(wrong, reason="more")
    if wrong is not None:
        with pytest.raises((TypeError, ValueError), match="cost"):
            ledger.charge("run", 0, wrong)
        with pytest.raises((TypeError, ValueError), match="max_open is"):
            Desk(ledger, max_open=wrong)
    assert (ledger.left, ledger.entries(), ledger.limit_changes()) == ((9,), [], [])


@pytest.mark.parametrize("units", [np.int64(2), np.uint8(2), np.array(2), [2], (2,), np.array([2]), range(2, 3)])
def test_whole_numbers_of_all_kinds_are_units(units) -> None:
    ledger = Ledger(units)
    assert (ledger.limits, ledger.reserve("run", 0, units), ledger.left) == ((2,), True, (0,))
    assert Ledger(collections.deque([2, 3])).limits == (2, 3)


@pytest.mark.parametrize("wrong", NO_IDS, ids=repr)
def test_ids_are_str_or_int(wrong) -> None:
    ledger, one = Ledger(9), recorder()
    desk = Desk(ledger)
    calls = (
        lambda *key: ledger.reserve(*key, 1),
        lambda *key: ledger.charge(*key, 1),
        ledger.refund,
        lambda *key: one.decide_once(*key, STEPS),
        lambda *key: one.decide_many([StepToDecide(*key, STEPS)]),
        one.find,
        one.settle,
        lambda *key: desk.open(*key, "?", cost=1),
        lambda *key: desk.answer(*key, "!"),
        desk.find,
    )
    for call in calls:
        with pytest.raises((TypeError, ValueError), match="run_id is"):
            call(wrong, 0)
        with pytest.raises((TypeError, ValueError), match="step_id is"):
            call("run", wrong)
    with pytest.raises((TypeError, ValueError), match="run_id is"):
        one.outcome(wrong, True)
    with pytest.raises((TypeError, ValueError), match=r"keys\['task'\] is"):
        Recorder(Always(), Ledger(Budget(5, scope="task"))).decide_once("run", 0, STEPS, keys={"task": wrong})
    assert (ledger.entries(), one.decisions(), one.ledger.entries()) == ([], [], [])


@pytest.mark.parametrize("wrong", NO_SECONDS, ids=lambda one: repr(one)[:9])
def test_seconds_are_positive(tmp_path, wrong) -> None:
    for name, call in (
        ("expires_in", lambda: Ledger(5).reserve("run", 0, 1, expires_in=wrong)),
        ("expires_in", lambda: recorder(expires_in=wrong)),
        ("time_limit", lambda: Desk(Ledger(5), time_limit=wrong)),
        ("poll", lambda: Desk(Ledger(5), poll=wrong)),
    ):
        with pytest.raises((TypeError, ValueError), match=f"{name} is .*; expected seconds"):
            call()
    if wrong in (math.inf, 0, 10**400) and wrong is not True:
        assert SQLiteLedger(tmp_path / "ledger", 1, timeout=wrong).left == (1,)
    else:
        with pytest.raises((TypeError, ValueError), match=r"timeout is .*; expected seconds"):
            SQLiteLedger(tmp_path / "ledger", 1, timeout=wrong)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "DAY", "day ", "fortnight", np.int64(60), 10**400, math.nan, [1]])
def test_periods_are_those_of_the_calendar_or_whole_seconds(wrong) -> None:
    with pytest.raises(ValueError, match="period is"):
        Budget(5, period=wrong)


@pytest.mark.parametrize("wrong", ["Mars/X", "", "../etc/passwd", "Europe/Berlin\0", None, 5, True, [1]])
def test_time_zones_have_names(wrong) -> None:
    with pytest.raises(ValueError, match="timezone is"):
        Budget(5, period="day", timezone=wrong)


@pytest.mark.parametrize("wrong", ["", "abc", None, True, math.nan, "Infinity", -0.01, "1e400", Decimal("1E+30"), [1]])
def test_money_is_a_number(wrong) -> None:
    with pytest.raises(ValueError, match="amount is"):
        micro_units(wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one: recorder(explore=True), "explore is True"),
        (lambda one: recorder(explore="0.5"), "explore is '0.5'"),
        (lambda one: recorder(explore=math.nan), "explore is nan"),
        (lambda one: recorder(costs=[("person", 1)]), "costs is .*expected units by help type"),
        (lambda one: recorder(costs="person"), "costs is 'person'"),
        (lambda one: recorder(costs={1: 1}), "a help type of costs is 1"),
        (lambda one: recorder(costs={"": 1}), "a help type of costs is ''"),
        (lambda one: recorder(costs={"person": True}), "cost is True"),
        (lambda one: one.decide_once("run", 0, None), "steps is a NoneType"),
        (lambda one: one.decide_once("run", 0, STEPS[0]), "steps is a Step"),
        (lambda one: one.decide_once("run", 0, iter(STEPS)), "steps is a list_iterator"),
        (lambda one: one.decide_once("run", 0, set(STEPS)), "steps is a set"),
        (lambda one: one.decide_once("run", 0, [None]), "steps has a NoneType"),
        (lambda one: one.decide_once("run", 0, np.array([])), "steps is empty"),
        (lambda one: one.decide_once("run", 0, STEPS, keys=[("task", "a")]), "keys is"),
        (lambda one: one.decide_once("run", 0, STEPS, keys={1: "a"}), "a name in keys is 1"),
        (lambda one: one.decide_once("run", 0, STEPS, keys={"other": 1.5}), r"keys\['other'\] is 1.5"),
        (lambda one: one.outcome("run", "yes"), "success is 'yes'"),
        (lambda one: one.outcome("run", None), "success is None"),
        (lambda one: one.outcome("run", math.nan), "success is nan"),
        (lambda one: one.outcome("run", 10**400), "success is"),
        (lambda one: one.ledger.raise_limit(9, reason=None), "reason is None"),
        (lambda one: one.ledger.raise_limit(9, reason=[1]), "reason is"),
        (lambda one: Desk(one.ledger, fallback=None), "fallback is None"),
        (lambda one: Desk(one.ledger, fallback=""), "fallback is ''"),
        (lambda one: Desk(one.ledger).open("run", 0, None, cost=1), "text is None"),
        (lambda one: Desk(one.ledger).open("run", 0, b"?", cost=1), "text is b"),
        (lambda one: Desk(one.ledger).open("run", 0, "?", cost=1, help="nohelp"), "help is 'nohelp'"),
        (lambda one: Desk(one.ledger).open("run", 0, "?", cost=1, help=None), "help is None"),
        (lambda one: Desk(one.ledger).open("run", 0, "?", cost=1, reason=5), "reason is 5"),
        (lambda one: Desk(one.ledger).answer("run", 0, None), "answer is None"),
        (lambda one: Desk(one.ledger).decline("run", 0, None), "reason is None"),
        (lambda one: Desk(one.ledger).answer("run", 0, "!", by=5), "by is 5"),
    ],
)
def test_misuse_is_named_and_nothing_is_stored(call, message) -> None:
    one = recorder()
    with pytest.raises((TypeError, ValueError), match=message):
        call(one)
    assert (one.decisions(), one.ledger.entries(), one.ledger.limit_changes()) == ([], [], [])


@pytest.mark.parametrize("found", [None, 5, "person", ("person",), object()])
def test_a_policy_returns_decisions(make, found) -> None:
    class Odd(Always):
        def decide(self, steps, budget_left):
            return found

    with pytest.raises(TypeError, match=r"the policy returned .*; expected a selfreg.Decision"):
        Recorder(Odd(), make(5)).decide_once("run", 0, STEPS)


@pytest.mark.parametrize(
    "found", [Decision("person", neighbours=(1,)), Decision("person", price=5), Decision("person", neighbours=None)]
)
def test_a_decision_that_could_not_be_read_back_is_not_stored(make, found) -> None:
    """It would raise for ever: for its step, and for everyone who lists all decisions."""

    class Odd(Always):
        def decide(self, steps, budget_left):
            return found if steps[-1].state == "odd" else Decision("person", neighbours=(Neighbour("a", 1.0, {}),))

    one = Recorder(Odd(), make(5))
    with pytest.raises(TypeError):
        one.decide_once("run", 0, [Step("odd")])
    assert (one.decisions(), one.ledger.left) == ([], (5,))
    assert one.decide_once("run", 0, STEPS).action == "person"
    assert len(one.decisions()) == 1


def test_a_step_that_was_never_decided_is_not_settled() -> None:
    recorded = recorder()
    with pytest.raises(ValueError, match="was never reserved"):
        recorded.settle("run", 0, 3)
    assert recorded.ledger.left == (5,)
    assert recorded.decide_once("run", 0, [Step("a")]).requests_help
    assert recorded.settle("run", 0)
    assert recorded.ledger.left == (4,)
