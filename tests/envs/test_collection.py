"""The log of Phase I: killed at any moment nothing is lost or doubled; rollouts start at the chosen states."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from selfreg.data import read_trajectories
from selfreg.envs import (
    CollectConfig,
    HouseholdConfig,
    Intervention,
    branch_rollouts,
    collect,
    collect_into,
    household_tasks,
    low_count_states,
    make_household,
)
from selfreg.envs.collection import Recurrence

TASKS = household_tasks(12, 0, seed=5)[0]
CONFIG = CollectConfig(episodes_per_task=24, workers=1)
SCRIPT = """
import sys
from selfreg.envs import CollectConfig, collect_into, household_tasks, make_household
if __name__ == "__main__":
    config = CollectConfig(episodes_per_task=24, workers=int(sys.argv[2]))
    collect_into(sys.argv[1], make_household, household_tasks(12, 0, seed=5)[0], config)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    collect_into(folder, make_household, TASKS, CONFIG)
    return (folder / "episodes.jsonl").read_bytes()


def test_the_log_is_what_collect_gives(tmp_path: Path) -> None:
    seen: list[Recurrence] = []
    last = collect_into(tmp_path, make_household, TASKS[:3], CONFIG, seen.append)
    episodes = list(collect(make_household, TASKS[:3], CONFIG))
    assert list(read_trajectories(tmp_path / "episodes.jsonl")) == episodes
    states = {(one.task, step.key) for one in episodes for step in one.steps}
    assert last == seen[-1]
    assert last[:3] == (72, sum(len(one.steps) for one in episodes), len(states))
    assert [now.episodes for now in seen] == list(range(8, 73, 8))
    assert 0 < last.once < last.states
    assert 0 < last.known < 1


@pytest.mark.parametrize("cut", [0, 1, 700, 50_000, -1, -300])
def test_a_log_cut_at_any_byte_is_completed(tmp_path: Path, whole: bytes, cut: int) -> None:
    collect_into(tmp_path, make_household, TASKS, CONFIG)
    (tmp_path / "episodes.jsonl").write_bytes(whole[:cut])
    assert collect_into(tmp_path, make_household, TASKS, CONFIG).episodes == 12 * 24
    assert (tmp_path / "episodes.jsonl").read_bytes() == whole


def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path: Path, whole: bytes) -> None:
    script, log = tmp_path / "script.py", tmp_path / "out" / "episodes.jsonl"
    script.write_text(SCRIPT)
    grown = 0
    for workers in (1, 2, 1):
        process = subprocess.Popen([sys.executable, script, tmp_path / "out", str(workers)], start_new_session=True)
        while process.poll() is None and (not log.exists() or log.stat().st_size <= grown):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert grown < log.stat().st_size
        grown = log.stat().st_size
        if log.read_bytes() == whole:
            break
    collect_into(tmp_path / "out", make_household, TASKS, CONFIG)
    assert log.read_bytes() == whole


