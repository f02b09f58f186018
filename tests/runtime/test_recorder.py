"""The recorder: one decision a step, the same whatever is executed again, races or is killed."""

from __future__ import annotations

import json
import pickle
import sys
import threading
from collections import Counter
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pytest
import recorder_crowd
from crowds import open_ledger, run_crowd

from selfreg.data import Step, read_trajectories
from selfreg.decisions import Decision, Neighbour
from selfreg.runtime import Budget, Ledger, Recorder, SQLiteLedger, StepToDecide, logged_propensity, logged_requests


class ByWord:
    """Requests what the state says; counts its calls."""

    costs: ClassVar = {"person": 2, "model": 1}

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def decide(self, steps, budget_left):
        self.seen.append((steps[-1].state, budget_left))
        return Decision(steps[-1].state.split()[0], reason="as it says")


class Coin:
    """Draws at random, from the seed of `start`."""

    costs: ClassVar = {"person": 1}

    def start(self, task: str, seed: int) -> None:
        self.chance = np.random.default_rng(seed)

    def decide(self, steps, budget_left):
        return Decision("person" if self.chance.random() < 0.25 else "nohelp")

    def action_probabilities(self, steps, budget_left):
        return {"person": 0.25, "nohelp": 0.75}


def test_a_decision_is_made_once(make) -> None:
    policy = ByWord()
    recorder = Recorder(policy, make(5))
    first = recorder.decide_once("run", 0, [Step("person please")])
    assert (first.action, first.budget_left, recorder.ledger.left) == ("person", (5,), (3,))
    none = recorder.decide_once("run", 1, [Step("nohelp")])
    assert recorder.settle("run", 0, 1)
    for again in (recorder, Recorder(ByWord(), recorder.ledger)):
        assert again.decide_once("run", 0, [Step("model now")]) == first
        assert again.decide_once("run", 1, [Step("person now")]) == none
    assert len(policy.seen) == 2
    assert recorder.ledger.left == (4,)
    assert [entry[:3] for entry in recorder.ledger.entries()] == [("run", 0, "charged")]


def test_many_steps_are_decided_as_each_by_itself(make) -> None:
    states = ["person a", "nohelp", "model", "person b", "model"]
    alone, together = Recorder(ByWord(), Ledger(4)), Recorder(ByWord(), make(4))
    steps = [StepToDecide(f"run {i}", 0, [Step(state)]) for i, state in enumerate(states)]
    expected = [alone.decide_once(*step[:3]) for step in steps]
    found = together.decide_many([steps[0], *steps])  # the first one twice
    assert [one.action for one in found[1:]] == [one.action for one in expected]
    assert (found[0], together.ledger.left) == (found[1], alone.ledger.left)
    assert together.decide_many(steps[::-1]) == found[:0:-1]
    assert sorted(one.run_id for one in together.decisions()) == [f"run {i}" for i in range(5)]
    with pytest.raises(TypeError, match="run_id is True"):
        together.decide_many([StepToDecide("new", 0, [Step("nohelp")]), StepToDecide(True, 0, [Step("nohelp")])])
    assert together.find("new", 0) is None
    assert together.decide_many([]) == []


def test_a_stored_decision_is_found(make) -> None:
    recorder = Recorder(ByWord(), make(5))
    assert recorder.find("run", 0) is None
    decision = recorder.decide_once("run", 0, [Step("person please")])
    found = recorder.find("run", 0)
    assert found == recorder.decisions()[0]
    assert (found.decision, found.requested, found.cost) == (decision, "person", (2,))
    assert recorder.find("run", "0") is None


def test_no_help_stays_although_the_budget_comes_back(make) -> None:
    recorder = Recorder(ByWord(), make(2))
    recorder.decide_once("run", 0, [Step("person")])
    refused = recorder.decide_once("run", 1, [Step("person")])
    assert (refused.action, refused.reason) == ("nohelp", "as it says The budget cannot pay for 'person'.")
    assert recorder.refund("run", 0)
    assert recorder.decide_once("run", 1, [Step("person")]) == refused
    assert recorder.decide_once("run", 2, [Step("person")]).action == "person"


