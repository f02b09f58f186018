"""One recorded decision a step: made once with its reservation, looked up whenever the step is executed again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg.data import NOHELP, Scalar, Step, Trajectory, write_trajectories
from selfreg.decisions import Decision, DecisionPolicy, Neighbour, start_episode
from selfreg.runtime.ledger.accounts import Accounts
from selfreg.runtime.ledger.budgets import Keys, Units
from selfreg.runtime.ledger.ledger import Cost, Ledger
from selfreg.runtime.ledger.store import COUNTED, RESERVED, Key, Row, Transaction, as_key, encode

with require_extra("logs", "selfreg.runtime.Recorder"):
    import msgspec

DECISION, OUTCOME = "decision", "outcome"  # kinds of records


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


class _Draft(NamedTuple):
    """A decision that is not stored yet."""

    decision: Decision
    propensity: float
    explored: bool
    cost: Units


class Recorder:
    """Decides once a step over a ledger, and stores what happened.

    A decision that is made anew after a crash, a retry or a resume may differ, since the budget that is left has
    changed. `decide_once` makes it once: the decision, "no help" as well as help, and the reservation of its cost are
    stored in one transaction, and every later call with the same ids looks it up.

    Parameters
    ----------
    policy : DecisionPolicy
        A helper, a plan, a baseline. It must decide from the steps and the budget alone: `start`, where it has one, is
        called before each decision, with a seed that depends on the ids of the step.
    ledger : Ledger
        In memory, in a file or on a server; decisions are stored in the same place.
    costs : mapping of str to cost, optional
        Units that each help type costs; those of the policy by default.
    explore : float
        Share of steps, from 0 to 1, in which the action is drawn at random among those that the budget can pay for. The
        probability of the action is recorded, so that off-policy evaluation can use the log.
    shadow : bool
        Decide and record, and spend nothing: `decide_once` returns "nohelp". What would have been spent is counted
        apart, under the same limits.
    seed : int
        Of exploration.
    expires_in : float, optional
        Seconds after which an unsettled reservation is given back; by default never.

    Raises
    ------
    TypeError, ValueError
        There are no costs; a cost does not fit the units of the ledger; `explore` is not in [0, 1].

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Recorder
    >>> class AfterAnError:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("person" if "error" in steps[-1].state else "nohelp")
    >>> recorder = Recorder(AfterAnError(), Ledger(1), costs={"person": 1})
    >>> recorder.decide_once("run 1", 0, [Step("error: no such file")]).action
    'person'
    >>> recorder.decide_once("run 2", 0, [Step("error: no such file")]).action  # nothing is left
    'nohelp'
    >>> recorder.refund("run 1", 0)  # the person did not answer
    True
    >>> recorder.decide_once("run 2", 0, [Step("error: no such file")]).action  # executed again
    'nohelp'
    >>> recorder.outcome("run 2", success=False)
    >>> [(one.episode, one.outcome) for one in recorder.trajectories()]
    [('run 1', None), ('run 2', 0.0)]
    """

    def __init__(
        self,
        policy: DecisionPolicy,
        ledger: Ledger,
        *,
        costs: Mapping[str, Cost] | None = None,
        explore: float = 0.0,
        shadow: bool = False,
        seed: int = 0,
        expires_in: float | None = None,
    ) -> None:
        costs = getattr(policy, "costs", None) if costs is None else costs
        if not costs:
            raise ValueError("costs is missing: the policy has none; give units by help type, such as {'person': 1}")
        if NOHELP in costs:
            raise ValueError(f"costs has {NOHELP!r}; expected help types only")
        if not 0.0 <= explore <= 1.0:
            raise ValueError(f"explore is {explore!r}; expected a share in [0, 1]")
        if shadow and explore:
            raise ValueError("shadow and explore exclude each other: in shadow mode no action is executed")
        self._policy, self._ledger, self._shadow = policy, ledger, shadow
        self._costs = {action: ledger.parse_cost(cost) for action, cost in costs.items()}
        self._explore, self._seed, self._expires_in = explore, seed, expires_in
        self._locks: dict[int, threading.Lock] = {}
        self._warned = False

    @property
    def ledger(self) -> Ledger:
        """The ledger that pays."""
        return self._ledger

    @property
    def shadow(self) -> bool:
        """Whether nothing is spent."""
        return self._shadow

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_locks": {}}

    # ---- decide

    def decide_once(
        self, run_id: str | int, step_id: str | int, steps: Sequence[Step], *, keys: Keys | None = None
    ) -> Decision:
        """The decision for a step: made and stored by the first call, looked up by all others.

        Parameters
        ----------
        run_id, step_id : str or int
            Together the identity of the step; the same whenever it is executed again.
        steps : sequence of Step
            The episode so far; the last one is the current state, without action and intervention.
        keys : mapping of str to str or int, optional
            Scopes that the ledger's budgets need. "task" also names the task of the exported trajectory.

        Returns
        -------
        Decision
            With "nohelp" as action where the budget cannot pay for the request. A help type is reserved: `settle` or
            `refund` it afterwards.

        Raises
        ------
        TypeError, ValueError
            As of `Ledger.reserve`; `steps` is empty or not of Step; the policy requests a help type without costs.
        """
        key = as_key(run_id, step_id)
        for step in steps:
            if not isinstance(step, Step):
                raise TypeError(f"steps has a {type(step).__name__}; expected selfreg.data.Step only")
        if not steps:
            raise ValueError("steps is empty; the last one is the current state")
        scopes = dict(keys or {})
        stored = None
        while stored is None:
            stored = self._find_or_make(key, steps, scopes)
        return _decode(key, stored).decision

    def _find_or_make(self, key: Key, steps: Sequence[Step], keys: dict[str, str | int]) -> str | None:
        """What is stored, or None where another step took the units while the policy decided."""
        stored, left = self._ledger.read(lambda transaction: self._look_up(transaction, key, keys))
        if stored is not None:
            return stored
        if left is None:
            left = self._ledger.write(lambda accounts: accounts.left(key[0], keys), self._shadow)
        # The policy may be slow: it decides outside of the transaction.
        draft = self._draft(key, steps, left, keys)
        return self._ledger.write(lambda accounts: self._store_draft(accounts, key, draft, steps, keys), self._shadow)

    def _look_up(self, transaction: Transaction, key: Key, keys: Keys) -> tuple[str | None, Units | None]:
        """The stored decision, or what is left; neither where reservations must expire first."""
        stored = transaction.find_record(DECISION, key)
        if stored is not None:
            return stored, None
        accounts = Accounts(transaction, self._shadow)
        due = transaction.due_entries(accounts.now)
        return None, None if due else accounts.left(key[0], keys)

    def _draft(self, key: Key, steps: Sequence[Step], left: Units, keys: Keys) -> _Draft:
        self._warn_above_training(left)
        digest = hashlib.blake2b(f"{self._seed} {encode(key)}".encode(), digest_size=8).digest()
        chance = random.Random(int.from_bytes(digest, "little"))
        decision, probabilities = self._policy_decision(steps, left, str(keys.get("task", key[0])), chance)
        payable = [action for action, cost in self._costs.items() if all(map(int.__le__, cost, left))]
        action = decision.action
        if action != NOHELP and action not in self._costs:
            raise ValueError(f"the policy requests {action!r}; the costs have {', '.join(self._costs)}")
        reason = decision.reason
        if action != NOHELP and action not in payable:
            reason = " ".join([reason, f"The budget cannot pay for {action!r}."]).strip()
            action = NOHELP
        explored = self._explore > 0 and chance.random() < self._explore
        if explored:
            action = chance.choice([NOHELP, *payable])
            reason = "Drawn at random to explore."
        wanted = {name: p for name, p in probabilities.items() if name in payable}
        wanted[NOHELP] = max(1.0 - sum(wanted.values()), 0.0)
        propensity = (1 - self._explore) * wanted.get(action, 0.0) + self._explore / (1 + len(payable))
        decision = replace(decision, action=action, budget_left=left, reason=reason)
        return _Draft(decision, propensity, explored, self._costs.get(action, (0,) * len(left)))

    def _policy_decision(
        self, steps: Sequence[Step], left: Units, task: str, chance: random.Random
    ) -> tuple[Decision, Mapping[str, float]]:
        """The policy's decision, and its probabilities of all actions."""
        if not hasattr(self._policy, "start"):
            decision = self._policy.decide(steps, left)
        else:
            with self._locks.setdefault(os.getpid(), threading.Lock()):
                start_episode(self._policy, task, chance.getrandbits(31))
                decision = self._policy.decide(steps, left)
        own = getattr(self._policy, "action_probabilities", None)
        return decision, {decision.action: 1.0} if own is None else own(steps, left)

    def _warn_above_training(self, left: Units) -> None:
        limits = getattr(self._policy, "limits", None)
        if self._warned or not isinstance(limits, tuple) or len(limits) != len(left):
            return
        if any(have > top for have, top in zip(left, limits, strict=True)):
            self._warned = True
            warnings.warn(
                f"the budget left {left} is above {limits}, the largest in training; the policy decides as with that",
                stacklevel=4,
            )

    def _store_draft(
        self, accounts: Accounts, key: Key, draft: _Draft, steps: Sequence[Step], keys: dict[str, str | int]
    ) -> str | None:
        """Reserve and store; what is stored, or None where the budget cannot pay any more."""
        transaction, requested = accounts.transaction, draft.decision.action
        stored = transaction.find_record(DECISION, key)
        if stored is not None:
            return stored
        if requested != NOHELP:
            names = accounts.names(key[0], keys)
            if transaction.find_entry(key) is None and not accounts.fits(names, draft.cost):
                return None
            if self._shadow:
                accounts.add(names, draft.cost)
                reason = f"In shadow mode; would request {requested!r}. {draft.decision.reason}".strip()
                draft = draft._replace(decision=replace(draft.decision, action=NOHELP, reason=reason))
            elif not accounts.take(key, draft.cost, RESERVED, keys, self._expires_in):
                raise ValueError(f"step {key} was refused or refunded before it was decided; use a new step_id")
        content = _encode(draft, requested, self._shadow, accounts.now, steps, keys)
        transaction.write_record(DECISION, key, requested, content)
        return content

    # ---- what came of it

    def settle(self, run_id: str | int, step_id: str | int, cost: Cost | None = None) -> bool:
        """Charge a request for help, at real cost where it is given; as `Ledger.charge`."""
        return self._ledger.charge(run_id, step_id, cost)

    def refund(self, run_id: str | int, step_id: str | int) -> bool:
        """Give back what a request holds, because help failed; as `Ledger.refund`."""
        return self._ledger.refund(run_id, step_id)

    def outcome(self, run_id: str | int, success: bool | float) -> None:
        """Store how a run ended; the same outcome may come twice.

        Raises
        ------
        ValueError
            `success` is not in [0, 1]; the run has another outcome.
        """
        key, value = as_key(run_id, ""), float(success)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"success is {success!r}; expected a number in [0, 1]")

        def store(accounts: Accounts) -> None:
            transaction = accounts.transaction
            before = transaction.find_record(OUTCOME, key)
            if before is not None and json.loads(before) != value:
                raise ValueError(f"duplicate outcome of run {run_id!r}: {before} before, {value} now")
            if before is None:
                transaction.write_record(OUTCOME, key, "", encode(value))

        self._ledger.write(store)

    # ---- logs

    def decisions(self) -> list[RecordedDecision]:
        """All stored decisions, in order."""
        records = self._ledger.read(lambda transaction: transaction.records(DECISION))
        return [_decode(key, content) for key, content in records]

    def find(self, run_id: str | int, step_id: str | int) -> RecordedDecision | None:
        """The stored decision of a step; None where there is none yet."""
        key = as_key(run_id, step_id)
        content = self._ledger.read(lambda transaction: transaction.find_record(DECISION, key))
        return None if content is None else _decode(key, content)

    def trajectories(self) -> list[Trajectory]:
        """What happened, one trajectory a run, in the order of their first decision.

        A step that was reserved or charged counts as helped, at its cost in the first unit; one that was refunded, that
        expired, or that was decided in shadow mode does not. A run without an outcome is marked as truncated.
        `logged_propensity` reads the propensities.

        Raises
        ------
        ValueError
            Two runs have one name, such as 1 and "1".
        """

        def read(transaction: Transaction) -> tuple[Any, dict[Key, Row], dict[Key, str]]:
            records, outcomes = transaction.records(DECISION), transaction.records(OUTCOME)
            return records, dict(transaction.entries()), dict(outcomes)

        records, entries, outcomes = self._ledger.read(read)
        runs: dict[str | int, list[tuple[Key, dict[str, Any]]]] = {}
        for key, content in records:
            runs.setdefault(key[0], []).append((key, json.loads(content)))
        names = [str(run_id) for run_id in runs]
        if len(set(names)) < len(names):
            name = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"duplicate run {name!r}: one id is an int, the other a str")
        return [
            _trajectory(rows, entries, None if (o := outcomes.get((run_id, ""))) is None else json.loads(o))
            for run_id, rows in runs.items()
        ]

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write `trajectories` as JSONL or Parquet, by the name's ending; how many there are."""
        episodes = self.trajectories()
        write_trajectories(path, episodes)
        return len(episodes)


