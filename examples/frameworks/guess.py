"""The task of the examples in this folder: an agent guesses a number, and sees whether it is right.

Both models are scripted, so that everything runs offline. The weak one guesses wrong and gives up; the strong one is
right. Help is requested after an error, once: the budget is 1.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import NamedTuple

from selfreg import SQLiteLedger
from selfreg.decisions import Decision
from selfreg.runtime import Recorder

TASKS = ("task 1", "task 2")
QUESTION = "Which number is it?"
KILL = "GUESS_KILL"  # an environment variable: the strong model kills the process


class AfterAnError:
    """Requests help where the state shows an error; a trained helper fits as well."""

    def decide(self, steps, budget_left):
        return Decision("strong" if "error" in steps[-1].state else "nohelp")


class Options(NamedTuple):
    folder: Path
    recorder: Recorder


def read_options() -> Options:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="where the ledger and the agent's state are stored")
    parser.add_argument("--budget", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    ledger = SQLiteLedger(arguments.folder / "ledger.sqlite", arguments.budget)
    return Options(arguments.folder, Recorder(AfterAnError(), ledger, costs={"strong": 1}))


def submit(number: int) -> str:
    """Submit a number."""
    return "right" if number == 7 else "error: wrong number"


def reply(model: str, seen: str) -> int | str:
    """What a model does, by the last thing that it saw: submits a number, or ends with a text."""
    if model == "strong":
        if KILL in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7
    if "right" in seen:
        return "It is 7."
    return "I give up." if "error" in seen else 3


def report(recorder: Recorder, answers: dict[str, str]) -> None:
    """Store the outcomes, and say what happened."""
    for run in recorder.trajectories():
        task = next(one for one in TASKS if one in run.episode)
        recorder.outcome(run.episode, answers[task] == "It is 7.")
        helped = sum(step.intervention is not None for step in run.steps)
        print(f"{task}: {answers[task]} {helped} of {len(run.steps)} steps helped")
    print("left:", recorder.ledger.left[0])
