"""`selfreg collect`: Phase I in BabyAI, every training task many times with random interventions."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from selfreg._files import folder_written_whole
from selfreg.cli import options
from selfreg.data import Trajectory
from selfreg.envs import BabyAIConfig, CollectConfig, make_babyai, split_tasks
from selfreg.envs import collect as collect_episodes
from selfreg.runs import MARKER, RunFolder

Tasks = Annotated[int, typer.Option(help="Training tasks (level seeds).", min=3)]
TestTasks = Annotated[int, typer.Option(help="Tasks held out for the evaluation.", min=2)]
Episodes = Annotated[int, typer.Option(help="Episodes of each training task.", min=1)]
Level = Annotated[str, typer.Option(help="BabyAI level.")]

LEVEL = BabyAIConfig().level
N_TRAIN, N_TEST, N_EPISODES = 60, 100, CollectConfig().episodes_per_task


def collect(
    run: RunFolder, level: str, tasks: int, test_tasks: int, episodes: int, seed: int, workers: int | None
) -> list[Trajectory]:
    """Collect trajectories of the training tasks; the names of the test tasks are noted in run.toml."""
    world = BabyAIConfig(level=level)
    train, test = split_tasks(world, tasks, test_tasks, seed)
    config = collection(episodes, seed, workers)
    trajectories = list(collect_episodes(partial(make_babyai, world), train, config))
    run.write_trajectories(trajectories)
    run.record(
        "collect",
        {"world": asdict(world), "episodes": episodes, "rates": list(config.rates), "seed": seed, "test_tasks": test},
    )
    return trajectories


def collection(episodes: int, seed: int, workers: int | None) -> CollectConfig:
    """Collection with the default rates."""
    chosen: dict[str, Any] = {} if workers is None else {"workers": workers}
    return CollectConfig(episodes_per_task=episodes, seed=seed, **chosen)


def command(
    out: options.Out,
    level: Level = LEVEL,
    tasks: Tasks = N_TRAIN,
    test_tasks: TestTasks = N_TEST,
    episodes: Episodes = N_EPISODES,
    seed: options.Seed = 0,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Run an agent in BabyAI with random interventions, into a new run folder."""
    with folder_written_whole(out, MARKER, overwrite) as folder:
        trajectories = collect(RunFolder(folder), level, tasks, test_tasks, episodes, seed, workers)
    print(f"{len(trajectories)} episodes of {tasks} tasks -> {out}")