def logged_propensity(trajectory: Trajectory, step: int) -> float:
    """P(action) of a step of an exported trajectory, for ``selfreg.evaluate.ope(propensity=logged_propensity)``.

    Raises
    ------
    ValueError
        The trajectory has no propensity there: it was not exported by a recorder, or help was refunded or expired, so
        that the action was not executed.

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


def _encode(
    draft: _Draft, requested: str, shadow: bool, now: float, steps: Sequence[Step], keys: Mapping[str, str | int]
) -> str:
    return json.dumps(
        {
            "decision": {one.name: getattr(draft.decision, one.name) for one in fields(Decision)},
            "requested": requested,
            "propensity": draft.propensity,
            "explored": draft.explored,
            "shadow": shadow,
            "cost": draft.cost,
            "time": now,
            "step": msgspec.to_builtins(steps[-1]),
            "length": len(steps),
            "action_before": steps[-2].action if len(steps) > 1 else None,
            "keys": dict(keys),
        },
        default=_plain,
    )


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays in a decision of a user's policy."""
    for name in ("tolist", "_asdict"):
        if hasattr(value, name):
            return getattr(value, name)()
    return dict(value) if isinstance(value, Mapping) else str(value)


def _decode(key: Key, content: str) -> RecordedDecision:
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


def _trajectory(
    rows: Sequence[tuple[Key, dict[str, Any]]], entries: Mapping[Key, Row], success: float | None
) -> Trajectory:
    actions = {content["length"]: content["action_before"] for _, content in rows}
    steps = []
    propensities: dict[str, Scalar] = {}
    for i, (key, content) in enumerate(rows):
        row, requested = entries.get(key), content["requested"]
        shadow = content["shadow"]
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
        if shadow or helped or requested == NOHELP:
            propensities[f"propensity {i}"] = 1.0 if shadow else float(content["propensity"])
    (run_id, _), first = rows[0]
    task = str(first["keys"].get("task", run_id))
    return Trajectory(task, str(run_id), success, tuple(steps), truncated=success is None, fields=propensities)
