"""Closed loop: every policy on the same tasks with the same luck."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg._util.parallel import ProcessExecutor, run_tasks
from selfreg._util.progress import progress
from selfreg.data import Trajectory
from selfreg.data.log_files import open_arrow
from selfreg.decisions import DecisionPolicy
from selfreg.envs import AssistedEnvironment
from selfreg.envs.episode import Budget, budget_text, run_with_decisions
from selfreg.envs.rollouts import check_tasks
from selfreg.evaluate.recorded import behind_recorder

with require_extra("logs", "selfreg.evaluate"):
    import pyarrow as pa
    import pyarrow.parquet as pq


class ComparedPolicy(NamedTuple):
    """A policy under a budget, or several (None: unlimited); `setting` distinguishes members of a family."""

    name: str
    budget: Budget
    policy: DecisionPolicy
    setting: float = 0.0


class Row(NamedTuple):
    """One episode. `help` is in budget units; `unseen` counts decisions that were extrapolated.

    Where help costs units of several budgets, `budget` is a text such as "2,1", `help` is the sum, and `spent` has the
    units of each budget, as such a text; else it is empty.
    """

    policy: str
    setting: float
    budget: int | str | None
    task: str
    seed: int
    success: float
    help: int
    steps: int
    unseen: int
    spent: str = ""


def run_closed_loop(
    make_world: Callable[[], AssistedEnvironment],
    make_policies: Callable[[], Sequence[ComparedPolicy]],
    tasks: Sequence[str],
    *,
    episodes_per_task: int = 2,
    seed: int = 0,
    workers: int | None = None,
) -> list[Row]:
    """Run every policy on every task, with the same seeds for all.

    A policy with a budget and without `start` (a helper, a threshold) decides behind a `Recorder` (`Recorded`), as it
    does where it is deployed.

    Parameters
    ----------
    make_world, make_policies : callable
        Called once in every worker; picklable where there is more than one.
    tasks : sequence of str
        Tasks that nothing was trained on.
    episodes_per_task : int
    seed : int
    workers : int, optional
        Processes; all cores by default. The rows do not depend on it.

    Returns
    -------
    list of Row
        Task by task.

    Raises
    ------
    ValueError
        If a task is listed twice, there are no episodes, or a number is out of its range.
    """
    check_tasks(tasks)
    validate.integer("episodes_per_task", episodes_per_task, 1)
    validate.seed("seed", seed)
    n = os.cpu_count() or 1 if workers is None else validate.integer("workers", workers, 1)
    setup = _Setup(make_world, make_policies, episodes_per_task, seed)
    tasks_run = run_tasks(ProcessExecutor(n), _run_task, setup, ((None, task) for task in tasks))
    rows: list[Row] = []
    with progress("evaluate", len(tasks), "tasks") as advance, closing(tasks_run) as results:
        for _, some in results:
            rows += some
            advance(1)
    return rows


@dataclass
class _Setup:
    """What a process runs; world and policies are made by the first task that runs in it."""

    make_world: Callable[[], AssistedEnvironment]
    make_policies: Callable[[], Sequence[ComparedPolicy]]
    episodes_per_task: int
    seed: int

    @cached_property
    def world(self) -> AssistedEnvironment:
        return self.make_world()

    @cached_property
    def policies(self) -> Sequence[ComparedPolicy]:
        return self.make_policies()


def _run_task(setup: _Setup, task: str) -> list[Row]:
    rows, costs = [], {name: one.cost for name, one in setup.world.interventions.items()}
    for i in range(setup.episodes_per_task):
        luck = int(np.random.SeedSequence([setup.seed, zlib.crc32(task.encode()), i]).generate_state(1)[0])
        for name, budget, policy, setting in setup.policies:
            deployed = behind_recorder(policy, costs, budget)
            episode, decisions = run_with_decisions(setup.world, task, luck, deployed, budget)
            outcome, unseen = float(episode.outcome or 0.0), sum(one.extrapolated for one in decisions)
            counts = episode.cost, len(episode.steps), unseen, _spent(setup.world, episode)
            rows.append(Row(name, setting, budget_text(budget), task, luck, outcome, *counts))
    return rows


def _spent(world: AssistedEnvironment, episode: Trajectory) -> str:
    """Units of each of several budgets, as a text; "" for one."""
    units = [world.interventions[step.intervention].units for step in episode.steps if step.intervention is not None]
    width = max((len(one.units) for one in world.interventions.values()), default=1)
    return ",".join(str(sum(one[i] for one in units)) for i in range(width)) if width > 1 else ""


def write_rows(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write rows as Parquet."""
    columns = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    with atomic_write(path) as temporary, open_arrow(temporary, "wb") as file:
        pq.write_table(pa.table(columns), file, compression="zstd")


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read rows that `write_rows` wrote."""
    with open_arrow(path) as file:
        return [Row(**row) for row in pq.read_table(file).to_pylist()]
