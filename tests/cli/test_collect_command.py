"""`selfreg collect` in several worlds: environments, actors, forms of help, and a log that is gone on with."""

from __future__ import annotations

import pytest

from selfreg.cli.main import main
from selfreg.envs import ImitationPolicy, World
from selfreg.runs import RunFolder

SMALL = ["--tasks", "3", "--test-tasks", "2", "--episodes", "8", "--workers", "1"]


def collected(tmp_path, *arguments: str) -> RunFolder:
    out = tmp_path / "run"
    assert main(["collect", "--out", str(out), *SMALL, *arguments]) == 0
    return RunFolder.open(out)


def test_household_with_a_trained_actor_and_two_forms_of_help(tmp_path) -> None:
    helps = ["--intervention", "owner,steps=end,cost=2", "--intervention", "child,error=0.4"]
    actor = ["--actor", "imitation", "--demonstrations", "5", "--set", "step_limit=10"]
    run = collected(tmp_path, "--environment", "household", "--level", "moved", *helps, *actor)
    settings = run.settings()["collect"]
    world = World.of(settings["world"])
    assert {step.intervention for t in run.trajectories() for step in t.steps} == {None, "owner", "child"}
    assert {step.charge for t in run.trajectories() for step in t.steps if step.intervention == "owner"} == {2}
    assert isinstance(world.make(run.path).policy, ImitationPolicy)
    assert world.make(run.path).environment.step_limit == 10
    train = {t.task for t in run.trajectories()}
    others = [*settings["test_tasks"], *settings["validation_tasks"]]
    assert len({*train, *others}) == len(train) + len(others)
    again = tmp_path / "again"
    saved = str(run.path / "actor.safetensors")
    assert main(["collect", "--out", str(again), *SMALL, "--environment", "household", "--actor", saved]) == 0
    assert (again / "actor.safetensors").read_bytes() == (run.path / "actor.safetensors").read_bytes()


def test_a_log_is_gone_on_with(tmp_path) -> None:
    log = tmp_path / "log"
    options = ["--environment", "household", "--log", str(log)]
    whole = collected(tmp_path / "a", *options).trajectories()
    lines = (log / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    (log / "episodes.jsonl").write_bytes(b"".join(lines[:10]) + lines[10][:20])
    assert collected(tmp_path / "b", *options).trajectories() == whole
    assert (log / "episodes.jsonl").read_bytes() == b"".join(lines)


def test_a_log_of_another_world_is_not_gone_on_with(tmp_path, capsys) -> None:
    options = ["collect", *SMALL, "--environment", "household", "--log", str(tmp_path / "log")]
    trained = [*options, "--actor", "imitation", "--demonstrations", "3"]
    assert main([*trained, "--out", str(tmp_path / "a")]) == 0
    assert main([*trained, "--out", str(tmp_path / "b")]) == 0
    others = (
        [*options],
        [*trained[:-1], "2"],
        [*trained, "--set", "help_steps=2"],
        [*trained, "--intervention", "help,error=0.5"],
    )
    for other in others:
        assert main([*other, "--out", str(tmp_path / "c")]) == 2
        assert "started with other world" in capsys.readouterr().err


def test_an_actor_of_another_world_is_refused(tmp_path, capsys) -> None:
    run = collected(tmp_path / "a", "--environment", "household", "--actor", "imitation", "--demonstrations", "2")
    actor = str(run.path / "actor.safetensors")
    assert main(["collect", "--out", str(tmp_path / "b"), *SMALL, "--actor", actor]) == 2
    assert "trained for the actions" in capsys.readouterr().err


def test_a_level_brings_its_step_limit(tmp_path) -> None:
    run = collected(tmp_path, "--level", "BabyAI-GoToLocalS5N2-v0")
    assert max(len(t.steps) for t in run.trajectories()) <= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--environment", "chess"], "environment is 'chess'"),
        (["--environment", "household", "--level", "cook"], "cook"),
        (["--set", "speed=2"], "no setting 'speed'"),
        (["--set", "slip=much"], "--set slip=much: expected a number"),
        (["--set", "step_limit=2.5"], "--set: BabyAIConfig.step_limit is 2.5; expected an int"),
        (["--set", "step_limit=inf"], "--set: BabyAIConfig.step_limit is inf; expected an int"),
        (["--intervention", "help,wrong=jump"], "action 'jump' is unknown"),
        (["--seed", "-1"], "--seed"),
        (["--intervention", "help,steps=none"], "steps=none"),
        (["--environment", "household", "--actor", "nobody"], "--actor nobody"),
    ],
)
def test_worlds_that_are_none_are_refused(tmp_path, capsys, arguments: list[str], message: str) -> None:
    assert main(["collect", "--out", str(tmp_path / "run"), *SMALL, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
