"""Logs of long episodes with a chance of help each: the effects of many steps add up, and with them their errors."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision
from selfreg.estimate import ExactKey, Features, forecast
from selfreg.estimate.forecasting.candidates import fold_models, helper_decisions
from selfreg.estimate.forecasting.logged_steps import LoggedSteps
from selfreg.estimate.forecasting.model_effects import fold_states
from selfreg.estimate.forecasting.model_values import model_values
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy

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


class AtDoors:
    """Requests help at doors."""

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision("help" if "door" in steps[-1].state else NOHELP)


def make_walks(tasks: int, episodes: int) -> tuple[list[Trajectory], list[float]]:
    """Logs, help pays at two places of 45; and the success of who asks there, at budgets 0, 1, 2."""
    luck, logs, ends = random.Random(5), [], list[list[bool]]()
    for task in range(tasks):
        doors = {luck.randrange(4, 22), luck.randrange(22, 40)}
        for i in range(episodes):
            name, rate = f"t{task}", RATES[i % len(RATES)]
            walked = walk(doors, rate, luck)
            outcome = float(walked[-1][0] == HOME)
            walked = [(state, helped) for state, helped in walked if state != HOME]
            steps = tuple(
                Step(s + ", door" * (int(s.split()[0]) in doors), key=f"{name} {s}", intervention="help" * h or None)
                for s, h in walked
            )
            logs.append(Trajectory(name, f"{name}/{i}", outcome, steps, fields={"rate": rate}))
        for budget in (0, 1, 2):
            ends.append([walk(doors, 0.0, luck, True, budget)[-1][0] == HOME for _ in range(100)])
    return logs, [float(np.mean(ends[budget::3])) for budget in range(3)]


def test_rare_requests_are_forecast_where_states_are_exact() -> None:
    """With exact keys the model knows where help pays, and the estimate is shrunk towards it."""
    logs, truth = make_walks(40, 40)
    result = forecast(logs, ExactKey(), 2, helper=lambda _: AtDoors(), samples=60)
    checked = [one for one in result.outlooks if one.policy in ("never", "plan", "helper")]
    assert len(checked) == 5
    for one in checked:
        right = truth[one.budget[0]]
        assert one.success.low - 0.05 <= right <= one.success.high + 0.05
        assert one.success.high - one.success.low < (0.3 if one.policy == "helper" else 0.65)


def test_a_model_whose_gaps_are_filled_is_right_where_one_with_gaps_is_too_low() -> None:
    """Few episodes a task: most late states were visited once, and so lack help, or lack going alone."""
    logs, truth = make_walks(60, 24)
    charges = {"help": (1,)}
    logged = LoggedSteps.of(logs, charges)
    models = fold_models(logged, ExactKey(), charges, 0)
    policies = helper_decisions(logged, lambda _: AtDoors(), [(1,), (2,)], 0)
    filled = model_values(logged, fold_states(logged, ExactKey(), models), policies, models)
    for one, right in zip(filled, truth[1:], strict=True):
        assert one is not None
        assert abs(one.success - right) < 0.07, (one, right)
    assert np.mean([model.start @ unhelped(model.mdp) for _, model in models]) < truth[0] - 0.1


def unhelped(mdp: InterventionMDP) -> npt.NDArray[np.float64]:
    """Success of never in the model as it is, of every state."""
    return evaluate_policy(mdp, np.zeros((mdp.n_states, 1), np.int8)).success[:, 0]
