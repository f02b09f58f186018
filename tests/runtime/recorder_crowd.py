"""A crowd of agents that share a recorder and are killed at random moments; run by test_recorder.py.

Each agent walks through its script of steps: it decides once, is helped, and settles or refunds, and writes down what
it got. One that was killed is started again and takes up its script a little before the place where it was. All agents
also execute the same steps of the run "shared".
"""

from __future__ import annotations

import os
import random
import sys
import zlib
from collections.abc import Sequence
from typing import ClassVar

from crowds import keep_alive, last_place, open_ledger

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import Recorder

COST = 3


class Moody:
    """Requests help more rarely as the budget falls, so that a decision made anew would often differ."""

    costs: ClassVar = {"person": COST}

    def decide(self, steps: Sequence[Step], budget_left: tuple[int, ...] | None) -> Decision:
        assert budget_left is not None
        mood = zlib.crc32(f"{steps[-1].state} {budget_left[0]}".encode()) % 3
        return Decision("person" if mood else "nohelp", reason=f"{budget_left[0]} left")


def script(agent: int, steps: int) -> list[tuple[str, int]]:
    """(run_id, step_id) of every step of an agent: `steps` of its own and half as many that all execute."""
    own = [(f"run {agent}", step) for step in range(steps)]
    shared = [("shared", step) for step in range(steps // 2)]
    random.Random(agent).shuffle(shared)
    for i, step in enumerate(shared):
        own.insert(3 * i, step)
    return own


def real_cost(run: str, step: int) -> int:
    """What help costs at a step, from 1 to 3; 0 where it fails and is refunded. The same for everyone."""
    return zlib.crc32(f"{run}/{step}".encode()) % (COST + 1)


def live(place: str, diary: str, agent: int, steps: int) -> None:
    """Walk through the script from a little before the last step in the diary."""
    recorder, handle = Recorder(Moody(), open_ledger(place)), os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(*words: object) -> None:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())

    todo = script(agent, steps)
    for i, (run, step) in list(enumerate(todo))[max(0, last_place(diary) - 3) :]:
        decision = recorder.decide_once(run, step, [Step(f"{run} {step}")])
        note("decide", i, decision.action, decision.reason.replace(" ", "_"))
        if decision.requests_help:
            cost = real_cost(run, step)
            note("help", i)
            answer = recorder.settle(run, step, cost) if cost else recorder.refund(run, step)
            note("settle", i, answer)
    note("end", len(todo))


if __name__ == "__main__":
    place, folder, agents, kills, steps = sys.argv[1:]
    keep_alive(lambda diary, agent: live(place, diary, agent, int(steps)), folder, int(agents), int(kills))
