"""A crowd of agents that share a recorder and are killed at random moments; run by test_recorder.py.

Each agent walks through its script of steps: it decides once, is helped, and settles or refunds, and writes down what
it got. One that was killed is started again and takes up its script a little before the place where it was. All agents
also execute the same `SHARED` steps.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import zlib
from collections.abc import Sequence
from typing import ClassVar

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import Ledger, PostgresLedger, Recorder, SQLiteLedger

STEPS, SHARED, COST = 40, 20, 3


class Moody:
    """Requests help more rarely as the budget falls, so that a decision made anew would often differ."""

    costs: ClassVar = {"person": COST}

    def decide(self, steps: Sequence[Step], budget_left: tuple[int, ...] | None) -> Decision:
        assert budget_left is not None
        mood = zlib.crc32(f"{steps[-1].state} {budget_left[0]}".encode()) % 3
        return Decision("person" if mood else "nohelp", reason=f"{budget_left[0]} left")


def open_ledger(place: str) -> Ledger:
    """``schema@conninfo`` or a path."""
    if "@host=" in place:
        schema, conninfo = place.split("@", 1)
        return PostgresLedger(conninfo, schema=schema)
    return SQLiteLedger(place)


def script(agent: int) -> list[tuple[str, int]]:
    """(run_id, step_id) of every step of an agent."""
    own = [(f"run {agent}", step) for step in range(STEPS)]
    shared = [("shared", step) for step in range(SHARED)]
    random.Random(agent).shuffle(shared)
    for i, step in enumerate(shared):
        own.insert(3 * i, step)
    return own


def real_cost(run: str, step: int) -> int:
    """What help costs at a step, from 1 to 3; 0 where it fails and is refunded. The same for everyone."""
    return zlib.crc32(f"{run}/{step}".encode()) % (COST + 1)


def live(place: str, diary: str, agent: int) -> None:
    """Walk through the script from a little before the last step in the diary."""
    recorder, handle = Recorder(Moody(), open_ledger(place)), os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(*words: object) -> None:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())

    with open(diary) as lines:
        reached = [0, *(int(line.split()[1]) for line in lines if line.endswith("\n"))][-1]
    for i, (run, step) in list(enumerate(script(agent)))[max(0, reached - 3) :]:
        decision = recorder.decide_once(run, step, [Step(f"{run} {step}")])
        note("decide", i, decision.action, decision.reason.replace(" ", "_"))
        if decision.requests_help:
            cost = real_cost(run, step)
            note("help", i)
            answer = recorder.settle(run, step, cost) if cost else recorder.refund(run, step)
            note("settle", i, answer)
    note("end", len(script(agent)))


def main(place: str, folder: str, agents: int, kills: int, seed: int) -> None:
    """Keep `agents` alive until `kills` were killed, then let them walk to the end."""
    luck, alive, killed = random.Random(seed), {}, 0

    def start(agent: int) -> None:
        child = os.fork()
        if not child:
            live(place, f"{folder}/{agent}", agent)
            os._exit(0)
        alive[child] = agent

    for agent in range(agents):
        start(agent)
    while alive:
        if killed < kills:
            time.sleep(luck.uniform(0, 0.03))
            os.kill(luck.choice(list(alive)), signal.SIGKILL)
        child, status = os.wait()
        agent = alive.pop(child)
        killed += status == signal.SIGKILL
        if status == signal.SIGKILL or killed < kills:
            if status == 0:  # nothing is left to do: from the beginning again
                with open(f"{folder}/{agent}", "a") as diary:
                    diary.write("again 0\n")
            start(agent)
        elif status:
            sys.exit(f"agent {agent} ended with status {status}")
    print(killed)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
