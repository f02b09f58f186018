"""Logs that others wrote, read as they are: facts that were counted in the files by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfreg.data import LogError, ReadOptions, Trajectory, detect_format, read_trajectories


def read(path: Path, **options: object) -> list[Trajectory]:
    return list(read_trajectories(path, **options))


def facts(path: Path) -> list[list[tuple[str | None, tuple[str, ...], str | None]]]:
    """Model, tools and help of the steps of each episode."""
    found = detect_format(path)
    records = [
        record
        for file in found.files
        for _, record in found.format.read(file.path, ReadOptions(marks=None), file.label)
    ]
    return [[(step.model, step.tools, step.intervention) for step in record.steps] for record in records]


@pytest.mark.parametrize(
    ("name", "format", "episodes", "steps"),
    [
        ("formats/atif", "atif", 1, 2),
        ("formats/claude_code", "claude_code", 2, 4),
        ("formats/mini_swe_agent/github_issue.traj.json", "mini_swe_agent", 1, 10),
        ("formats/openhands", "openhands", 1, 2),
        ("formats/langsmith", "langsmith", 1, 1),
        ("formats/openinference/otel_genai_client_span_tool_calls.json", "spans", 1, 1),
        ("inspect_ai/helper_role_approval.eval", "inspect", 1, 9),
        ("inspect_ai/inspect_websearch.eval", "inspect", 1, 1),
        ("inspect_ai/popularity.eval", "inspect", 10, 10),
        ("inspect_ai/popularity.json", "inspect", 3, 3),
        ("inspect_ai/security-guide.json", "inspect", 3, 3),
        ("swe_agent", "swe_agent", 3, 27),
        ("tau_bench", "tau_bench", 200, 2454),
        ("router_arena", "table", 1617, 1617),
    ],
)
def test_formats_are_told_and_read(shared_data, name, format, episodes, steps) -> None:
    skipped: list[LogError] = []
    found = read(shared_data / name, skipped=skipped)
    assert detect_format(shared_data / name).format.name == format
    assert (len(found), sum(len(episode.steps) for episode in found)) == (episodes, steps)
    assert all(step.action is not None for episode in found for step in episode.steps) or format == "table"
    # One answer of the router's table has a score below 0.
    assert len(skipped) == (format == "table")


def test_tau_bench_has_transfers_to_people_and_reads_two_agents_together(shared_data, tmp_path) -> None:
    log = shared_data / "tau_bench" / "gpt-4o-airline.json.gz"
    alone = read(log)
    assert sum(episode.helped for episode in alone) == 48
    assert sum(episode.outcome for episode in alone) == 84
    other = tmp_path / "strong.json.gz"
    other.write_bytes(log.read_bytes())
    together = read_trajectories([log, other])
    tasks = {episode.task for episode in together}
    assert (len(list(together)), len(tasks)) == (400, 50)


def test_inspect_has_help_by_role_and_grades(shared_data) -> None:
    (steps,) = facts(shared_data / "inspect_ai" / "helper_role_approval.eval")
    assert [help for _, _, help in steps] == [None, "helper", *[None] * 7]
    assert [model for model, _, _ in steps[:2]] == ["mockllm/weak", "mockllm/strong"]
    assert [tools for _, tools, _ in steps[:3]] == [("work", "work"), ("work",), ("submit",)]
    (episode,) = read(shared_data / "inspect_ai" / "helper_role_approval.eval")
    assert episode.steps[1].state == "work returned: Error 00\nwork returned: Error 01"
    assert [e.outcome for e in read(shared_data / "inspect_ai" / "popularity.json")] == [1.0, 1.0, 0.0]
    assert [e.outcome for e in read(shared_data / "inspect_ai" / "security-guide.json")] == [1.0, 1.0, 1.0]


def test_swe_agent_shows_what_was_seen_before_the_action(shared_data) -> None:
    (episode,) = read(shared_data / "swe_agent" / "marshmallow-1867.traj")
    first, second = episode.steps[:2]
    assert "ISSUE" in first.state
    assert first.action.endswith("create reproduce.py")
    assert second.state.startswith("[File: reproduce.py (1 lines total)]")
    assert (episode.task, episode.outcome, episode.truncated) == ("marshmallow-1867", None, True)


def test_redacted_and_partial_files_are_named_errors(shared_data) -> None:
    for name, message in (
        ("inspect_ai/inspect_log_tool_call_error.json", "expected at least one message or action of the agent"),
        ("formats/openinference/otel_genai_tool_execution_span.json", "has no call of a model"),
        ("formats/mini_swe_agent/results.json", "of no known format; its first record has 'swe-agent__test-repo-1'"),
    ):
        with pytest.raises(LogError, match=message):
            read(shared_data / name)


def test_a_folder_of_several_formats_names_two_files(shared_data) -> None:
    with pytest.raises(LogError, match=r"is of format '\w+' .* choose one with --format"):
        read(shared_data / "formats")
    found = detect_format(shared_data / "formats", "atif")
    assert [Path(file.path).parent.name for file in found.files] == ["atif"]
    assert any("claude_code" in one for one in found.left_out)
