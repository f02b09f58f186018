"""A weak and a strong helper with budgets of their own, from collection to closed loop, in BabyAI and a dialogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory, read_trajectories, write_trajectories
from selfreg.decisions import BudgetLeft, Decision
from selfreg.envs import (
    AssistedEnvironment,
    BabyAIConfig,
    CollectConfig,
    Environment,
    ErringHelper,
    Expert,
    FixedAction,
    Intervention,
    Situational,
    World,
    collect,
    make_babyai,
    make_household,
    run_episode,
    split_tasks,
)
from selfreg.envs.worlds import parse_help
from selfreg.estimate import ExactKey, Features, estimate_mdp
from selfreg.evaluate import Always, ComparedPolicy, Never, Plan, Row, read_rows, run_closed_loop
from selfreg.evaluate.closed_loop import write_rows
from selfreg.helper import Helper, HelperConfig, label, train_helper

COSTS = {"junior": (1, 0), "senior": (0, 1)}
HELPS = [
    Intervention("junior", steps=1, cost=(1, 0), helper=ErringHelper(0.5)),
    Intervention("senior", steps=2, cost=(0, 1)),
]
LEVEL = BabyAIConfig(level="BabyAI-UnlockPickup-v0")
make_level = partial(make_babyai, LEVEL, HELPS)


class StrongThenWeak:
    """Requests whatever there is left, the strong helper first."""

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        assert budget_left is not None
        return Decision("senior" if budget_left[1] else "junior" if budget_left[0] else "nohelp")


def test_each_budget_is_kept_by_itself() -> None:
    world = make_household(interventions=HELPS)
    episode = run_episode(world, "household-moved/3", 0, StrongThenWeak(), (2, 1))
    assert [step.intervention for step in episode.steps[:4]] == ["senior", "junior", "junior", None]
    assert (episode.fields["budget"], episode.fields["refused"], episode.cost) == ("2,1", 0, 3)
    refused = run_episode(world, "household-moved/3", 0, Always("senior"), (5, 0))
    assert (refused.cost, refused.fields["refused"]) == (0, len(refused.steps))
    for budget in (1, (1,), (1, 1, 1)):
        with pytest.raises(ValueError, match="expected a budget for each unit of a cost"):
            run_episode(world, "household-moved/3", 0, Never(), budget)
    with pytest.raises(ValueError, match="expected 0 or more"):
        run_episode(world, "household-moved/3", 0, Never(), (1, -1))


def test_costs_of_several_budgets_are_read_and_checked() -> None:
    assert parse_help("strong,steps=end,cost=0:2").cost == (0, 2)
    with pytest.raises(ValueError, match=r"cost=1:x?; expected|cost=x"):
        parse_help("strong,cost=1:x")
    with pytest.raises(ValueError, match="expected units of as many budgets for each"):
        make_household(interventions=[HELPS[0], Intervention("other")])
    with pytest.raises(ValueError, match="cost\\[1\\] is -1"):
        Intervention("a", cost=(0, -1))
    World("household", helps=["junior,error=0.3,cost=1:0", "senior,cost=0:1"]).make()


def compared(helper: Helper, plan: Plan, budget: tuple[int, int]) -> list[ComparedPolicy]:
    return [
        ComparedPolicy("never", (0, 0), Never()),
        ComparedPolicy("weak only", budget, Always("junior")),
        ComparedPolicy("strong first", budget, StrongThenWeak()),
        ComparedPolicy("helper", budget, helper),
        ComparedPolicy("plan", budget, plan),
    ]


def mean(rows: Sequence[Row], policy: str) -> float:
    return float(np.mean([row.success for row in rows if row.policy == policy]))


def learn(
    logs: Sequence[Trajectory], states: Any, budget: tuple[int, int], history: int = 0
) -> tuple[Helper, Plan, float]:
    """Estimate, plan, label and train: the helper, the plan, and the plan's success at the budgets."""
    model = estimate_mdp(logs, states, costs=COSTS)
    solution = selfreg.solve(model.mdp, budget)
    helper = train_helper(label(logs, model, solution), HelperConfig(form="words", history=history, rounds=0))
    return replace(helper, memory=None), Plan.of(model, solution), float(model.success(solution)[budget])