def test_all_fields_of_a_decision_are_stored(make) -> None:
    class Rich:
        def decide(self, steps, budget_left):
            near = (Neighbour("text", 0.5, {"person": 2}),)
            return Decision(
                "person",
                np.float64(0.7),
                MappingProxyType({"person": 0.9}),
                budget_left,
                "why",
                (None, 0.1),
                near,
                True,
            )

    recorder = Recorder(Rich(), make((2, 3)), costs={"person": (1, 0)})
    first = recorder.decide_once(1, "é", [Step("a")])
    again = recorder.decide_once(1, "é", [Step("a")])
    assert again == first
    assert (again.request_probability, again.neighbours[0].visits, again.price) == (0.7, {"person": 2}, (None, 0.1))
    assert first.budget_left == (2, 3)


def test_texts_and_numbers_of_numpy_are_stored_as_plain_ones(make) -> None:
    """They are instances of str and int, and come out of arrays of states."""
    recorder = Recorder(ByWord(), make(9))
    (state,) = np.array(["model please"])
    recorder.decide_once("run", 0, [Step(state, key=state, cost=np.int64(1))])
    (run,) = recorder.trajectories()
    assert (type(run.steps[0].state), run.steps[0].state, run.steps[0].key) == (str, "model please", "model please")


@pytest.mark.parametrize("shadow", [False, True])
def test_a_step_without_help_is_not_charged(make, shadow) -> None:
    recorder = Recorder(ByWord(), make(9), shadow=shadow)
    recorder.decide_once("run", 0, [Step("person" if shadow else "nohelp")])
    for cost in (None, 0, 2):
        with pytest.raises(ValueError, match="was decided without help; there is nothing to settle"):
            recorder.settle("run", 0, cost)
    assert (recorder.ledger.left, recorder.ledger.entries()) == ((9,), [])


def test_it_decides_again_where_the_units_went_to_another_step() -> None:
    """Between the look at the budget and the reservation another step takes what is left."""
    ledger = Ledger(2)

    class Slow(ByWord):
        def decide(self, steps, budget_left):
            if not self.seen:
                assert ledger.charge("other", 0, 1)
            return super().decide(steps, budget_left)

    policy = Slow()
    assert Recorder(policy, ledger).decide_once("run", 0, [Step("person")]).action == "nohelp"
    assert [left for _, left in policy.seen] == [(2,), (1,)]


def test_scopes_and_periods_reach_the_policy(make) -> None:
    ledger = make([Budget(2, scope="run"), Budget(3, scope="task")])
    policy = ByWord()
    recorder = Recorder(policy, ledger)
    for i, run in enumerate(["a", "b", "a"]):
        recorder.decide_once(run, i, [Step("model")], keys={"task": "t"})
    assert [left for _, left in policy.seen] == [(2,), (2,), (1,)]
    assert recorder.decide_once("b", 9, [Step("model")], keys={"task": "t"}).action == "nohelp"
    assert [one.task for one in recorder.trajectories()] == ["t", "t"]
    with pytest.raises(ValueError, match="needs keys"):
        recorder.decide_once("c", 0, [Step("model")])


def test_exploration_is_recorded_with_its_propensity(make) -> None:
    recorder = Recorder(ByWord(), make(10**6), explore=0.3)
    for i in range(200):
        recorder.decide_once("run", i, [Step("model")])
    counts = Counter((one.requested, one.explored) for one in recorder.decisions())
    for action, expected in (("nohelp", 20), ("person", 20)):
        assert abs(counts[action, True] - expected) < 14
        assert not counts[action, False]
    chances = {one.requested: one.propensity for one in recorder.decisions()}
    assert chances == pytest.approx({"model": 0.8, "nohelp": 0.1, "person": 0.1})


def test_what_cannot_be_paid_is_not_explored() -> None:
    recorder = Recorder(ByWord(), Ledger(1), explore=1.0)
    for i in range(20):
        recorder.decide_once(f"run {i}", 0, [Step("person")])
    found = [(one.requested, one.propensity) for one in recorder.decisions()]
    first = next(i for i, (action, _) in enumerate(found) if action == "model")
    assert set(found[: first + 1]) <= {("nohelp", 0.5), ("model", 0.5)}
    assert set(found[first + 1 :]) == {("nohelp", 1.0)}


def test_a_random_policy_draws_the_same_again_and_says_its_chances() -> None:
    drawn = []
    for _ in range(2):
        recorder = Recorder(Coin(), Ledger(10**6))
        drawn.append([recorder.decide_once("run", i, [Step("a")]).action for i in range(200)])
        assert {one.requested: one.propensity for one in recorder.decisions()} == {"person": 0.25, "nohelp": 0.75}
    assert drawn[0] == drawn[1]
    assert 30 < drawn[0].count("person") < 70


