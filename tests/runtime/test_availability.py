"""People who are slow or absent: estimated from requests, and planned with; a simulated desk is the truth."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest

import selfreg
from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import (
    Budget,
    Desk,
    HelpRequest,
    Ledger,
    Recorder,
    RequestClosed,
    estimate_availability,
    median_step_seconds,
)


def request(i: int, opened: float, state: str, after: float | None = None, answer: str = "") -> HelpRequest:
    closed = None if after is None else opened + after
    return HelpRequest(f"run {i}", 0, "", "", "person", "nohelp", opened, opened + 60, state, closed, "", answer)


def test_answers_refusals_and_expiry_are_counted() -> None:
    states = [("answered", 4.0), ("answered", 14.0), ("declined", 3.0), ("expired", 60.0), ("refused", 0.0)]
    found = estimate_availability([request(i, 100.0 * i, *one) for i, one in enumerate(states)])
    assert (found.closed, found.answered, found.open, found.median_seconds) == (5, 2, 0, 9.0)
    assert found.probability == pytest.approx(0.4)
    assert found.arrival == (found.probability,)
    assert found.interval == pytest.approx((0.1176, 0.7693), abs=1e-4)  # Wilson, 2 of 5
    going_on = estimate_availability([request(i, 100.0 * i, *one) for i, one in enumerate(states)], step_seconds=5)
    assert going_on.arrival == pytest.approx((0, 0.2, 0, 0.2))
    short = estimate_availability(
        [request(i, 100.0 * i, *one) for i, one in enumerate(states)], step_seconds=5, most_steps=2
    )
    assert short.arrival == pytest.approx((0, 0.2, 0))


def test_a_budget_that_is_spent_says_nothing_of_people() -> None:
    ledger = Ledger(1)
    desk = Desk(ledger, max_open=1)
    desk.open("a", 0, "?", cost=1)
    desk.answer("a", 0, "!")
    assert desk.open("b", 0, "?", cost=1).state == "refused"
    found = estimate_availability(desk.requests())
    assert (found.closed, found.probability) == (1, 1.0)
    ledger.raise_limit(5, reason="more")
    desk.open("c", 0, "?", cost=1)
    assert desk.open("d", 0, "?", cost=1).state == "refused"  # attention does
    desk.answer("c", 0, "!")
    assert estimate_availability(desk.requests()).probability == pytest.approx(2 / 3)


def test_slow_answers_are_not_left_out_while_they_are_awaited() -> None:
    """Answers take 1 or 45 s, half of the requests each; seen at a moment when many slow ones are still open."""
    random, requests = np.random.default_rng(0), []
    for i in range(4000):
        opened, after = 0.02 * i, 1.0 if random.random() < 0.5 else 45.0
        late = opened + after > 80
        requests.append(request(i, opened, *(("open", None) if late else ("answered", after))))
    found = estimate_availability(requests, step_seconds=10)
    closed = [one for one in requests if one.closed is not None]
    slow = sum(one.closed - one.opened > 10 for one in closed) / len(closed)
    assert slow < 0.35  # what is left of them among the closed ones
    assert found.arrival[1] == pytest.approx(0.5, abs=0.03)
    assert found.arrival[5] == pytest.approx(0.5, abs=0.03)
    assert found.probability == pytest.approx(1.0)


def test_requests_that_the_agent_withdrew_are_not_refusals() -> None:
    clock = [0.0]
    desk = Desk(Ledger(9, clock=lambda: clock[0]))
    for i in range(4):
        desk.open(f"run {i}", 0, "?", cost=1)
    clock[0] = 5.0
    desk.decline("run 0", 0, "withdrawn", by="the agent")
    clock[0] = 9.0
    desk.answer("run 1", 0, "!")
    found = estimate_availability(desk.requests())
    assert (found.closed, found.open, found.probability) == (1, 3, 1.0)


def test_the_pace_of_an_agent_is_that_of_its_decisions() -> None:
    class Never:
        costs = {"person": 1}  # noqa: RUF012

        def decide(self, steps, budget_left):
            return Decision()

    clock = [0.0]
    recorder = Recorder(Never(), Ledger(1, clock=lambda: clock[0]))
    with pytest.raises(ValueError, match="no run has two decisions"):
        median_step_seconds(recorder.decisions())
    for i in range(4):
        for run in ("a", "b"):
            recorder.decide_once(run, i, [Step("ready")])
        clock[0] += 7.0
    assert median_step_seconds(recorder.decisions()) == 7.0


@pytest.mark.parametrize(
    ("requests", "settings", "message"),
    [
        ([], {}, "no request is closed"),
        ([request(0, 0, "open")], {}, "no request is closed"),
        ([request(0, 0, "answered", 1)], {"step_seconds": 0}, "step_seconds is 0"),
        ([request(0, 0, "answered", 1)], {"step_seconds": math.nan}, "step_seconds is nan"),
        ([request(0, 0, "answered", 1)], {"most_steps": 0}, "most_steps is 0"),
    ],
)
def test_misuse_is_named(requests, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_availability(requests, **settings)


# ---- planned with, and lived through

STATES = ("ready", "doubt", "trouble")
ALONE = {"ready": (("doubt", 0.6), ("won", 0.4)), "doubt": (("trouble", 0.5), ("won", 0.5))}
ALONE["trouble"] = (("won", 0.1), ("lost", 0.9))
HELPED = dict.fromkeys(STATES, (("won", 0.95), ("lost", 0.05)))


def model() -> selfreg.InterventionMDP:
    places = [*STATES, "won", "lost"]
    tables = {}
    for name, rows in (("nohelp", ALONE), ("person", HELPED)):
        tables[name] = np.zeros((5, 5))
        for state, row in rows.items():
            for after, chance in row:
                tables[name][places.index(state), places.index(after)] = chance
    return selfreg.InterventionMDP(tables, [*[np.nan] * 3, 1, 0], {"person": 1})


class PlanFor:
    """Decides by a solution of the model with delays, in states without an open request."""

    costs = {"person": 1}  # noqa: RUF012

    def __init__(self, solution) -> None:
        self.solution = solution

    def decide(self, steps, budget_left):
        action = self.solution.policy[STATES.index(steps[-1].state), budget_left[0]]
        return Decision(self.solution.mdp.actions[action])


def live(recorder: Recorder, desk: Desk, clock: list[float], run: str, random, answers: list[float]) -> bool:
    """One run of an agent that goes on while people think; a step takes 10 s."""
    state, asked = "ready", None
    for i in range(10):
        helped = False
        if asked is not None:
            if desk.find(run, asked[0]).state == "open" and clock[0] >= asked[1]:
                desk.answer(run, asked[0], "Like this.")
            found = desk.find(run, asked[0])
            helped, asked = found.state == "answered", asked if found.state == "open" else None
        if asked is None and not helped and recorder.decide_once(run, i, [Step(state)]).requests_help:
            desk.open(run, i, "What now?")
            asked = i, clock[0] + random.choice([*answers, math.inf])
        rows = HELPED if helped else ALONE
        state = random.choice([after for after, _ in rows[state]], p=[chance for _, chance in rows[state]])
        clock[0] += 10.0
        if state in ("won", "lost"):
            if asked is not None:
                with suppress(RequestClosed):
                    desk.decline(run, asked[0], "the run has ended", by="the agent")
            return state == "won"
    raise AssertionError("no run is that long")


def test_the_forecast_with_people_is_what_a_simulated_desk_gives() -> None:
    """People answer after 8 or 18 s, or (one time in three) not within the time limit; each run has one unit."""
    random, clock = np.random.default_rng(1), [0.0]
    ledger = Ledger(Budget(1, scope="run"), clock=lambda: clock[0])
    desk = Desk(ledger, time_limit=25.0)
    for i in range(300):  # before anything is planned
        desk.open(f"early {i}", 0, "?", cost=1)
        after = random.choice([8.0, 18.0, math.inf])
        clock[0] += min(after, 30.0)
        if after < 25:
            desk.answer(f"early {i}", 0, "!")
    people = estimate_availability(desk.requests(), step_seconds=10.0)
    assert people.arrival == pytest.approx((0, 1 / 3, 1 / 3), abs=0.07)
    at_once, delayed = (
        selfreg.solve(one, 1) for one in (model(), selfreg.delay_help(model(), "person", people.arrival))
    )
    assert at_once.policy[:3, 1].tolist() == [0, 0, 1]  # help where it is needed most: too late, if it takes a step
    assert delayed.policy[:3, 1].tolist() == [1, 1, 0]
    realised = {}
    for name, solution in (("at once", at_once), ("delayed", delayed)):
        recorder = Recorder(PlanFor(solution), ledger)
        won = [live(recorder, desk, clock, f"{name} {i}", random, [8.0, 18.0]) for i in range(1500)]
        realised[name] = np.mean(won)
    assert realised["delayed"] == pytest.approx(float(delayed.value[0, 1]), abs=0.03)
    assert realised["delayed"] > realised["at once"] + 0.05
    assert not ledger.entries("reserved")
