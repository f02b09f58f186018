"""Agents in processes that are killed at random moments and start again; for `ledger_crowd` and `recorder_crowd`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from selfreg.runtime import Ledger, SQLiteLedger

AGAIN = "again 0\n"  # in a diary: the agent starts from the beginning


def open_ledger(place: str, limit: int | None = None) -> Ledger:
    """``schema@conninfo`` or a path."""
    if "@host=" in place:
        from selfreg.runtime import PostgresLedger

        schema, conninfo = place.split("@", 1)
        return PostgresLedger(conninfo, limit, schema=schema)
    return SQLiteLedger(place, limit)


def last_place(diary: str) -> int:
    """Place in the script at which the last whole line of a diary was written."""
    with open(diary) as lines:
        return [0, *(int(line.split()[1]) for line in lines if line.endswith("\n"))][-1]


def keep_alive(live: Callable[[str, int], None], folder: str, agents: int, kills: int) -> None:
    """Keep `agents` alive until `kills` were killed, then let them walk to the end; print how many were killed."""
    luck, alive, killed = random.Random(agents), {}, 0

    def start(agent: int) -> None:
        child = os.fork()
        if not child:
            live(f"{folder}/{agent}", agent)
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
                    diary.write(AGAIN)
            start(agent)
        elif status:
            sys.exit(f"agent {agent} ended with status {status}")
    print(killed)


def run_crowd(
    program: str, place: str, folder: Path, numbers: tuple[int, int, int], trouble: Callable[[], None] | None = None
) -> list[list[list[str]]]:
    """Diaries of a crowd; `numbers` are its agents, kills and steps. `trouble` is made again and again meanwhile."""
    folder.mkdir()
    command = [sys.executable, program, place, str(folder), *map(str, numbers)]
    agents, kills, _ = numbers
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    made = 0
    try:
        while trouble is not None and process.poll() is None:
            trouble()
            made += 1
        out, err = process.communicate(timeout=3600)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert int(out) >= kills
    print(f"{Path(program).stem}: {agents} agents, {int(out)} kills" + f", {made} times trouble" * (made > 0))
    return [[line.split() for line in (folder / str(agent)).read_text().splitlines()] for agent in range(agents)]