def test_shadow_mode_never_spends(make) -> None:
    recorder = Recorder(ByWord(), make(3), shadow=True)
    decision = recorder.decide_once("run", 0, [Step("person")])
    assert (decision.action, decision.reason) == ("nohelp", "In shadow mode; would request 'person'. as it says")
    assert recorder.decide_once("run", 1, [Step("person")]).reason == "as it says The budget cannot pay for 'person'."
    assert [(one.requested, one.cost) for one in recorder.decisions()] == [("person", (2,)), ("nohelp", (0,))]
    assert (recorder.ledger.left, recorder.ledger.entries()) == ((3,), [])
    (episode,) = recorder.trajectories()
    assert [(step.intervention, logged_propensity(episode, i)) for i, step in enumerate(episode.steps)] == [
        (None, 1.0),
        (None, 1.0),
    ]


def test_what_happened_is_exported(make, tmp_path) -> None:
    recorder = Recorder(ByWord(), make(9), explore=0.2, seed=3)
    steps = [Step("model a", key="k")]
    recorder.decide_once("run", 0, steps)
    recorder.settle("run", 0)
    steps = [Step("model a", action="open", intervention="model"), Step("person b")]
    recorder.decide_once("run", 1, steps)
    recorder.refund("run", 1)
    recorder.decide_once("run", 2, [*steps[:1], Step("person b", action="close"), Step("person c")])
    recorder.settle("run", 2, 1)
    recorder.decide_once("open", 0, [Step("nohelp")])
    recorder.outcome("run", True)
    recorder.outcome("run", 1.0)
    with pytest.raises(ValueError, match=r"duplicate outcome of run 'run': 1.0 before, 0.0 now"):
        recorder.outcome("run", False)
    assert recorder.export(tmp_path / "log.jsonl") == 2
    run, unfinished = read_trajectories(tmp_path / "log.jsonl")
    assert [(one.state, one.action, one.intervention, one.cost, one.key) for one in run.steps] == [
        ("model a", "open", "model", 1, "k"),
        ("person b", "close", None, None, None),
        ("person c", None, "person", 1, None),
    ]
    assert (run.outcome, run.truncated, unfinished.outcome, unfinished.truncated) == (1.0, False, None, True)
    assert logged_propensity(run, 0) == pytest.approx(0.8 + 0.2 / 3)
    assert (logged_requests(run, 1), logged_propensity(run, 1)) == (("person",), pytest.approx(0.8 + 0.2 / 3))
    with pytest.raises(ValueError, match="no recorded propensity of step 3"):
        logged_propensity(run, 3)


def test_exported_logs_evaluate_other_policies() -> None:
    """Off-policy evaluation with the recorded propensities finds what always requesting help attains."""
    from selfreg.estimate import Features
    from selfreg.evaluate import Always, ope

    recorder = Recorder(ByWord(), Ledger(10**6), costs={"model": 1}, explore=0.5)
    for run in range(400):
        action = recorder.decide_once(run, 0, [Step("nohelp" if run % 2 else "model")]).action
        recorder.outcome(run, action == "model")
    found = ope(recorder.trajectories(), Always("model"), propensity=logged_propensity, abstraction=Features(["step"]))
    assert found.estimates["weighted importance sampling"].success.mean == 1.0


@pytest.mark.parametrize("retry", [False, True])
def test_logs_evaluate_requests_whose_help_failed(tmp_path, retry) -> None:
    """A request is valued with what it is worth where help fails; success is help, and luck without it."""
    from selfreg.estimate import Features
    from selfreg.evaluate import Always, Never, ope

    chance, recorder = np.random.default_rng(0), Recorder(ByWord(), Ledger(10**6), costs={"model": 3}, explore=1.0)
    for run in range(1000):
        attempt, helped = 1, False
        while recorder.decide_once(run, f"0#{attempt}", [Step("nohelp")]).requests_help and not helped:
            helped = chance.random() < 0.6
            (recorder.settle if helped else recorder.refund)(run, f"0#{attempt}")
            if not retry:
                break
            attempt += not helped
        recorder.outcome(run, helped or chance.random() < 0.2)
    recorder.export(tmp_path / "log.jsonl")
    episodes = list(read_trajectories(tmp_path / "log.jsonl"))
    options = {"propensity": logged_propensity, "abstraction": Features(["step"]), "refits": 20}
    always, never = ope(episodes, Always("model"), **options), ope(episodes, Never(), **options)
    asked = [one for one in episodes if set(logged_requests(one, 0)) == {"model"}]
    for name in ("weighted importance sampling", "doubly robust"):
        assert never.estimates[name].success.mean == pytest.approx(0.2, abs=0.06)
        assert always.estimates[name].success.mean == pytest.approx(1.0 if retry else 0.68, abs=0.06)
        assert always.estimates[name].usage.mean == pytest.approx(3.0 if retry else 1.8, abs=0.3)
    assert always.overlap.matched == len(asked) / 1000


