"""`python -m benchmarks evaluation [--quick] [--out FOLDER] [--settings NAME ...]`: is help timing worth its budget?

`--paper` runs the paper's method as a whole instead, with its baselines and PPO (`benchmarks.paper`).

Each setting is an environment with a weak agent, and goes through the whole pipeline: Phase I on training tasks, PRM,
estimate, plan, helper; then all policies run on the same test tasks with the same luck. A setting is a run folder
(with a report of its own) that is there whole or not at all: a run that was killed goes on with the settings that are
missing. Intervals are 95% bootstrap intervals over tasks, differences are paired by task.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from benchmarks.evaluation_tables import Result, print_seconds, print_setting, print_summary, print_targets
from selfreg._util.files import atomic_folder
from selfreg._util.parallel import ProcessExecutor, run_tasks
from selfreg.cli.demo import pipeline
from selfreg.envs import World
from selfreg.envs.phase_one import IMITATION, PhaseOne
from selfreg.envs.worlds import WEAK
from selfreg.evaluate import read_rows
from selfreg.helper import HelperConfig
from selfreg.runs import MARKER, RunFolder


class Setting(NamedTuple):
    """A world with its agent, and how much of Phase I it gets.

    `quick` ones are in the quick table; `named` ones run only if they are asked for.
    """

    world: World
    actor: str = WEAK
    tasks: int = 200
    episodes: int = 40
    budget: int = 4
    quick: bool = False
    named: bool = False


class Size(NamedTuple):
    """Training tasks (those of the setting where None), the most episodes of each in Phase I, and test tasks."""

    tasks: int | None
    test_tasks: int
    episodes: int


def babyai(level: str, **settings: float) -> World:
    """A BabyAI level with settings of its `BabyAIConfig`; help takes one step where nothing else is said."""
    return World("babyai", f"BabyAI-{level}-v0", {"help_steps": 1} | settings)


SETTINGS = {
    "household": Setting(World("household"), tasks=400, episodes=120),
    "household-moved": Setting(World("household", "moved"), tasks=400, episodes=120, quick=True),
    "unlock-local": Setting(babyai("UnlockLocal")),
    "put-next": Setting(babyai("PutNextLocal"), quick=True),
    "unlock-pickup": Setting(babyai("UnlockPickup", help_steps=2)),
    "go-to-seq": Setting(babyai("GoToSeqS5R2")),
    "key-corridor": Setting(babyai("KeyCorridorS3R2"), budget=5),
    "put-next-imitation": Setting(babyai("PutNextLocal"), actor=IMITATION),
    # Long ways between few moments that need hands, and worse hands.
    "one-room": Setting(babyai("OneRoomS12", fumble=0.85, step_limit=24)),
    "put-next-far": Setting(babyai("PutNextS7N4", fumble=0.85)),
    "coin": Setting(World("textworld", "coin"), tasks=60, named=True),
    "treasure": Setting(World("textworld", "treasure"), tasks=60, named=True),
    "cooking": Setting(World("textworld", "cooking"), tasks=60, named=True),
}
FULL, QUICK = Size(None, 300, 10_000), Size(16, 30, 32)


def run_setting(
    name: str, size: Size, out: Path, form: str = HelperConfig.form, seed: int = 0, workers: int | None = None
) -> Result:
    """Run a setting unless its folder is there, and read what it found.

    Raises
    ------
    ValueError
        If the folder holds a run of other sizes or of another form of helper.
    """
    setting, folder = SETTINGS[name], out / name
    tasks, episodes = size.tasks or setting.tasks, min(setting.episodes, size.episodes)
    sizes: dict[str, int | str] = {
        "tasks": tasks,
        "test_tasks": size.test_tasks,
        "episodes": episodes,
        "form": form,
        "seed": seed,
    }
    if not folder.exists():
        phase = PhaseOne(setting.world, tasks, size.test_tasks, episodes, seed, workers, setting.actor)
        seconds: dict[str, float] = {}
        with atomic_folder(folder, MARKER) as temporary:
            pipeline(RunFolder(temporary), phase, setting.budget, fallbacks=True, form=form, seconds=seconds)
            RunFolder(temporary).record("benchmark", {**sizes, "seconds": seconds})
    run = RunFolder.open(folder)
    noted = run.settings().get("benchmark", {})
    if {key: noted.get(key) for key in sizes} != sizes:
        raise ValueError(f"{folder} holds a run of other sizes or form ({noted}); choose another --out")
    helper = run.settings()["helper"]
    filled = " (fill)" if helper["fill"] else ""
    rows = read_rows(folder / "evaluation.parquet")
    return Result(name, helper["form"] + filled, rows, run.summary()["evaluation"], noted["seconds"])


def _run_settings(
    names: Sequence[str], size: Size, out: Path, form: str, seed: int, workers: int | None
) -> Iterator[Result]:
    """Results as they come. Settings run side by side, each in one process with a log beside its folder: training does
    not spread over cores, and episodes do."""
    if len(names) == 1:
        yield run_setting(names[0], size, out, form, seed, workers)
        return
    out.mkdir(parents=True, exist_ok=True)
    executor, shared = ProcessExecutor(workers or os.cpu_count() or 1), (size, out, form, seed)
    for _, result in run_tasks(executor, _run_logged, shared, [(name, name) for name in names], in_order=False):
        yield result


def _run_logged(shared: tuple[Size, Path, str, int], name: str) -> Result:
    size, out, form, seed = shared
    with open(out / f"{name}.log", "a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        return run_setting(name, size, out, form, seed, workers=1)


def main(arguments: Sequence[str] = ()) -> None:
    """Run what is missing and print tables and targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evaluation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two settings, few tasks: under 5 minutes on 2 cores")
    parser.add_argument("--out", type=Path, help="folder of the run folders; default runs/evaluation[-quick]")
    parser.add_argument("--settings", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--paper", action="store_true", help="the method of the paper beside its baselines (extra rl)")
    parser.add_argument("--tasks", type=int, help="training tasks of each setting; by default 200, 400 or 60")
    parser.add_argument("--test-tasks", type=int, help=f"test tasks of a setting; default {FULL.test_tasks}")
    parser.add_argument("--form", default=HelperConfig.form, help="form of the helper; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="draws the tasks; default 0")
    parser.add_argument("--workers", type=int, help="processes; all cores by default")
    chosen = parser.parse_args(arguments)
    if chosen.paper:
        from benchmarks.paper import run_paper

        run_paper(chosen.quick, chosen.out, chosen.settings, chosen.seed)
        return
    unknown = [name for name in chosen.settings or () if name not in SETTINGS]
    if unknown:
        parser.error(f"--settings {unknown[0]}: expected some of {', '.join(SETTINGS)}")
    size = QUICK if chosen.quick else FULL
    if chosen.tasks:
        size = size._replace(tasks=chosen.tasks)
    if chosen.test_tasks:
        size = size._replace(test_tasks=chosen.test_tasks)
    names = chosen.settings or [name for name, one in SETTINGS.items() if one.quick or not (chosen.quick or one.named)]
    out = chosen.out or Path("runs") / ("evaluation-quick" if chosen.quick else "evaluation")
    begin, found = time.perf_counter(), dict[str, Result]()
    for result in _run_settings(names, size, out, chosen.form, chosen.seed, chosen.workers):
        found[result.name] = result
        print_setting(result)
    results = [found[name] for name in names]
    print_summary(results)
    print_targets(results)
    print_seconds(results)
    here, workers = sum(os.times()[:2]), sum(os.times()[2:4])
    processor = f"of the processor {here:.0f} s, and {workers:.0f} s in workers"
    print(f"{time.perf_counter() - begin:.0f} s ({processor}); a report for each setting: {out}/SETTING/report.html")
