"""Every exported class survives pickle and deepcopy: people send models and results to workers.

`MAKERS` makes an instance of each class. Protocols are skipped; exceptions, NamedTuples and classes whose fields all
have defaults are made without an entry. A class with neither fails the test.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfreg
import selfreg.planning
from same import assert_same
from selfreg.data import Step, Trajectory

ROOMS = ("data", "decisions", "envs", "estimate", "evaluate", "helper", "prm", "runtime")
# Made by other tests, or in need of a server.
ELSEWHERE = {
    "PostgresLedger": "tests/runtime/ledger/test_ledger_budgets.py, with a server",
    "TextWorldEnvironment": "wraps a TextWorld game; workers make their own, from a picklable maker",
}


# ---- instances ------------------------------------------------------------------------------------------------------


@cache
def model(cyclic: bool = True) -> selfreg.InterventionMDP:
    alone = np.array([[0.5 * cyclic, 0.25, 0.25, 0.5 - 0.5 * cyclic], [0, 0, 0.5, 0.5], [0] * 4, [0] * 4])
    helped = np.array([[0, 0.5, 0.5, 0], [0, 0, 0.9, 0.1], [0] * 4, [0] * 4])
    return selfreg.InterventionMDP(
        {"nohelp": alone, "help": helped},
        [np.nan, np.nan, 1, 0],
        {"help": 1},
        visits={"nohelp": [9, 8, 0, 0], "help": [7, 6, 0, 0]},
    )


@cache
def logs() -> tuple[Trajectory, ...]:
    return tuple(
        Trajectory(
            f"t{i % 4}", str(i), float(i % 2), (Step("a", intervention="help" if i % 3 == 0 else None), Step("b"))
        )
        for i in range(12)
    )


class Scorer:
    def score(self, texts: list[str], *_: Any) -> np.ndarray:
        return np.array([len(text) % 3 / 3 for text in texts])


def grid_model(alone: float) -> selfreg.InterventionMDP:
    rows = np.array([[0, alone, 1 - alone], [0] * 3, [0] * 3])
    return selfreg.InterventionMDP({"nohelp": rows}, [np.nan, 1, 0], {})


def estimated() -> Any:
    from selfreg.estimate import ExactKey, estimate_mdp

    return estimate_mdp(logs(), ExactKey())


def coverage() -> Any:
    from selfreg.estimate import coverage

    fitted = estimated()
    return coverage(fitted, logs(), selfreg.solve(fitted.mdp, 1))


def bands(name: str, budget: Any) -> Any:
    import selfreg.estimate

    return getattr(selfreg.estimate, name)(logs(), selfreg.estimate.ExactKey(), budget, samples=2)


def crossfit() -> Any:
    from selfreg.estimate import Features, cross_fit

    return cross_fit(logs(), Features(["step"]), 1, splits=2)


def policy_forecasts() -> Any:
    estimate = importlib.import_module("selfreg.estimate")
    return estimate.forecast(logs(), estimate.Features(["step"]), 1, samples=5)


def advice() -> Any:
    from selfreg.estimate.advice import Advice, Sample

    return Advice((Sample(*range(len(Sample._fields))),), "value", 0.5, 0.4)


def score_bins() -> Any:
    from selfreg.estimate import ExactKey, ScoreBins

    return ScoreBins(ExactKey(), Scorer(), 2)


def environments(name: str, *arguments: Any) -> Callable[[], Any]:
    def make() -> Any:
        import selfreg.envs

        return getattr(selfreg.envs, name)(*arguments)

    return make


def policies(name: str, *arguments: Any) -> Callable[[], Any]:
    def make() -> Any:
        import selfreg.evaluate

        return getattr(selfreg.evaluate, name)(*arguments)

    return make


def situational() -> Any:
    from selfreg.envs import FixedAction, Situational

    return Situational("door", FixedAction("open"), FixedAction("wait"))


def ledger() -> selfreg.Ledger:
    result = selfreg.Ledger((2, 3))
    result.reserve("run", 0, (1, 2))
    result.charge("run", 1, (1, 0))
    return result


def sqlite_ledger() -> selfreg.SQLiteLedger:
    result = selfreg.SQLiteLedger(Path(tempfile.mkdtemp()) / "ledger.sqlite", 3)
    result.charge("run", 0, 1)
    return result


def search() -> Any:
    from selfreg.planning.frontiers import PointSearch

    return PointSearch(model(), 0, 1, None)


def mixture() -> Any:
    result = selfreg.frontier(model(), 0).at(0.3)
    assert len(result.policies) == 2  # computed before the round trip
    return result


@cache
def labels() -> Any:
    from selfreg.helper import label

    fitted = estimated()
    return label(logs(), fitted, selfreg.solve(fitted.mdp, 1))


@cache
def helper() -> Any:
    from selfreg.helper import HelperConfig, train_helper

    return train_helper(labels(), HelperConfig(form="tfidf"))


@cache
def prm() -> Any:
    from selfreg.prm import PRMConfig, train_prm

    many = [Trajectory(f"t{i}", str(i), float(i % 2), (Step("right" if i % 2 else "wrong"),)) for i in range(20)]
    return train_prm(many, PRMConfig(kind="tfidf"))


def text_classifier() -> Any:
    from selfreg.prm import EncoderConfig
    from selfreg.prm.transformer import TextClassifier

    return TextClassifier.create(["no", "yes"], ["a word", "another word"], EncoderConfig(hidden_size=8, layers=1))


def plan() -> Any:
    from selfreg.evaluate import Plan

    fitted = estimated()
    return Plan.of(fitted, selfreg.solve(fitted.mdp, 1))


def nearest(name: str, *more: Any) -> Any:
    import selfreg.evaluate

    return getattr(selfreg.evaluate, name)(estimated(), logs(), *more)


def nearest_plan() -> Any:
    from selfreg.evaluate import Extrapolating

    fitted = estimated()
    return Extrapolating(fitted, selfreg.solve(fitted.mdp, 1), nearest("NearestText"))


def imitation() -> Any:
    from selfreg.envs import ImitationPolicy
    from selfreg.envs.imitation import WEIGHTS

    weights = {name: np.ones(2) for name in WEIGHTS}
    return ImitationPolicy(weights, ["left", "right"])


def recorder() -> Any:
    from selfreg.evaluate import Never
    from selfreg.runtime import Recorder

    result = Recorder(Never(), sqlite_ledger(), costs={"help": 1})
    result.decide_once("run", 0, [Step("a")])
    return result


def desk() -> Any:
    from selfreg.runtime import Desk

    result = Desk(sqlite_ledger())
    result.open("run", 1, "a text", cost=1)
    return result


def help_request() -> Any:
    from selfreg.runtime import HelpRequest

    return HelpRequest("run", 0, "a text", "a reason", "help", "nohelp", 1.0, 2.0)


def read_nothing(path: str, options: Any) -> Any:
    return iter(())


def overlap_error() -> Any:
    from selfreg.evaluate import OverlapError
    from selfreg.evaluate.logged import Overlap

    return OverlapError("too few episodes", Overlap(*range(len(Overlap._fields))))


def rationed() -> Any:
    from selfreg.helper.rationing import RationedHelper

    return RationedHelper(helper(), 0.1, 0.3, 0.5, 1.0)


def recorded() -> Any:
    from selfreg.evaluate import Always, Recorded

    return Recorded(Always("help"), {"help": 1}, 2)


def availability() -> Any:
    from selfreg.runtime.availability import Availability

    return Availability(3, 2, 1, 0.6, (0.2, 0.9), 30.0, (0.4, 0.2))


def arrivals() -> Any:
    from selfreg.runtime import Arrivals

    return Arrivals((1.0,) * 168)


def period_price() -> Any:
    from selfreg.runtime import PeriodPrice

    return PeriodPrice(selfreg.frontier(model(), 0), 20)


EXAMPLE = Path(__file__).parents[1] / "examples" / "tickets.jsonl"
MAKERS: dict[str, Callable[[], Any]] = {
    "AssistedEnvironment": lambda: importlib.import_module("selfreg.envs").make_household(),
    "Availability": availability,
    "Budget": lambda: importlib.import_module("selfreg.runtime").Budget(3, scope="run"),
    "Desk": desk,
    "Examples": lambda: importlib.import_module("selfreg.prm").Examples(["a"], np.ones((1, 1)), np.ones(1)),
    "Extrapolating": lambda: nearest_plan(),
    "HelpRequest": help_request,
    "Helper": helper,
    "HelperExamples": lambda: labels().examples(0),
    "HouseholdEnvironment": lambda: importlib.import_module("selfreg.envs").make_household().environment,
    "ImitationPolicy": imitation,
    "Labels": labels,
    "Outcomes": lambda: importlib.import_module("selfreg.data").Outcomes(2, 1, 0.5, {"0": 1, "1": 1}),
    "Overview": lambda: importlib.import_module("selfreg.data").look_at_logs(EXAMPLE),
    "LogFormat": lambda: importlib.import_module("selfreg.data").LogFormat("mine", "lines", read_file=read_nothing),
    "Memory": lambda: helper().memory,
    "NearestScore": lambda: nearest("NearestScore", prm()),
    "NearestText": lambda: nearest("NearestText"),
    "OverlapError": overlap_error,
    "PRM": prm,
    "Plan": plan,
    "Arrivals": arrivals,
    "PeriodPrice": period_price,
    "PolicyForecasts": policy_forecasts,
    "RationedHelper": rationed,
    "Recorded": recorded,
    "PolicyComparison": lambda: importlib.import_module("selfreg.evaluate").PolicyComparison("help", [1], 5, [0.5]),
    "RecordedDecision": lambda: recorder().decisions()[0],
    "Recorder": recorder,
    "RequestClosed": lambda: importlib.import_module("selfreg.runtime").RequestClosed(help_request()),
    "TextClassifier": text_classifier,
    "ThresholdPolicy": lambda: importlib.import_module("selfreg.prm.threshold").ThresholdPolicy(prm(), "help", 0.5),
    "Advice": advice,
    "Allocation": lambda: selfreg.allocate([[0, 0.5], [0.2, 0.3]], 1),
    "Always": policies("Always", "help"),
    "CarelessPlayer": environments("CarelessPlayer", 0.1, 0.2),
    "ConstrainedMixture": lambda: selfreg.constrained(model(), 0, 0.3),
    "ConvergenceError": lambda: selfreg.ConvergenceError("tol=1 was not reached", 0.25),
    "Counts": lambda: estimated().counts,
    "Coverage": coverage,
    "CrossFit": crossfit,
    "Decision": lambda: importlib.import_module("selfreg.decisions").Decision("help", price=(0.5,)),
    "DegradedBot": environments("DegradedBot", 0.1, 0.2),
    "ErringHelper": environments("ErringHelper", 0.1),
    "EstimatedModel": estimated,
    "EveryN": policies("EveryN", "help", 2),
    "Expert": environments("Expert"),
    "Features": lambda: importlib.import_module("selfreg.estimate").Features(["step"]),
    "FixedAction": environments("FixedAction", "open"),
    "Explanation": lambda: selfreg.solve(model(), 1).explain(0, 1),
    "Frontier": lambda: selfreg.frontier(model(), 0),
    "FrontierBands": lambda: bands("frontier_bands", [0.5, 1]),
    "HardCapPrice": lambda: selfreg.hard_cap_price(model(), 0, [0, 1]),
    "Intervals": lambda: selfreg.Intervals(width={"nohelp": 0.1, "help": 0.2}),
    "InterventionMDP": model,
    "L1": lambda: selfreg.L1(confidence=0.9),
    "LastK": policies("LastK", "help", 2, 8),
    "Ledger": ledger,
    "ModelGrid": lambda: selfreg.ModelGrid(grid_model, {"alone": [0.2, 0.4]}),
    "Never": policies("Never"),
    "PenalizedSolution": lambda: selfreg.solve_penalized(model(), [0, 0.1]),
    "PointSearch": search,
    "PolicyTable": lambda: selfreg.evaluate_policy(model(), np.zeros((4, 2), int)),
    "PolicyValue": lambda: selfreg.evaluate_policy(model(), np.zeros(4, int), 0),
    "Pricing": lambda: search().pricing,
    "RandomHelp": environments("RandomHelp", 0.1, ["help"]),
    "RewardSearch": lambda: selfreg.reward_search(model(), 0, 0.3),
    "RobustSolution": lambda: selfreg.solve(model(), 1, robust=selfreg.L1(confidence=0.9)),
    "SQLiteLedger": sqlite_ledger,
    "ScoreBins": score_bins,
    "Simulation": lambda: selfreg.simulate(model(), np.zeros(4, int), 0, 5),
    "Situational": situational,
    "Solution": lambda: selfreg.solve(model(), 2),
    "StaleMapAgent": environments("StaleMapAgent", 0.1, 0.2),
    "StartSolution": lambda: selfreg.solve(model(False), 2, keep="start", start=0),
    "StationaryMixture": mixture,
    "Step": lambda: logs()[0].steps[0],
    "Sweep": lambda: selfreg.sweep([model(False), model()], 1, keep=("value", "policy")),
    "ThresholdRule": lambda: importlib.import_module("selfreg.prm.threshold").ThresholdRule(
        0.5, True, 1.0, 0.5, 0.5, 7
    ),
    "Trajectory": lambda: logs()[0],
    "Uncertainty": lambda: bands("uncertainty", 1),
}

# Objects that hold trained models or connections are compared by what they do.
STEPS = [Step("a"), Step("b")]
BEHAVIOUR: dict[str, Callable[[Any], Any]] = {
    "AssistedEnvironment": lambda one: (one.reset("household-moved/0", 0), one.state()),
    "Desk": lambda one: [request.text for request in one.requests()],
    "Extrapolating": lambda one: one.decide(STEPS, (1,)),
    "Helper": lambda one: one.decide(STEPS, (1,)),
    "HouseholdEnvironment": lambda one: (one.reset("household-moved/0"), one.text()),
    "ImitationPolicy": lambda one: one.digest(),
    "Memory": lambda one: [part.tolist() for part in one.nearest(["a"])],
    "NearestScore": lambda one: one.nearest(STEPS, "t0"),
    "NearestText": lambda one: one.nearest(STEPS, "t0"),
    "PRM": lambda one: one.score(["right", "wrong"]).tolist(),
    "Plan": lambda one: one.decide(STEPS, (1,)),
    "Recorded": lambda one: one.decide(STEPS, (2,)),
    "Recorder": lambda one: (one.decide_once("run", 0, STEPS), len(one.decisions())),
    "TextClassifier": lambda one: one.logits(["a word"]).tolist(),
    "ThresholdPolicy": lambda one: one.decide(STEPS, (1,)),
}


# ---- classes --------------------------------------------------------------------------------------------------------


# What functions return and rooms do not export.
RESULTS = (
    "selfreg.data.detection.DetectedLogs",
    "selfreg.data.overview.Overview",
    "selfreg.estimate.advice.Advice",
    "selfreg.estimate.bands.Uncertainty",
    "selfreg.evaluate.extrapolation.StateMatch",
    "selfreg.helper.calibration.Spending",
    "selfreg.helper.rationing.RationedHelper",
    "selfreg.prm.threshold.ThresholdPolicy",
    "selfreg.prm.threshold.ThresholdRule",
    "selfreg.prm.transformer.TextClassifier",
    "selfreg.runtime.availability.Availability",
    "selfreg.runtime.ledger.ledger.Entry",
    "selfreg.runtime.ledger.ledger.LimitChange",
    "selfreg.runtime.records.RecordedDecision",
)


def exported_classes() -> dict[str, type]:
    """Classes of ours in `__all__` of the package and its rooms, results, and all public classes of planning."""
    result: dict[str, type] = {}
    for path in RESULTS:
        module_name, _, name = path.rpartition(".")
        result[name] = getattr(importlib.import_module(module_name), name)
    for module in (selfreg, *(importlib.import_module(f"selfreg.{room}") for room in ROOMS)):
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        result |= {one.__name__: one for one in (getattr(module, name) for name in names) if inspect.isclass(one)}
    for info in pkgutil.iter_modules(selfreg.planning.__path__, "selfreg.planning."):
        if not info.name.rpartition(".")[2].startswith("_"):
            module = importlib.import_module(info.name)
            own = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == info.name]
            result |= {one.__name__: one for one in own if not one.__name__.startswith("_")}
    result = {name: one for name, one in result.items() if one.__module__.startswith("selfreg")}
    return {name: one for name, one in result.items() if not getattr(one, "_is_protocol", False)}


CLASSES = exported_classes()


def instance(one: Any) -> Any:
    if one.__name__ in MAKERS:
        return MAKERS[one.__name__]()
    if issubclass(one, BaseException):
        return one("a message")
    if hasattr(one, "_fields"):
        return one(*range(len(one._fields)))
    if dataclasses.is_dataclass(one):
        try:
            return one()
        except TypeError:
            pass
    raise AssertionError(f"{one.__module__}.{one.__name__} has no maker in tests/test_pickle.py")


def round_trip(value: Any, way: str) -> Any:
    return copy.deepcopy(value) if way == "deepcopy" else pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(ELSEWHERE)))
def test_exported_classes_round_trip(name: str, way: str) -> None:
    before = instance(CLASSES[name])
    after = round_trip(before, way)
    if isinstance(before, BaseException):
        assert (type(after), str(after), vars(after)) == (type(before), str(before), vars(before))
    elif name in BEHAVIOUR:
        assert BEHAVIOUR[name](after) == BEHAVIOUR[name](before)
    elif isinstance(before, selfreg.Ledger):
        assert (type(after), after.limits, after.left) == (type(before), before.limits, before.left)
        assert after.entries() == before.entries()
        assert after.reserve("run", 7, before.left)
    else:
        assert_same(after, before)


def test_exceptions_are_listed_once() -> None:
    assert set(CLASSES) >= set(ELSEWHERE)
    assert not set(ELSEWHERE) & set(MAKERS)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_what_is_read_only_stays_so(way: str) -> None:
    mdp = round_trip(model(), way)
    with pytest.raises(ValueError, match="read-only"):
        mdp.terminal_value[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        mdp.visits["help"][0] = 1
    with pytest.raises(TypeError):
        mdp.transitions["help"] = mdp.transitions["nohelp"]
    with pytest.raises(AttributeError):
        mdp.costs = {}


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
@pytest.mark.parametrize("cyclic", [False, True])
def test_copies_give_the_same_answers(cyclic: bool, way: str) -> None:
    solution = selfreg.solve(model(cyclic), 2)
    again = round_trip(solution, way)
    np.testing.assert_array_equal(selfreg.solve(again.mdp, 2).value, solution.value)
    np.testing.assert_array_equal(again.q("help"), solution.q("help"))
    front = selfreg.frontier(model(cyclic), 0, tol=0)
    same = round_trip(front, way)
    np.testing.assert_array_equal(same.at(0.3).policies, front.at(0.3).policies)