def test_babyai_from_collection_to_closed_loop(tmp_path: Path) -> None:
    train, _ = split_tasks(LEVEL, 6, 0, seed=1)
    logs = list(collect(make_level, train, CollectConfig(episodes_per_task=24, workers=1)))
    assert {step.intervention for one in logs for step in one.steps} == {None, "junior", "senior"}
    helper, plan, planned = learn(logs, ExactKey(), (2, 2))
    assert helper.limits == (2, 2)
    assert planned > 0.5
    rows = run_closed_loop(make_level, lambda: compared(helper, plan, (2, 2)), train, episodes_per_task=4, workers=1)
    write_rows(tmp_path / "rows.parquet", rows)
    assert read_rows(tmp_path / "rows.parquet") == rows
    spent = [tuple(map(int, row.spent.split(","))) for row in rows if row.policy in ("helper", "plan")]
    assert max(weak for weak, _ in spent) <= 2
    assert max(strong for _, strong in spent) == 2
    assert {row.budget for row in rows} == {"0,0", "2,2"}
    # On the tasks of the logs: six tasks are too few for new ones.
    assert mean(rows, "plan") > mean(rows, "never") + 0.2


WRONG = "Your answer is wrong"


class Dialogue:
    """A task of MINT's kind: a program is tried until it passes; feedback says what is wrong with it.

    A syntax error goes away where somebody reads the message, a wrong answer where somebody understands the task.
    """

    action_names = ("try again", "mend the syntax", "rethink", "submit")
    idle_action = 0

    def reset(self, task: str) -> None:
        self.turn, self.outcome = 0, None
        self.faults = ["syntax", "answer"] if int(task) % 2 else ["answer", "syntax"]

    @property
    def done(self) -> bool:
        return self.outcome is not None

    def step(self, action: int) -> None:
        self.turn += 1
        if self.faults and action == {"syntax": 1, "answer": 2}[self.faults[0]]:
            self.faults = self.faults[1:]
        if action == 3 or self.turn == 3:
            self.outcome = float(action == 3 and not self.faults)

    def text(self) -> str:
        shown = {"syntax": "SyntaxError: invalid syntax", "answer": WRONG}
        left = f"{shown[self.faults[0]]}, {len(self.faults)} to mend" if self.faults else "all tests passed"
        return f"Observation: {left}."

    def key(self) -> str:
        return f"{self.turn} {self.faults}"

    def expert_action(self) -> int:
        return {"syntax": 1, "answer": 2}[self.faults[0]] if self.faults else 3

    def save(self) -> Any:
        return self.turn, self.outcome, self.faults

    def restore(self, saved: Any) -> None:
        self.turn, self.outcome, self.faults = saved


class Programmer:
    """Submits what passes, and mends a fault once in eight times."""

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        wanted = environment.expert_action()
        return wanted if wanted == 3 or generator.random() < 0.125 else 0


def make_dialogue() -> AssistedEnvironment:
    """The weak helper reads messages and cannot rethink; the strong one can do both."""
    weak = Situational("wrong", FixedAction("try again"), Expert())
    helps = [Intervention("junior", cost=(1, 0), helper=weak), Intervention("senior", cost=(0, 1))]
    return AssistedEnvironment(Dialogue(), Programmer(), helps)


def test_a_log_of_feedback_from_collection_to_closed_loop(tmp_path: Path) -> None:
    """Through a log file: the weak helper is requested where it is enough, so that the strong one is left."""
    logs = list(collect(make_dialogue, [str(i) for i in range(20)], CollectConfig(episodes_per_task=40, workers=1)))
    write_trajectories(tmp_path / "log.jsonl", logs)
    read = list(read_trajectories(tmp_path / "log.jsonl"))
    named = {f"{name} {n}": f"{name}.*{n} to mend" for name in ("Syntax", "wrong") for n in (1, 2)}
    states = Features(["step", "class"], named)
    helper, plan, planned = learn(read, states, (1, 1))
    assert planned > 0.9
    syntax, answer = ([Step(f"Observation: {text}, 2 to mend.")] for text in ("SyntaxError: invalid syntax", WRONG))
    for policy in (helper, plan):
        assert policy.decide(syntax, (1, 1)).action == "junior"
        assert policy.decide(answer, (1, 1)).action == "senior"
        assert policy.decide(answer, (1, 0)).action == "nohelp"
    tasks = [str(i) for i in range(100, 140)]
    rows = run_closed_loop(make_dialogue, lambda: compared(helper, plan, (1, 1)), tasks, workers=1)
    assert mean(rows, "helper") > 0.9
    assert mean(rows, "helper") == pytest.approx(mean(rows, "plan"), abs=0.08)
    assert mean(rows, "helper") > max(mean(rows, "weak only"), mean(rows, "strong first"), mean(rows, "never")) + 0.1
    assert {row.spent for row in rows if row.policy == "weak only"} == {"1,0"}
