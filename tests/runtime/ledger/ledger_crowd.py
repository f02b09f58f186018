"""A crowd of agents that share a ledger in a file and are killed at random moments; run by test_ledger.py.

Each agent walks through its script of steps. At each it reserves, is helped, and charges or refunds; before and after
each call it writes down what it does. One that was killed is started again and takes up its script a little before the
place where it was. All agents also want the same `SHARED` steps.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import zlib

from selfreg.runtime.ledger import SQLiteLedger

STEPS, SHARED, REFUNDED_SHARE = 150, 30, 5


def script(agent: int) -> list[tuple[str, int, int]]:
    """(run_id, step_id, cost) of every step of an agent."""
    own = [(f"run {agent}", step, 1 + step % 3) for step in range(STEPS)]
    shared = [("shared", step, 2) for step in range(SHARED)]
    random.Random(agent).shuffle(shared)
    for i, step in enumerate(shared):
        own.insert(4 * i, step)
    return own


def refunds(run: str, step: int) -> bool:
    """Whether help fails at a step, so that it is refunded: the same for everyone who gets there."""
    return zlib.crc32(f"{run}/{step}".encode()) % REFUNDED_SHARE == 0


def live(path: str, diary: str, agent: int) -> None:
    """Walk through the script from a little before the last step in the diary."""
    ledger, handle = SQLiteLedger(path), os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(*words: object) -> None:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())

    with open(diary) as lines:
        reached = max([int(line.split()[1]) for line in lines if line.endswith("\n")], default=0)
    for i, (run, step, cost) in list(enumerate(script(agent)))[max(0, reached - 3) :]:
        answer = ledger.reserve(run, step, cost)
        note("reserve", i, answer)
        if answer:
            note("help", i, True)
            if refunds(run, step):
                note("refund", i, ledger.refund(run, step))
            else:
                note("charge", i, ledger.charge(run, step))
    note("end", len(script(agent)), True)


def main(path: str, folder: str, agents: int, kills: int, seed: int) -> None:
    """Keep `agents` alive until `kills` were killed, then let them walk to the end."""
    luck, alive, killed = random.Random(seed), {}, 0

    def start(agent: int) -> None:
        child = os.fork()
        if not child:
            live(path, f"{folder}/{agent}", agent)
            os._exit(0)
        alive[child] = agent

    for agent in range(agents):
        start(agent)
    while alive:
        if killed < kills:
            time.sleep(luck.uniform(0, 0.02))
            victim = luck.choice(list(alive))
            os.kill(victim, signal.SIGKILL)
        child, status = os.wait()
        agent = alive.pop(child)
        killed += status == signal.SIGKILL
        if status == signal.SIGKILL or killed < kills:
            if status == 0:  # nothing is left to do: from the beginning again
                os.remove(f"{folder}/{agent}")
            start(agent)
        elif status:
            sys.exit(f"agent {agent} ended with status {status}")
    print(killed)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