def test_a_pool_above_training_is_said_once() -> None:
    policy = ByWord()
    policy.limits = (5,)
    recorder = Recorder(policy, Ledger(500))
    with pytest.warns(UserWarning, match=r"budget left \(500,\) is above \(5,\), the largest in training"):
        recorder.decide_once("run", 0, [Step("nohelp")])
    recorder.decide_once("run", 1, [Step("nohelp")])


def test_misuse_is_named(make) -> None:
    with pytest.raises(ValueError, match="costs is missing"):
        Recorder(Never(), make(1))
    with pytest.raises(ValueError, match="has 2 entries; expected one for each of 1 units"):
        Recorder(Never(), Ledger(1), costs={"person": (1, 1)})
    with pytest.raises(ValueError, match="costs has 'nohelp'"):
        Recorder(Never(), Ledger(1), costs={"nohelp": 1})
    with pytest.raises(ValueError, match="explore is 2"):
        Recorder(Never(), Ledger(1), costs={"person": 1}, explore=2)
    with pytest.raises(ValueError, match="exclude each other"):
        Recorder(Never(), Ledger(1), costs={"person": 1}, explore=0.1, shadow=True)
    recorder = Recorder(ByWord(), Ledger(1))
    with pytest.raises(TypeError, match="steps has a str; expected"):
        recorder.decide_once("run", 0, "model")
    with pytest.raises(ValueError, match="steps is empty"):
        recorder.decide_once("run", 0, [])
    with pytest.raises(ValueError, match="the policy requests 'oracle'; the costs have person, model"):
        recorder.decide_once("run", 0, [Step("oracle")])
    with pytest.raises(ValueError, match=r"success is 2; expected a number in \[0, 1\]"):
        recorder.outcome("run", 2)
    recorder.decide_once(1, 0, [Step("nohelp")])
    recorder.decide_once("1", 0, [Step("nohelp")])
    with pytest.raises(ValueError, match="duplicate run '1'"):
        recorder.trajectories()


class Never:
    def decide(self, steps, budget_left):
        return Decision()


def test_recorders_are_pickled(make) -> None:
    recorder = Recorder(Coin(), make(3))
    first = recorder.decide_once("run", 0, [Step("a")])
    assert pickle.loads(pickle.dumps(recorder)).decide_once("run", 0, [Step("a")]) == first


def test_racing_threads_get_one_decision(make) -> None:
    """Eight threads decide the same 40 steps in different orders, under a budget that half of them use up."""
    recorder, start = Recorder(recorder_crowd.Moody(), make(60)), threading.Barrier(8)
    found: list[dict[int, Decision]] = [{} for _ in range(8)]

    def work(worker: int) -> None:
        start.wait()
        for i in range(40):
            step = (7 * i * (worker + 1) + worker) % 40 if worker % 2 else (i + 5 * worker) % 40
            found[worker][step] = recorder.decide_once("run", step, [Step(f"run {step}")])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    merged: dict[int, Decision] = {}
    for one in found:
        for step, decision in one.items():
            assert merged.setdefault(step, decision) == decision
    helped = sum(decision.requests_help for decision in merged.values())
    assert recorder.ledger.left == (60 - 3 * helped,)
    assert len(recorder.ledger.entries()) == helped


# ---- killed


def audit(ledger: Ledger, diaries: list[list[list[str]]], limit: int, steps: int) -> None:
    """Nothing overspent, nothing charged twice, no decision changed, no acknowledged answer lost."""
    entries = {(one.run_id, one.step_id): one for one in ledger.entries()}
    counted = sum(one.cost[0] for one in entries.values() if one.status in ("reserved", "charged"))
    assert counted <= limit
    assert ledger.left == (limit - counted,)
    assert not ledger.entries("reserved"), "all scripts were walked to the end: everything is settled"
    stored = {(one.run_id, one.step_id): one.decision for one in Recorder(recorder_crowd.Moody(), ledger).decisions()}
    assert {key for key, one in stored.items() if one.requests_help} == set(entries)
    for agent, diary in enumerate(diaries):
        script = recorder_crowd.script(agent, steps)
        assert diary[-1][0] == "end"
        for word, i, *rest in diary:
            if word in ("end", "again"):
                continue
            key = script[int(i)]
            if word == "decide":
                decision = stored[key]
                assert rest == [decision.action, decision.reason.replace(" ", "_")], f"step {key} was decided anew"
            if word == "settle":
                cost = recorder_crowd.real_cost(*key)
                assert (rest, entries[key].status) == (["True"], "charged" if cost else "refunded")
                assert not cost or entries[key].cost == (cost,)


