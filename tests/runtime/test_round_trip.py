"""From runs behind a recorder to its log, and from the log to model and forecast: they agree with what happened."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, read_trajectories
from selfreg.decisions import Decision
from selfreg.estimate import Features, estimate_mdp, forecast
from selfreg.runtime import Ledger, Recorder, StepToDecide, logged_propensity, logged_requests

STAGES, FAILS, RUNS = 3, 0.3, 1000
# P(the stage is passed), else trouble (from "ready") or failure (from "trouble").
ALONE, HELPED = {"ready": 0.7, "trouble": 0.3}, {"ready": 0.8, "trouble": 0.9}


class Alone:
    costs: ClassVar = {"person": 1}

    def decide(self, steps, budget_left):
        return Decision()


def true_success(helped_in_trouble: bool) -> float:
    trouble = (HELPED if helped_in_trouble else ALONE)["trouble"]
    return (ALONE["ready"] + (1 - ALONE["ready"]) * trouble) ** STAGES


def live(recorder: Recorder, seed: int, whole: bool) -> tuple[int, int]:
    """All runs side by side; steps that were executed, and help that failed."""
    random, executed, failures = np.random.default_rng(seed), 0, 0
    histories = {f"run {i}": [Step("stage 0 ready")] for i in range(RUNS)}
    attempts = dict.fromkeys(histories, 1)
    while histories:
        steps = [
            StepToDecide(run, f"{len(past)}#{attempts[run]}", past if whole else past[-1:])
            for run, past in histories.items()
        ]
        for step, decision in zip(steps, recorder.decide_many(steps), strict=True):
            run, past = step.run_id, histories[step.run_id]
            helped = decision.requests_help
            if helped and random.random() < FAILS:
                recorder.refund(run, step.step_id)
                failures += 1
                if random.random() < 0.7:  # try again; else go on alone
                    attempts[run] += 1
                    continue
                helped = False
            elif helped:
                recorder.settle(run, step.step_id)
            executed, attempts[run] = executed + 1, 1
            _, stage, state = past[-1].state.split()
            passed = random.random() < (HELPED if helped else ALONE)[state]
            past[-1] = Step(past[-1].state, action="go", intervention="person" if helped else None)
            if int(stage) == STAGES - 1 if passed else state == "trouble":
                recorder.outcome(run, passed)
                del histories[run]
            else:
                past.append(Step(f"stage {int(stage) + passed} {'ready' if passed else 'trouble'}"))
    return executed, failures


@pytest.mark.parametrize("whole", [True, False], ids=["histories", "last states"])
def test_the_log_of_a_recorder_agrees_with_what_happened(tmp_path, whole) -> None:
    ledger = Ledger(10**6)
    recorder = Recorder(Alone(), ledger, explore=0.8, seed=1)
    executed, failures = live(recorder, 0, whole)
    recorder.export(tmp_path / "log.jsonl")
    episodes = list(read_trajectories(tmp_path / "log.jsonl"))

    assert sum(len(one.steps) for one in episodes) == executed < len(recorder.decisions())
    assert sum(one.cost for one in episodes) == 10**6 - ledger.left[0]
    named = [str(value) for one in episodes for name, value in one.fields.items() if name.startswith("failed help")]
    assert sum(len(value.split(", ")) for value in named) == failures > 100
    chances = {"person": 0.4, "nohelp": 0.6}
    places = [(one, i) for one in episodes for i in range(len(one.steps))]
    decided = [logged_requests(*place) for place in places]
    assert [logged_propensity(*place) for place in places] == [math.prod(map(chances.get, one)) for one in decided]
    assert sum(map(len, decided)) == len(recorder.decisions())
    assert sum("person" in one and one[-1] == "nohelp" for one in decided) > 100  # help failed; then decided alone

    classes = {f"{stage} {state}": f"stage {stage} {state}" for stage in range(STAGES) for state in ALONE}
    states = Features(["class"], classes)
    model = estimate_mdp(episodes, states, shrink=False)
    never, plan = (float(model.start @ selfreg.solve(model.mdp, budget).value[:, budget]) for budget in (0, 6))
    noise = 4 * (0.25 / RUNS) ** 0.5
    assert never == pytest.approx(true_success(False), abs=noise)
    best = (HELPED["ready"] + (1 - HELPED["ready"]) * HELPED["trouble"]) ** STAGES
    assert plan == pytest.approx(best, abs=noise)

    if whole:
        found = {one.policy: one.success.mean for one in forecast(episodes, states, 6, samples=30).outlooks}
        assert found["never"] == pytest.approx(true_success(False), abs=2 * noise)
        assert found["always"] == pytest.approx(best, abs=2 * noise)


def test_attempts_are_one_step_and_equal_states_are_two(make) -> None:
    class Always(Alone):
        def decide(self, steps, budget_left):
            return Decision("person")

    recorder = Recorder(Always(), make(9))
    ready, stuck = Step("ready", action="go"), Step("stuck")
    for step_id in ("a", "b"):  # the same history: a second attempt
        recorder.decide_once("whole", step_id, [ready, stuck])
        recorder.refund("whole", step_id)
    recorder.decide_once("whole", "c", [ready, Step("stuck", action="go"), stuck])
    recorder.settle("whole", "c")
    for step_id in (0, 1):  # last states only: the agent went on alone, and is in the same state
        recorder.decide_once("last", step_id, [stuck])
        recorder.refund("last", step_id)
    recorder.decide_once("charged", 0, [ready, stuck])  # a step that was helped is no failed attempt
    recorder.settle("charged", 0)
    recorder.decide_once("charged", 1, [ready, stuck])
    whole, last, charged = recorder.trajectories()
    assert [(one.state, one.intervention) for one in whole.steps] == [("stuck", None), ("stuck", "person")]
    assert {name: value for name, value in whole.fields.items() if "failed" in name} == {
        "failed help 0": "person, person"
    }
    assert [one.intervention for one in last.steps] == [None, None]
    assert last.fields == {
        f"{name} {i}": one for i in (0, 1) for name, one in (("propensity", 1.0), ("failed help", "person"))
    }
    assert [one.intervention for one in charged.steps] == ["person", "person"]