def test_workers_end_with_a_killed_process(tmp_path: Path) -> None:
    ps = shutil.which("ps")
    if ps is None:
        pytest.skip("no ps")
    script, log = tmp_path / "script.py", tmp_path / "out" / "episodes.jsonl"
    script.write_text(SCRIPT.replace("episodes_per_task=24", "episodes_per_task=4000"))
    process = subprocess.Popen([sys.executable, script, tmp_path / "out", "2"], start_new_session=True)
    try:
        while process.poll() is None and (not log.exists() or not log.stat().st_size):
            time.sleep(0.01)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while left := subprocess.run([ps, "-o", "pid=", "-s", str(process.pid)], capture_output=True, text=True).stdout:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_another_collection_is_not_mixed_in(tmp_path: Path) -> None:
    collect_into(tmp_path, make_household, TASKS[:1], CONFIG)
    with pytest.raises(ValueError, match="its tasks is"):
        collect_into(tmp_path, make_household, TASKS[:2], CONFIG)
    with pytest.raises(ValueError, match="its seed is 0, now 1"):
        collect_into(tmp_path, make_household, TASKS[:1], CollectConfig(episodes_per_task=24, seed=1))
    collect_into(tmp_path, make_household, TASKS[:1], CollectConfig(episodes_per_task=24, workers=2))
    lines = (tmp_path / "episodes.jsonl").read_text().splitlines()
    (tmp_path / "episodes.jsonl").write_text("\n".join([lines[0], "{}", *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"episodes\.jsonl:2: "):
        collect_into(tmp_path, make_household, TASKS[:1], CONFIG)


def test_another_world_is_not_mixed_in(tmp_path: Path) -> None:
    collect_into(tmp_path / "a", make_household, TASKS[:1], CONFIG, world={"trust": 0.6, "helps": ("help",)})
    collect_into(tmp_path / "a", make_household, TASKS[:1], CONFIG, world={"trust": 0.6, "helps": ("help",)})
    with pytest.raises(ValueError, match="its world is"):
        collect_into(tmp_path / "a", make_household, TASKS[:1], CONFIG, world={"trust": 0.7, "helps": ("help",)})
    collect_into(tmp_path / "b", make_household, TASKS[:1], CONFIG)
    collect_into(tmp_path / "b", make_household, TASKS[:1], CONFIG, world={"trust": 0.6})  # nobody noted which


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / "episodes.jsonl", "ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is collecting"):
            collect_into(tmp_path, make_household, TASKS[:1], CONFIG)


def test_rollouts_start_at_the_chosen_states() -> None:
    world = make_household()
    episodes = list(collect(make_household, TASKS[:3], CONFIG))
    chosen = low_count_states(episodes, ["help"], 5)
    states = [(one.trajectory.task, one.trajectory.steps[one.step].key) for one in chosen]
    assert len(set(states)) == 5
    assert any(one.step > 0 for one in chosen)
    rollouts = list(branch_rollouts(world, chosen, 4, (0.0, 1.0)))
    assert len(rollouts) == 20
    for i, rollout in enumerate(rollouts):
        branch = chosen[i // 4]
        assert rollout.steps[0].key == branch.trajectory.steps[branch.step].key
        assert (rollout.fields["branch_of"], rollout.fields["branch_step"]) == (branch.trajectory.episode, branch.step)
        assert rollout.fields["rate"] == (0.0, 1.0)[i % 2]
        assert all((step.intervention is not None) == bool(i % 2) for step in rollout.steps)
    assert len({rollout.episode for rollout in rollouts}) == 20
    assert list(branch_rollouts(world, chosen, 4, (0.0, 1.0))) == rollouts
    assert low_count_states(rollouts, ["help"], 3) == []


def test_states_where_help_was_never_tried_come_first() -> None:
    alone = list(collect(make_household, TASKS[:1], CollectConfig(episodes_per_task=8, rates=(0.0,), workers=1)))
    helped = list(collect(make_household, TASKS[1:2], CollectConfig(episodes_per_task=8, rates=(0.5,), workers=1)))
    first = low_count_states([*helped, *alone], ["help"], 1)[0]
    assert (first.trajectory.task, first.step) == (TASKS[0], 0)


def test_episodes_of_another_world_are_not_replayed() -> None:
    episodes = list(collect(make_household, TASKS[1:2], CONFIG))
    long = next(one for one in episodes if len(one.steps) > 5)
    other = make_household(HouseholdConfig(step_limit=3))
    with pytest.raises(ValueError, match=r"cannot be replayed|does not lead"):
        list(branch_rollouts(other, [(long, 5)], 1, (0.0,)))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="rates is"):
        list(branch_rollouts(make_household(), [], 1, ()))
    for step in (-1, len(long.steps)):
        with pytest.raises(ValueError, match=f"there is no step {step}"):
            list(branch_rollouts(make_household(), [(long, step)], 1, (0.0,)))  # type: ignore[list-item]


def test_rollouts_know_who_acted_before_their_first_step() -> None:
    """A hand-off at the branch costs reading where the agent acted before, and none where this helper did."""
    world = make_household(interventions=[Intervention("owner", steps=1, reading=2)])
    make = partial(make_household, interventions=[Intervention("owner", steps=1, reading=2)])
    logs = list(collect(make, TASKS[:1], CollectConfig(episodes_per_task=8, rates=(0.5,), workers=1)))
    moments = {
        trajectory.steps[t - 1].intervention: (trajectory, t)
        for trajectory in logs
        for t in range(1, len(trajectory.steps))
    }
    lengths = {}
    for last, moment in moments.items():
        [rollout] = branch_rollouts(world, [moment], episodes=1, rates=(1.0,))
        assert rollout.steps[0].key == moment[0].steps[moment[1]].key
        lengths[last] = len((rollout.steps[0].action or "").split(", "))
    assert lengths == {None: 3, "owner": 1}
