"""Logs of one episode or run in several files: each is read once, and none is a duplicate of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cases import ATIF, CLAUDE, CODEX, OPENHANDS, SPANS, TAU2

from selfreg.data import LogError, Trajectory, detect_format, look_at_logs, read_trajectories
from selfreg.data.log_files import identify, list_log_files
from selfreg.data.outcomes import load_outcomes


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
    return path


def read(path: Path) -> list[Trajectory]:
    return list(read_trajectories(path))


def step(source: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"step_id": 1, "source": source, "message": message, **fields}


def test_a_trajectory_of_atif_that_goes_on_in_other_files(tmp_path) -> None:
    agent = tmp_path / "job" / "t1" / "agent"
    plain = read(write(agent / "trajectory.json", ATIF))[0]
    for number in (1, 2, 10):
        steps = [step("user", "copied", is_copied_context=True), step("agent", "copied", is_copied_context=True)]
        steps += [step("user", f"summary {number}"), step("agent", f"done {number}")]
        write(agent / f"trajectory.cont-{number}.json", {**ATIF, "steps": steps})
        summary = [step("user", "summarise"), step("agent", "it was so")]
        write(agent / f"trajectory.summarization-{number}-summary.json", {**ATIF, "steps": summary})
    write(tmp_path / "job" / "t1" / "result.json", {"task_name": "t", "trial_name": "t1"})
    (episode,) = read(tmp_path)
    added = [(one.state, one.action) for one in episode.steps[len(plain.steps) :]]
    assert added == [(f"copied\nsummary {number}", f"done {number}") for number in (1, 2, 10)]
    assert read(agent / "trajectory.json")[0].steps == episode.steps
    (agent / "trajectory.json").unlink()  # without their beginning they are what they are
    assert len(list_log_files(tmp_path).files) == 7


def test_simulations_of_tau2_bench_in_a_folder_beside_their_run(tmp_path) -> None:
    (plain,) = read(write(tmp_path / "plain" / "results.json", TAU2))
    (simulation,) = TAU2["simulations"]
    named = {"reward_info": {"reward": 1.0}, "termination_reason": "user_stop", **simulation, "id": "u1"}
    index = [{"id": "u1", "task_id": named["task_id"], "trial": 0}]
    run = write(tmp_path / "run" / "results.json", {"info": TAU2["info"], "tasks": [], "simulation_index": index})
    write(tmp_path / "run" / "simulations" / "u1.json", named)
    for path in (tmp_path / "run", run):
        (episode,) = read(path)
        assert (episode.task, episode.steps, episode.fields["model"]) == (
            plain.task,
            plain.steps,
            plain.fields["model"],
        )
    (found,) = detect_format(tmp_path / "run").files
    before = identify(found)
    (tmp_path / "run" / "simulations" / "u1.json").unlink()
    with pytest.raises(LogError, match=r"'simulation_index' has 1 simulations; there are 0 files in 'simulations'"):
        read(tmp_path / "run")
    assert before != identify(found._replace(parts=()))


@pytest.mark.parametrize("reason", ["infrastructure_error", "context_window_exceeded"])
def test_what_tau2_bench_does_not_count_has_no_outcome(tmp_path, reason) -> None:
    (simulation,) = TAU2["simulations"]
    failed = {**simulation, "termination_reason": reason, "reward_info": {"reward": 0.0}}
    assert read(write(tmp_path / "a.json", {**TAU2, "simulations": [failed]}))[0].outcome is None
    path = write(tmp_path / "b.json", {**TAU2, "simulations": [{**failed, "messages": []}]})
    with pytest.raises(LogError, match=f"b.json: episode 1: the simulation failed before its first message: {reason}"):
        read(path)


def test_events_of_openhands_in_an_answer_of_its_server(tmp_path) -> None:
    (plain,) = read(write(tmp_path / "plain.json", OPENHANDS))
    for name in ("items", "events", "trajectory"):
        path = write(tmp_path / "log.json", {name: OPENHANDS, "next_page_id": None})
        assert detect_format(path).format.name == "openhands"
        assert read(path)[0].steps == plain.steps


def test_events_of_openhands_in_its_download(tmp_path) -> None:
    (plain,) = read(write(tmp_path / "plain.json", OPENHANDS))
    for number, event in enumerate(OPENHANDS):
        write(tmp_path / "c1" / f"event_{number:06d}_id{number}.json", event)
    write(tmp_path / "c1" / "meta.json", {"title": "t"})
    (episode,) = read(tmp_path / "c1")
    assert (episode.steps, episode.episode) == (plain.steps, "c1")


def test_what_the_context_of_openhands_adds_and_a_hook_rejects(tmp_path) -> None:
    def event(kind: str, source: str, **fields: Any) -> dict[str, Any]:
        return {"kind": kind, "source": source, **fields}

    def text(value: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": value}]

    def call(title: str, status: str, **fields: Any) -> dict[str, Any]:
        return event("ACPToolCallEvent", "agent", title=title, status=status, raw_input={"p": 1}, **fields)

    said = {"role": "user", "content": text("fix")}
    stats = {"usage_to_metrics": {"condenser": {"model_name": "other"}, "agent": {"model_name": "weak"}}}
    events = [
        event("MessageEvent", "user", llm_message=said, extended_content=text("a skill")),
        event("ActionEvent", "agent", thought=text("look"), tool_name="ls", action={"p": 1}, llm_response_id="r1"),
        event("UserRejectObservation", "environment", rejection_reason="blocked", rejection_source="hook"),
        event("ActionEvent", "agent", tool_name="ls", action={"p": 2}, llm_response_id="r2"),
        event("UserRejectObservation", "environment", rejection_reason="no", rejection_source="user"),
        event("Condensation", "environment", summary="so far"),
        event("ConversationStateUpdateEvent", "environment", key="stats", value=stats),
        call("Read a", "in_progress"),
        call("Read a", "completed", raw_output={"output": "text of a"}),
        event("MessageEvent", "agent", llm_message={"role": "assistant", "content": text("done")}),
    ]
    (episode,) = read(write(tmp_path / "log.json", events))
    assert [(one.state, one.action, one.intervention) for one in episode.steps] == [
        ("fix\na skill", 'look\nls({"p":1})', None),
        ("The hook rejected the action: blocked", 'ls({"p":2})', "person"),
        ("The user rejected the action: no\nso far", 'Read a({"p":1})', None),
        ("Read a returned: text of a", "done", None),
    ]
    assert (episode.task, episode.fields["model"]) == ("fix", "weak")


def test_results_of_tau2_bench_name_their_tools(tmp_path) -> None:
    call = {"id": "c1", "name": "add", "arguments": {"a": 2}, "requestor": "assistant"}
    messages = [
        {"role": "user", "content": "2 + 2 = ?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "id": "c1", "content": "4", "requestor": "assistant"},
        {"role": "assistant", "content": "it is 4"},
    ]
    simulation = {**TAU2["simulations"][0], "messages": messages}
    (episode,) = read(write(tmp_path / "log.json", {**TAU2, "simulations": [simulation]}))
    assert [one.state for one in episode.steps] == ["2 + 2 = ?", "add returned: 4"]


def test_episodes_of_tau_bench_one_a_line_and_in_an_object(tmp_path) -> None:
    one = {"task_id": 0, "reward": 1, "trial": 0, "info": {}, "traj": [{"role": "assistant", "content": "hi"}]}
    two = {**one, "task_id": 1, "reward": 0}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(one) + "\n" + json.dumps(two) + "\n")
    for name in (path, write(tmp_path / "log.json", {"results": [one, two], "model": "weak"})):
        assert detect_format(name).format.name == "tau_bench"
        assert [(episode.task, episode.outcome) for episode in read(name)] == [("0", 1.0), ("1", 0.0)]
    failed = {**two, "traj": [], "info": {"error": "no answer", "traceback": "..."}}
    with pytest.raises(LogError, match=r"log\.json: episode 2: the run failed before its first message: no answer"):
        read(write(tmp_path / "log.json", [one, failed]))


def test_look_finds_the_report_among_trajectories(tmp_path) -> None:
    record = {"action": "ls", "observation": "a.py", "query": [{"role": "user", "content": "fix"}]}
    for name in ("i1", "i2"):
        write(tmp_path / name / f"{name}.traj", {"trajectory": [record], "history": [], "info": {}})
    report = write(tmp_path / "results.json", {"resolved_ids": ["i1"], "unresolved_ids": ["i2"]})
    overview = look_at_logs(tmp_path)
    assert (overview.outcomes.mean, overview.outcomes.known) == (0.5, 2)
    assert f"--outcomes {report}" in overview.command
    write(tmp_path / "report.json", {"resolved_ids": ["i2"]})  # which of the two is not known
    assert "--outcomes FILE" in look_at_logs(tmp_path).command
    (tmp_path / "results.json").write_text("{")
    (tmp_path / "report.json").write_text('{"resolved_ids": [[]]}')
    assert "--outcomes FILE" in look_at_logs(tmp_path).command
    with pytest.raises(LogError, match=r"report\.json: record 1: field 'resolved_ids': expected a list of ids"):
        load_outcomes(tmp_path / "report.json")


def test_an_instance_of_openhands_that_failed_says_why(tmp_path) -> None:
    path = tmp_path / "output.jsonl"
    path.write_text(json.dumps({"instance_id": "i1", "history": [], "error": "no sandbox", "test_result": {}}) + "\n")
    with pytest.raises(LogError, match=r"output\.jsonl:1: the run failed before its first event: no sandbox"):
        list(read_trajectories(path, "openhands_v0"))


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("claude_code", CLAUDE),
        ("codex", CODEX),
        ("openhands", [{"id": f"e{i}", **event} for i, event in enumerate(OPENHANDS)]),
        ("spans", [SPANS]),
    ],
)
def test_a_log_that_was_written_twice_into_one_file_is_read_once(tmp_path, name, records) -> None:
    (once := tmp_path / "once.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (twice := tmp_path / "twice.jsonl").write_text(once.read_text() * 2)
    (first,), (second,) = (list(read_trajectories(path, name)) for path in (once, twice))
    assert second.steps == first.steps
