"""Examples and logs that a helper can learn in seconds."""

from __future__ import annotations

import numpy as np

from selfreg.data import Step, Trajectory
from selfreg.helper import HelperConfig, HelperExamples

WORDS = ["north", "south", "east", "west", "door", "key", "lamp", "table", "open", "closed", "near", "far"]
QUICK = HelperConfig(form="features", history=0, hidden_size=32, layers=1, epochs=10, max_tokens=32)
NEEDED = {"red": 2, "green": 99, "blue": 1}


def state(word: str, rng: np.random.Generator) -> str:
    return " ".join(rng.permutation([*rng.choice(WORDS, 5), word]))


def rule_examples(n: int = 300, top: int = 3, tasks: int = 20) -> HelperExamples:
    """Ask in red states with a budget of 2 or more, in blue ones with 1 or more, in green ones never."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        word = str(rng.choice(list(NEEDED)))
        text = state(word, rng)
        rows += [(text, [b], int(b >= NEEDED[word]), rng.random(), f"task {i % tasks}") for b in range(top + 1)]
    texts, budgets, decisions, weights, names = map(list, zip(*rows, strict=True))
    return HelperExamples(texts, np.array(budgets), np.array(decisions), np.array(weights), names, ("nohelp", "help"))


def lights(tasks: int = 40, episodes: int = 10) -> list[Trajectory]:
    """Two lights one after the other. Red: alone 1 of 10, helped 9 of 10; amber: 5 and 8; green: 9 in either case."""
    rng, chance = np.random.default_rng(0), {"red": (0.1, 0.9), "amber": (0.5, 0.8), "green": (0.9, 0.9)}
    logs = []
    for task in range(tasks):
        for episode in range(episodes):
            steps, good = [], True
            for order in ("first", "second"):
                color, helped = str(rng.choice(list(chance))), bool(rng.random() < 0.5)
                good = good and bool(rng.random() < chance[color][helped])
                steps.append(Step(f"{order} {state(color, rng)}", intervention="help" if helped else None))
            logs.append(Trajectory(f"task {task}", f"{task}/{episode}", float(good), tuple(steps)))
    return logs
