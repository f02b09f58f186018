"""What a recorder stores, and trajectories made of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from selfreg._util.extras import require_extra
from selfreg.data import NOHELP, Scalar, Step, Trajectory
from selfreg.decisions import Decision, Neighbour
from selfreg.runtime.drafts import Draft, StepToDecide
from selfreg.runtime.ledger.budgets import Units
from selfreg.runtime.ledger.store import COUNTED, EXPIRED, REFUNDED, Key, Row, Transaction, parses

with require_extra("logs", "selfreg.runtime.Recorder"):
    import msgspec

DECISION, OUTCOME = "decision", "outcome"  # kinds of records
FAILED = (REFUNDED, EXPIRED)
PLACE = ("length", "action_before", "step")  # of an episode, as far as a stored decision tells
ATTEMPT = re.compile(r"#\d+$")  # what the ids of further attempts end with
_Stored: TypeAlias = "tuple[Key, dict[str, Any]]"


@dataclass(frozen=True)
class RecordedDecision:
    """A decision as it was stored.

    Attributes
    ----------
    run_id, step_id : str or int
    decision : Decision
        What `decide_once` returned.
    requested : str
        The action that was chosen: that of `decision`, but for a recorder in shadow mode, which returns "nohelp".
    propensity : float
        P(`requested`) in the state, with the budget that was left.
    explored : bool
        Whether the action was drawn at random by the share of exploration.
    cost : tuple of int
        Units that were reserved (in shadow mode: that would have been).
    time : float
        Seconds since 1970, by the clock of the ledger.
    state : str
        Text of the state.
    keys : dict
        Task and other scopes.
    """

    run_id: str | int
    step_id: str | int
    decision: Decision
    requested: str
    propensity: float
    explored: bool
    cost: Units
    time: float
    state: str
    keys: dict[str, str | int]


def logged_propensity(trajectory: Trajectory, step: int) -> float:
    """P(action) of a step of an exported trajectory, for ``selfreg.evaluate.ope(propensity=logged_propensity)``.

    Where help failed, it is the probability of all that was decided in the step (`logged_requests`).

    Raises
    ------
    ValueError
        The trajectory has no propensity there: it was not exported by a recorder.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Recorder, logged_propensity
    >>> class Never:
    ...     def decide(self, steps, budget_left):
    ...         return Decision()
    >>> recorder = Recorder(Never(), Ledger(9), costs={"person": 1}, explore=0.1)
    >>> decision = recorder.decide_once("run 1", 0, [Step("ready")])
    >>> decision.action, round(logged_propensity(recorder.trajectories()[0], 0), 6)
    ('nohelp', 0.95)
    """
    value = trajectory.fields.get(f"propensity {step}")
    if not isinstance(value, float):
        raise ValueError(f"episode {trajectory.episode!r} has no recorded propensity of step {step}")
    return value


def logged_requests(trajectory: Trajectory, step: int) -> tuple[str, ...]:
    """Actions that were decided in a step of an exported trajectory: several where help failed and was decided again.

    The last one was executed, unless its help failed too and the agent went on alone.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Recorder, logged_requests
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("person")
    >>> recorder = Recorder(Always(), Ledger(9), costs={"person": 1})
    >>> decision, failed = recorder.decide_once("run 1", 0, [Step("ready")]), recorder.refund("run 1", 0)
    >>> run = recorder.trajectories()[0]
    >>> run.steps[0].intervention, logged_requests(run, 0)
    (None, ('person',))
    """
    text, executed = trajectory.fields.get(f"failed help {step}"), trajectory.steps[step].intervention
    failed = () if text is None else tuple(str(text).split(", "))
    if failed and executed is None and not trajectory.fields.get(f"decided again {step}"):
        return failed
    return (*failed, executed or NOHELP)


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays in a decision of a user's policy."""
    for name in ("tolist", "_asdict"):
        if hasattr(value, name):
            return getattr(value, name)()
    return dict(value) if isinstance(value, Mapping) else str(value)


_ENCODER = json.JSONEncoder(default=_plain)


def encode_decision(draft: Draft, step: StepToDecide, requested: str, shadow: bool, now: float) -> str:
    """A decision as JSON."""
    steps = step.steps
    return _ENCODER.encode(
        {
            "decision": {one.name: getattr(draft.decision, one.name) for one in fields(Decision)},
            "requested": requested,
            "propensity": draft.propensity,
            "explored": draft.explored,
            "shadow": shadow,
            "cost": draft.cost,
            "time": now,
            "step": msgspec.to_builtins(steps[-1], enc_hook=_plain),
            "length": len(steps),
            "action_before": steps[-2].action if len(steps) > 1 else None,
            "keys": dict(step.keys or {}),
        }
    )


