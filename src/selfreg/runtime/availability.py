"""How often and how fast people answer, by the requests of a desk; `selfreg.delay_help` plans with it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from selfreg.runtime.desk import AGENT, NO_BUDGET, HelpRequest
from selfreg.runtime.records import RecordedDecision

NORMAL = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Availability:
    """How often and how fast people answered.

    Attributes
    ----------
    closed, answered, open : int
        Requests that people or the time limit closed, those of them that were answered, and the others.
    probability : float
        P(a request is answered at all).
    interval : tuple of float
        95% interval of the share of closed requests that were answered (Wilson).
    median_seconds : float or None
        Half of the answers came within that time.
    arrival : tuple of float
        For `selfreg.delay_help`: probability that help comes k steps after the request.
    """

    closed: int
    answered: int
    open: int
    probability: float
    interval: tuple[float, float]
    median_seconds: float | None
    arrival: tuple[float, ...]


def estimate_availability(
    requests: Sequence[HelpRequest], *, step_seconds: float | None = None, most_steps: int = 20
) -> Availability:
    """Estimate how often and how fast people answer.

    Requests that are open, or that the agent withdrew (declined by "the agent"), count as unanswered so far
    (Aalen-Johansen, with answers and refusals as competing ends), so that slow answers are not left out. Requests that
    the budget could not pay for are left out.

    Parameters
    ----------
    requests : sequence of HelpRequest
        Such as `Desk.requests()`.
    step_seconds : float, optional
        Time of a step of an agent that goes on while people think (`median_step_seconds`). By default the agent waits:
        help comes before it does anything, or not at all.
    most_steps : int
        Answers that come later are read as none.

    Raises
    ------
    ValueError
        No request is closed; a number is not positive.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.runtime import Desk, estimate_availability
    >>> time = [0.0]
    >>> desk = Desk(selfreg.Ledger(9, clock=lambda: time[0]), time_limit=60)
    >>> for i, seconds in enumerate((5, 15, 25, 90)):
    ...     _ = desk.open(f"run {i}", 0, "May I?", cost=1)
    ...     time[0] += seconds
    ...     if seconds < 60:
    ...         _ = desk.answer(f"run {i}", 0, "Yes.")
    >>> people = estimate_availability(desk.requests(), step_seconds=10)
    >>> people.probability, people.median_seconds, [round(p, 6) for p in people.arrival]
    (0.75, 15.0, [0.0, 0.25, 0.25, 0.25])
    """
    if step_seconds is not None and not 0 < step_seconds < math.inf:
        raise ValueError(f"step_seconds is {step_seconds!r}; expected seconds > 0")
    if most_steps < 1:
        raise ValueError(f"most_steps is {most_steps!r}; expected at least 1")
    asked = [one for one in requests if not (one.state == "refused" and one.answer == NO_BUDGET)]
    closed = [one for one in asked if _ended(one)]
    if not closed:
        raise ValueError("no request is closed; expected at least one that was answered, declined or expired")
    answers = sorted(one.closed - one.opened for one in closed if one.state == "answered" and one.closed is not None)
    incidence = _incidence(asked)
    probability = min(sum(incidence.values()), 1.0)
    return Availability(
        closed=len(closed),
        answered=len(answers),
        open=len(asked) - len(closed),
        probability=probability,
        interval=_wilson(len(answers), len(closed)),
        median_seconds=statistics.median(answers) if answers else None,
        arrival=(probability,) if step_seconds is None else _by_steps(incidence, step_seconds, most_steps),
    )


def median_step_seconds(decisions: Sequence[RecordedDecision]) -> float:
    """Median time between two decisions of a run, such as those of `Recorder.decisions()`.

    Raises
    ------
    ValueError
        No run has two decisions.
    """
    last: dict[str | int, float] = {}
    gaps = []
    for one in decisions:
        if one.run_id in last:
            gaps.append(one.time - last[one.run_id])
        last[one.run_id] = one.time
    if not gaps:
        raise ValueError("no run has two decisions; expected at least one")
    return statistics.median(gaps)


def _ended(request: HelpRequest) -> bool:
    return request.closed is not None and not (request.state == "declined" and request.by == AGENT)


def _incidence(requests: Sequence[HelpRequest]) -> dict[float, float]:
    """P(an answer after so many seconds), of all requests that end; the Aalen-Johansen estimate."""
    now = max(one.opened if one.closed is None else one.closed for one in requests)
    ages = [((now if one.closed is None else one.closed) - one.opened, _ended(one), one.state) for one in requests]
    waiting, nobody, ended = len(ages), 1.0, 0.0
    found: dict[float, float] = {}
    for age in sorted({age for age, *_ in ages}):
        states = [state for other, _, state in ages if other == age]
        ends = sum(has_ended for other, has_ended, _ in ages if other == age)
        if states.count("answered"):
            found[age] = nobody * states.count("answered") / waiting
        ended += nobody * ends / waiting
        nobody *= 1 - ends / waiting
        waiting -= len(states)
    return {age: chance / ended for age, chance in found.items()}


def _by_steps(incidence: dict[float, float], step_seconds: float, most_steps: int) -> tuple[float, ...]:
    """An answer is there in the first state that the agent comes into after it."""
    steps = {age: math.ceil(age / step_seconds) for age in incidence}
    last = min(max(steps.values(), default=0), most_steps)
    return tuple(math.fsum(chance for age, chance in incidence.items() if steps[age] == k) for k in range(last + 1))


def _wilson(hits: int, n: int) -> tuple[float, float]:
    share, z = hits / n, NORMAL**2 / n
    middle, half = share + z / 2, NORMAL * math.sqrt(share * (1 - share) / n + z / (4 * n))
    return max((middle - half) / (1 + z), 0.0), min((middle + half) / (1 + z), 1.0)
