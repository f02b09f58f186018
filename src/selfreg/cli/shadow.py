"""What a helper in shadow mode would have spent: for `selfreg monitor --shadow`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from selfreg.cli.ledgers import read_recorder
from selfreg.data import NOHELP
from selfreg.evaluate import Forecast
from selfreg.runtime import Ledger


def describe_shadow(ledger: Ledger, alone: Forecast, helped: Forecast) -> Iterator[str]:
    """Sentences on the decisions that a recorder in shadow mode stored in a ledger.

    `alone` and `helped` are the forecasts without help and with the budget that the runs would have had.
    """
    recorder = read_recorder(ledger)
    decisions, runs = recorder.decisions(), recorder.trajectories()
    spent = [one for one in decisions if one.requested != NOHELP and one.decision.action == NOHELP]
    if any(one.decision.action != NOHELP for one in decisions):
        raise ValueError("the ledger has decisions that were carried out; expected shadow mode only")
    if not runs:
        raise ValueError("the ledger has no decisions yet")
    outcomes = [one.outcome for one in runs if one.outcome is not None]
    realised = f": success {sum(outcomes) / len(outcomes):.3f} without help" if outcomes else ""
    yield f"{len(runs)} runs in shadow mode, {len(outcomes)} finished{realised}"
    counts = ", ".join(f"{name} {n}" for name, n in sorted(Counter(one.requested for one in spent).items()))
    units = [sum(one.cost[i] for one in spent) / len(runs) for i in range(len(ledger.units))]
    yield f"would have spent {', '.join(f'{one:.2f}' for one in units)} units a run: {counts or 'no requests'}"
    gains = [have - lack for have, lack in zip(helped.success, alone.success, strict=True)]
    yield f"forecast without help: success {_range(alone.success)}"
    yield f"forecast with budget {helped.budget}: success {_range(helped.success)}, a gain of {_range(gains)}"


def _range(pair: Sequence[float]) -> str:
    low, high = min(pair), max(pair)
    return f"{low:.3f}" if f"{low:.3f}" == f"{high:.3f}" else f"{low:.3f} to {high:.3f}"
