"""A server whose policy requests what the state says; run by the tests in a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import ClassVar

from server_cases import DESK_TOKEN, TOKEN

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import Budget, Desk, Recorder, SQLiteLedger
from selfreg.runtime.server import ForecastCheck, Service, create_app, run_server


class ByWord:
    """Requests the first word of the state; "slow" takes two seconds, "crash" raises."""

    costs: ClassVar = {"person": 1, "model": 2}

    def decide(self, steps: Sequence[Step], budget_left: tuple[int, ...] | None) -> Decision:
        word = steps[-1].state.split()[0]
        if word == "crash":
            raise RuntimeError("this policy cannot decide")
        if word == "slow":
            time.sleep(2)
        action = word if word in self.costs else "nohelp"
        success = {"nohelp": 0.25, "person": 0.75}
        return Decision(action, success_probability=success, reason=f"The state says {word}.", price=(0.5,))


class Together(ByWord):
    """Decides for all that wait at once."""

    def decide_batch(
        self, histories: Sequence[Sequence[Step]], budgets_left: Sequence[tuple[int, ...] | None]
    ) -> list[Decision]:
        return [self.decide(steps, left) for steps, left in zip(histories, budgets_left, strict=True)]


def make_service(path: str, limit: int, time_limit: float, policy: ByWord | None = None) -> Service:
    ledger = SQLiteLedger(path, [Budget(limit), Budget(1000, scope="run")])
    desk = Desk(ledger, time_limit=time_limit, poll=0.05)
    return Service(
        Recorder(policy or ByWord(), ledger),
        desk,
        forecast=lambda runs: ForecastCheck([f"{len(runs)} runs compared"], True),
    )


if __name__ == "__main__":
    policy = Together() if "together" in sys.argv else ByWord()
    service = make_service(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), policy)
    run_server(create_app(service, token=TOKEN, desk_token=DESK_TOKEN), service, port=0)
