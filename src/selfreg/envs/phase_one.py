"""Phase I: what it runs, its defaults, and the seeds of its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreg.envs.rollouts import CollectConfig
from selfreg.envs.worlds import WEAK, World

N_TRAIN, N_TEST, N_EPISODES = 60, 100, CollectConfig().episodes_per_task
N_VALIDATION, N_DEMONSTRATIONS = 20, 100
IMITATION, ACTOR_FILE = "imitation", "actor.safetensors"
# Seeds of further draws of tasks, so that they differ from training and test tasks.
VALIDATION_SEED, DEMONSTRATION_SEED = 1_000_003, 1_000_033


@dataclass(frozen=True)
class PhaseOne:
    """What Phase I runs: the world, numbers of tasks and episodes, and the actor to train."""

    world: World
    tasks: int = N_TRAIN
    test_tasks: int = N_TEST
    episodes: int = N_EPISODES
    seed: int = 0
    workers: int | None = None
    actor: str = WEAK
    demonstrations: int = N_DEMONSTRATIONS
    log: Path | None = None


def make_config(episodes: int, seed: int, workers: int | None) -> CollectConfig:
    """Settings of a collection with the default rates; `workers` is all cores where it is None."""
    chosen: dict[str, Any] = {} if workers is None else {"workers": workers}
    return CollectConfig(episodes_per_task=episodes, seed=seed, **chosen)