def decode_decision(key: Key, content: str) -> RecordedDecision:
    found = json.loads(content)
    stored = found["decision"]
    left = stored["budget_left"]
    decision = Decision(
        **{
            **stored,
            "budget_left": None if left is None else tuple(left),
            "price": tuple(stored["price"] or ()),
            "neighbours": tuple(Neighbour(*one) for one in stored["neighbours"]),
        }
    )
    return RecordedDecision(
        run_id=key[0],
        step_id=key[1],
        decision=decision,
        requested=found["requested"],
        propensity=found["propensity"],
        explored=found["explored"],
        cost=tuple(found["cost"]),
        time=found["time"],
        state=found["step"]["state"],
        keys=found["keys"],
    )


@parses
def read_decision(key: Key, content: str) -> RecordedDecision:
    """A stored decision; what is none is damage."""
    return decode_decision(key, content)


@parses
def read_outcome(content: str) -> float:
    """A stored outcome; what is none is damage."""
    value = json.loads(content)
    if not isinstance(value, float) or not 0.0 <= value <= 1.0:
        raise ValueError(f"an outcome is {content!r}")
    return value


def recorded_decisions(transaction: Transaction) -> list[RecordedDecision]:
    """All stored decisions, in order."""
    return [read_decision(key, content) for key, content in transaction.records(DECISION)]


def recorded_trajectories(transaction: Transaction) -> list[Trajectory]:
    """What happened, as `Recorder.trajectories` says."""
    entries, outcomes = dict(transaction.entries()), dict(transaction.records(OUTCOME))
    runs: dict[str | int, list[tuple[Key, dict[str, Any]]]] = {}
    for key, content in transaction.records(DECISION):
        read_decision(key, content)
        runs.setdefault(key[0], []).append((key, json.loads(content)))
    names = [str(run_id) for run_id in runs]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate run {name!r}: one id is an int, the other a str")
    return [
        _trajectory(rows, entries, None if (o := outcomes.get((run_id, ""))) is None else read_outcome(o))
        for run_id, rows in runs.items()
    ]


@parses
def _trajectory(rows: Sequence[_Stored], entries: Mapping[Key, Row], success: float | None) -> Trajectory:
    actions = {content["length"]: content["action_before"] for _, content in rows}
    steps = []
    facts: dict[str, Scalar] = {}
    for i, (attempts, failed) in enumerate(_executed(rows, entries)):
        key, content = attempts[-1]
        row, requested, shadow = entries.get(key), content["requested"], content["shadow"]
        helped = requested != NOHELP and not shadow and row is not None and row.status in COUNTED
        step = msgspec.convert(content["step"], Step)
        steps.append(
            Step(
                state=step.state,
                action=actions.get(content["length"] + 1),
                key=step.key,
                intervention=requested if helped else None,
                cost=row.cost[0] if helped and row is not None else None,
                label=step.label,
            )
        )
        facts[f"propensity {i}"] = math.prod(1.0 if one["shadow"] else float(one["propensity"]) for _, one in attempts)
        if failed:
            facts[f"failed help {i}"] = ", ".join(failed)
            if requested == NOHELP:
                facts[f"decided again {i}"] = True
    (run_id, _), first = rows[0]
    task = str(first["keys"].get("task", run_id))
    return Trajectory(task, str(run_id), success, tuple(steps), truncated=success is None, fields=facts)


def _executed(rows: Sequence[_Stored], entries: Mapping[Key, Row]) -> list[tuple[list[_Stored], list[str]]]:
    """Steps in order, each with its attempts and the help that failed in it."""
    grows = any(content["length"] > 1 for _, content in rows)
    found: list[tuple[list[_Stored], list[str]]] = []
    open_steps: dict[str, int] = {}  # steps whose help failed, by place
    for stored in rows:
        key, content = stored
        entry, place = entries.get(key), _place(stored, grows)
        failed = [content["requested"]] if entry is not None and entry.status in FAILED else []
        before = open_steps.pop(place, None)
        if before is None:
            found.append(([stored], failed))
        else:
            found[before] = [*found[before][0], stored], found[before][1] + failed
        if failed:
            open_steps[place] = len(found) - 1 if before is None else before
    return found


def _place(stored: _Stored, grows: bool) -> str:
    """What attempts at one step have in common: their place in the episode.

    Where an agent sends only its last state (the episode does not grow), all places look alike: then ids such as "3"
    and "3#2" tell them apart.
    """
    (_, step_id), content = stored
    name = None if grows else ATTEMPT.sub("", str(step_id))
    return json.dumps([[content[one] for one in PLACE], name], sort_keys=True)
