"""A crowd of agents that share a ledger and are killed at random moments; run by test_ledger.py.

Each agent walks through its script of steps. At each it reserves, is helped, and charges or refunds; before and after
each call it writes down what it does. One that was killed is started again and takes up its script a little before the
place where it was. All agents also want the same steps of the run "shared".
"""

from __future__ import annotations

import os
import random
import sys
import zlib

from crowds import keep_alive, last_place, open_ledger

REFUNDED_SHARE = 5


def script(agent: int, steps: int) -> list[tuple[str, int, int]]:
    """(run_id, step_id, cost) of every step of an agent: `steps` of its own and a fifth as many that all execute."""
    own = [(f"run {agent}", step, 1 + step % 3) for step in range(steps)]
    shared = [("shared", step, 2) for step in range(steps // 5)]
    random.Random(agent).shuffle(shared)
    for i, step in enumerate(shared):
        own.insert(4 * i, step)
    return own


def refunds(run: str, step: int) -> bool:
    """Whether help fails at a step, so that it is refunded: the same for everyone who gets there."""
    return zlib.crc32(f"{run}/{step}".encode()) % REFUNDED_SHARE == 0


def live(place: str, diary: str, agent: int, steps: int) -> None:
    """Walk through the script from a little before the last step in the diary."""
    ledger, handle = open_ledger(place), os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(*words: object) -> None:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())

    todo = script(agent, steps)
    for i, (run, step, cost) in list(enumerate(todo))[max(0, last_place(diary) - 3) :]:
        answer = ledger.reserve(run, step, cost)
        note("reserve", i, answer)
        if answer:
            note("help", i, True)
            if refunds(run, step):
                note("refund", i, ledger.refund(run, step))
            else:
                note("charge", i, ledger.charge(run, step))
    note("end", len(todo), True)


if __name__ == "__main__":
    place, folder, agents, kills, steps = sys.argv[1:]
    keep_alive(lambda diary, agent: live(place, diary, agent, int(steps)), folder, int(agents), int(kills))