# (agents, kills, steps): long scripts, so that kills meet new steps.
PROGRAM = recorder_crowd.__file__
KILLS = [(1, 60, 40), (8, 190, 40)]
LONG = [pytest.param(1, 2000, 1500, marks=pytest.mark.long), pytest.param(8, 8000, 1500, marks=pytest.mark.long)]
TROUBLE = [
    (4, 0, 40),
    *(pytest.param(agents, kills, 600, marks=pytest.mark.long) for agents, kills in [(1, 300), (8, 1700)]),
]


@pytest.mark.parametrize(("agents", "kills", "steps"), KILLS + LONG)
def test_killed_processes_change_no_decision(place, tmp_path, agents, kills, steps) -> None:
    limit = 3 * steps * (agents + 1) // 2
    ledger = open_ledger(place, limit)
    audit(ledger, run_crowd(PROGRAM, place, tmp_path / "diaries", (agents, kills, steps)), limit, steps)


@pytest.mark.parametrize(("agents", "kills", "steps"), TROUBLE)
def test_a_server_in_trouble_changes_no_decision(postgres, server_place, tmp_path, agents, kills, steps) -> None:
    """It restarts and cuts its connections; in the long tests processes are killed as well."""
    limit = 3 * steps * (agents + 1) // 2
    ledger, numbers = open_ledger(server_place, limit), (agents, kills, steps)
    diaries = run_crowd(PROGRAM, server_place, tmp_path / "diaries", numbers, postgres.make_trouble)
    audit(ledger, diaries, limit, steps)


@pytest.mark.parametrize("agents", [4])
def test_threads_that_are_interrupted_change_no_decision_in_memory(agents) -> None:
    """A store in memory ends with its process; what can happen to it are exceptions at any call."""
    ledger = Ledger(30)
    for place in range(1, 120):
        recorder, calls = Recorder(recorder_crowd.Moody(), ledger), 0

        def trace(frame, event, _, place=place):
            nonlocal calls
            if "selfreg/runtime" in frame.f_code.co_filename and event == "call":
                calls += 1
                if calls == place:
                    raise KeyboardInterrupt

        before = sys.gettrace()
        sys.settrace(trace)
        first = None
        try:
            first = recorder.decide_once("run", place, [Step(f"run {place}")])
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        again = recorder.decide_once("run", place, [Step(f"run {place}")])
        assert first in (None, again)
    requested = [one for one in recorder.decisions() if one.decision.requests_help]
    assert len(ledger.entries()) == len(requested)
    assert ledger.left == (30 - 3 * len(requested),)


def test_stored_decisions_are_plain_json(tmp_path) -> None:
    recorder = Recorder(ByWord(), SQLiteLedger(tmp_path / "ledger", 3))
    recorder.decide_once("run", 0, [Step("model")])
    ((key, content),) = recorder.ledger._store.read(lambda transaction: transaction.records("decision"))
    assert key == ("run", 0)
    assert json.loads(content)["requested"] == "model"


def test_halves_of_characters_are_read_as_in_logs(tmp_path) -> None:
    """A text that was cut within an emoji: no file could hold it, so that the log of all runs was lost."""
    seen = []

    class Looks:
        def decide(self, steps, budget_left):
            seen.extend((step.state, step.action) for step in steps)
            return Decision()

    recorder = Recorder(Looks(), Ledger(1), costs={"person": 1})
    recorder.decide_once("run", 0, [Step("cut \ud83d", "say \ude00"), Step("\ud83d\ude00 ä \ufeff")])
    assert seen == [("cut \ufffd", "say \ufffd"), ("😀 ä \ufeff", None)]
    assert recorder.export(tmp_path / "log.jsonl") == 1
    (run,) = read_trajectories(tmp_path / "log.jsonl")
    assert run.steps[0].state == "😀 ä \ufeff"
