"""Plans from MINT's logs, and what is left of them on other tasks: `python -m benchmarks honesty --mint FOLDER`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.helper import CLASSES, MINT, MINT_BUDGET, ROLES
from selfreg.data import read_trajectories
from selfreg.estimate import Features, cross_fit, load_classes, uncertainty

ACTORS = (
    "gpt-3.5-turbo-0613",
    "claude-instant-1",
    "lemur-70b-chat-v1",
    "Llama-2-70b-chat-hf",
    "CodeLlama-34b-Instruct-hf",
)


def show(folder: Path, samples: int) -> None:
    """A row an agent and budget; points are hundredths of success."""
    features = Features(["domain", "step", "class"], load_classes(CLASSES))
    print("| agent | budget | naive plan | 90% interval | cross-fitted (5 to 95% of 20 splits) | optimism, points |")
    print("| --- | --- | --- | --- | --- | --- |")
    for actor in ACTORS:
        logs = list(read_trajectories(folder / MINT, "jsonl", roles=ROLES, where={"actor": [actor]}))
        crossed = cross_fit(logs, features, MINT_BUDGET)
        success = uncertainty(logs, features, MINT_BUDGET, samples=samples).success
        for b in range(MINT_BUDGET + 1):
            print(
                f"| {actor} | {b} | {success.estimate[b]:.3f} | {success.low[b]:.3f} to {success.high[b]:.3f} | "
                f"{crossed.crossed[b]:.3f} ({crossed.low[b]:.3f} to {crossed.high[b]:.3f}) | "
                f"{round(100 * crossed.optimism[b], 1) + 0.0:.1f} |",
                flush=True,
            )
