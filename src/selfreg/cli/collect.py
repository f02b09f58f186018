"""`selfreg collect`: Phase I, every training task many times with random interventions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_folder
from selfreg.cli import options
from selfreg.cli.terminal import say
from selfreg.data import Trajectory, read_trajectories
from selfreg.envs import (
    CollectConfig,
    ImitationPolicy,
    World,
    collect_into,
    demonstrate,
    train_imitation,
)
from selfreg.envs import collect as collect_episodes
from selfreg.envs.collection import EPISODES
from selfreg.envs.phase_one import (
    ACTOR_FILE,
    DEMONSTRATION_SEED,
    IMITATION,
    N_DEMONSTRATIONS,
    N_EPISODES,
    N_TEST,
    N_TRAIN,
    N_VALIDATION,
    VALIDATION_SEED,
    PhaseOne,
    make_config,
)
from selfreg.envs.worlds import ENVIRONMENTS, WEAK
from selfreg.runs import MARKER, RunFolder

Tasks = Annotated[int, typer.Option(help="Training tasks.", min=3)]
TestTasks = Annotated[int, typer.Option(help="Tasks held out for the evaluation.", min=2)]
Episodes = Annotated[int, typer.Option(help="Episodes of each training task.", min=1)]
Environment = Annotated[str, typer.Option(help=f"{', '.join(ENVIRONMENTS)}.")]
Level = Annotated[
    str,
    typer.Option(
        help="BabyAI level, kinds of Household task with commas between (by default all), or coin, treasure, cooking."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=NUMBER", help="Setting of the environment, such as step_limit. May repeat."),
]
Help = Annotated[
    list[str] | None,
    typer.Option(
        "--intervention",
        metavar="NAME,steps=K,cost=C,...",
        help="Help type instead of the default one: steps=K or steps=end; error=CHANCE for a weaker helper; "
        "wrong=ACTION and, last, where=EXPRESSION for a helper that misleads there. May repeat.",
    ),
]
Actor = Annotated[
    str,
    typer.Option(help="weak; imitation (trained here on --demonstrations); or the file of a saved imitation policy."),
]
Demonstrations = Annotated[int, typer.Option(help="Tasks with expert demonstrations for an imitation actor.", min=1)]
Log = Annotated[
    Path | None,
    typer.Option(help="Also write the episodes to this folder. After a kill, the same command resumes there."),
]


def make_world(environment: str, level: str, settings: list[str] | None, helps: list[str] | None) -> World:
    """World that the options describe."""
    numbers: dict[str, float] = {}
    for name, text in options.mapping("--set", settings).items():
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"--set {name}={text}: expected a number") from None
        numbers[name] = int(value) if value.is_integer() else value
    try:
        return World(environment, level, numbers, tuple(helps or ()))
    except TypeError as error:
        raise ValueError(f"--set: {error}") from None


def collect(run: RunFolder, phase: PhaseOne) -> list[Trajectory]:
    """Collect trajectories of the training tasks; run.toml records the names of the other tasks."""
    train, test = phase.world.tasks(phase.tasks, phase.test_tasks, phase.seed)
    validation = phase.world.more_tasks(N_VALIDATION, phase.seed + VALIDATION_SEED, [*train, *test])
    world = _with_actor(run, phase, [*train, *test, *validation])
    config = make_config(phase.episodes, phase.seed, phase.workers)
    trajectories = _episodes(run, world, train, config, phase.log)
    run.write_trajectories(trajectories)
    settings = {"world": world.describe(), "episodes": phase.episodes, "rates": list(config.rates), "seed": phase.seed}
    run.record("collect", {**settings, "test_tasks": test, "validation_tasks": validation})
    return trajectories


def _episodes(
    run: RunFolder, world: World, tasks: Sequence[str], config: CollectConfig, log: Path | None
) -> list[Trajectory]:
    make = partial(world.make, run.path)
    if log is None:
        return list(collect_episodes(make, tasks, config))
    described = world.describe()
    if world.actor != WEAK:  # the file may hold another agent
        described["actor"] = ImitationPolicy.load(run.path / world.actor).digest()
    collect_into(log, make, tasks, config, world=described)
    return list(read_trajectories(log / EPISODES))


def _with_actor(run: RunFolder, phase: PhaseOne, excluded: list[str]) -> World:
    """The world with the chosen actor; a trained one is saved in the run folder."""
    if phase.actor == WEAK:
        return phase.world
    path = run.path / ACTOR_FILE
    if phase.actor == IMITATION:
        with require_extra("ml", "training an actor"):
            import torch  # noqa: F401
        environment = phase.world.make().environment
        shown = phase.world.more_tasks(phase.demonstrations, phase.seed + DEMONSTRATION_SEED, excluded)
        train_imitation(demonstrate(environment, shown), environment.action_names).save(path)
    elif Path(phase.actor).is_file():
        ImitationPolicy.load(phase.actor).check(phase.world.make().environment)
        shutil.copyfile(phase.actor, path)
    else:
        raise ValueError(
            f"--actor {phase.actor}: expected {WEAK}, {IMITATION}, or the file of a saved imitation policy"
        )
    return replace(phase.world, actor=ACTOR_FILE)


def command(
    out: options.Out,
    environment: Environment = "babyai",
    level: Level = "",
    settings: Set = None,
    interventions: Help = None,
    actor: Actor = WEAK,
    demonstrations: Demonstrations = N_DEMONSTRATIONS,
    tasks: Tasks = N_TRAIN,
    test_tasks: TestTasks = N_TEST,
    episodes: Episodes = N_EPISODES,
    seed: options.Seed = 0,
    workers: options.Workers = None,
    log: Log = None,
    overwrite: options.Overwrite = False,
) -> dict[str, Any]:
    """Run an agent in an environment with random interventions, into a new run folder."""
    world = make_world(environment, level, settings, interventions)
    phase = PhaseOne(world, tasks, test_tasks, episodes, seed, workers, actor, demonstrations, log)
    with atomic_folder(out, MARKER, overwrite) as folder:
        trajectories = collect(RunFolder(folder), phase)
    say(f"{len(trajectories)} episodes of {tasks} tasks -> {out}")
    return {"run": out, "episodes": len(trajectories), "tasks": tasks}
