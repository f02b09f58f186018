"""Logs of long episodes with a chance of help each: the effects of many steps add up, and with them their errors."""

from __future__ import annotations

import random

from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, Features, forecast

RATES, STEPS, ALONE, HELPED = (0.0, 0.1, 0.3, 0.75, 0.0, 1.0), 40, 0.4, 0.95


def make_logs(tasks: int, episodes: int, seed: int) -> list[Trajectory]:
    """Success rises with the share of helped steps, soon less and less; tasks differ."""
    luck, logs = random.Random(seed), []
    for task in range(tasks):
        easier = luck.uniform(-0.2, 0.2)
        for i in range(episodes):
            rate = RATES[i % len(RATES)]
            helped = [luck.random() < rate for _ in range(STEPS)]
            share = sum(helped) / STEPS
            won = luck.random() < ALONE + easier * (1 - share) + (HELPED - ALONE) * share**0.5
            steps = tuple(Step(f"at {t}", intervention="help" if h else None) for t, h in enumerate(helped))
            logs.append(Trajectory(f"t{task}", f"t{task}/{i}", float(won), steps, fields={"rate": rate}))
    return logs


def test_never_and_always_are_read_from_the_episodes_that_were_so() -> None:
    result = forecast(make_logs(30, 12, 1), Features(["step"]), STEPS, samples=100)
    assert result.design == "steps"
    found = {one.policy: one.success for one in result.outlooks if one.policy in ("never", "always")}
    for policy, truth in (("never", ALONE), ("always", HELPED)):
        assert found[policy].low <= truth <= found[policy].high
        assert found[policy].high - found[policy].low < 0.25


def test_episodes_that_ended_before_help_was_possible_are_no_sample_of_never() -> None:
    """Help is possible from the second step on; the episodes that end before it are the easy ones."""
    luck, logs = random.Random(2), []
    for i in range(600):
        easy = luck.random() < 0.5
        helped = [False] if easy else [False, *(luck.random() < 0.5 for _ in range(3))]
        won = 1.0 if easy else float(luck.random() < 0.2)
        steps = tuple(Step(f"at {t}", intervention="help" if h else None) for t, h in enumerate(helped))
        logs.append(Trajectory(f"t{i % 20}", f"e{i}", won, steps))
    result = forecast(logs, Features(["step"]), 1, samples=100)
    never = next(one.success for one in result.outlooks if one.policy == "never")
    assert result.design == "steps"
    assert abs(never.mean - 0.6) < 0.1


HOME, PLACES, LIMIT, STUCK = "home", 45, 66, 0.9


def walk(
    doors: set[int], rate: float, luck: random.Random, asks: bool = False, budget: int = 0
) -> list[tuple[str, bool]]:
    """States and help of an episode that ends at the last place or after `LIMIT` steps; help opens a door at once."""
    place, steps = 0, list[tuple[str, bool]]()
    while place < PLACES and len(steps) < LIMIT:
        at_door = place in doors
        helped = luck.random() < rate or (asks and at_door and budget > 0)
        budget -= asks and helped
        steps.append((f"{place} at {len(steps)}", helped))
        place += helped or not at_door or luck.random() > STUCK
    return [*steps, (HOME, False)] if place == PLACES else steps


def test_rare_requests_are_forecast_where_states_are_exact() -> None:
    """Help pays at two places of 45: with exact keys the model knows them, which the estimate is shrunk towards."""
    luck, logs, truth = random.Random(5), [], dict[int, list[bool]]()
    for task in range(40):
        doors = {luck.randrange(4, 22), luck.randrange(22, 40)}
        for i in range(40):
            name, rate = f"t{task}", RATES[i % len(RATES)]
            walked = walk(doors, rate, luck)
            outcome = float(walked[-1][0] == HOME)
            walked = [(state, helped) for state, helped in walked if state != HOME]
            steps = tuple(Step(s, key=f"{name} {s}", intervention="help" if h else None) for s, h in walked)
            logs.append(Trajectory(name, f"{name}/{i}", outcome, steps, fields={"rate": rate}))
        for budget in (0, 1, 2):
            ends = (walk(doors, 0.0, luck, asks=True, budget=budget)[-1][0] == HOME for _ in range(50))
            truth.setdefault(budget, []).extend(ends)
    result = forecast(logs, ExactKey(), 2, samples=60)
    checked = [one for one in result.outlooks if one.policy in ("never", "plan")]
    assert len(checked) == 3
    for one in checked:
        right = sum(truth[one.budget[0]]) / len(truth[one.budget[0]])
        assert one.success.low - 0.05 <= right <= one.success.high + 0.05
        assert one.success.high - one.success.low < 0.65
