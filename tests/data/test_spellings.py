"""Names of fields in other spellings than ours, and logs of several agents in one folder."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from selfreg.data import LogError, ReadOptions, look_at_logs, read_trajectories
from selfreg.data.guesses import find_name, guess_roles


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def maps(command: str) -> list[str]:
    words = shlex.split(command)
    return [words[i + 1] for i, word in enumerate(words) if word in ("--map", "--group-by", "--order-by")]


@pytest.mark.parametrize(
    ("there", "found"),
    [(["Task ID", "x"], "Task ID"), (["taskId"], "taskId"), (["TASK", "task"], "task"), (["tasks"], None), ([], None)],
)
def test_names_are_found_in_other_spellings(there, found) -> None:
    assert find_name(there, ("task", "task_id")) == found


def test_tickets_with_names_for_people(tmp_path) -> None:
    rows = []
    for number in range(10):
        for minute, (who, text) in enumerate([("bot", "printer broken"), ("person", "solved")]):
            about = {"Ticket Number": f"T-{number}", "Opened At": f"2026-01-{number + 1:02d} 09:0{minute}:00"}
            last = minute and ("Yes" if number % 2 else "No")
            rows.append(
                {**about, "Message": text, "Escalated To": "Tier 2" if who != "bot" else "", "Resolved?": last or ""}
            )
    overview = look_at_logs(write_table(tmp_path / "tickets.csv", rows))
    assert (overview.episodes, overview.steps, overview.help) == (10, 20, {"Tier 2": 10})
    assert overview.outcomes.mean == 0.5
    assert maps(overview.command) == [
        "task=Ticket Number", "observation=Message", "intervention=Escalated To", "outcome=Resolved?", "Ticket Number",
        "Opened At",
    ]  # fmt: skip


def test_a_table_of_answers_with_names_for_people(tmp_path) -> None:
    rows = [{"Query ID": f"q{i}", "Model": m, "Score": 1} for i in range(3) for m in ("weak", "strong")]
    episodes = list(read_trajectories(write_table(tmp_path / "log.csv", rows)))
    assert len(episodes) == 6
    assert episodes[0].episode == "q0/weak"


def test_all_columns_that_are_missing_are_named_at_once(tmp_path) -> None:
    path = write_table(tmp_path / "log.csv", [{"Frage": "x", "Richtig": "ja"}])
    with pytest.raises(
        LogError, match=r"for the roles 'task' and 'outcome'; there are Frage, Richtig: --map task=COLUMN --map"
    ):
        list(read_trajectories(path))


def test_names_of_objects_and_objects_as_actions() -> None:
    step = {"observation": {"screen": "a"}, "decision": {"tool": "click"}, "human_override": False}
    records = [{"meta": {"task": {"slug": "t1"}}, "trace": [step], "evaluation": {"success": 1}}]
    assert guess_roles(records) == {
        "steps": "trace",
        "task": "meta.task.slug",
        "outcome": "evaluation.success",
        "observation": "observation",
        "action": "decision",
        "intervention": "human_override",
    }


def test_look_says_that_folders_may_be_of_an_agent_each(tmp_path) -> None:
    for agent in ("weak", "strong"):
        (tmp_path / agent).mkdir()
        for number in range(4):
            chat = [{"role": "user", "content": "2 + 2 = ?"}, {"role": "assistant", "content": "4"}]
            record = {"task_id": f"t{number}", "messages": chat, "success": number % 2}
            (tmp_path / agent / f"{number}.json").write_text(json.dumps(record))
    hints = look_at_logs(tmp_path).hints
    assert any(hint.startswith("strong and weak have the same tasks. If they are logs of different") for hint in hints)
    assert not any("same tasks" in hint for hint in look_at_logs(tmp_path / "weak").hints)


def test_steps_of_one_task_by_several_models_are_episodes_each(tmp_path) -> None:
    rows = [
        {"question_id": f"q{i}", "model": m, "turn": turn, "score": 8}
        for turn in (2, 1) for m in ("a", "b") for i in range(3)
    ]  # fmt: skip
    path = write_table(tmp_path / "log.csv", rows)
    overview = look_at_logs(path)
    assert (overview.episodes, overview.tasks) == (6, 3)
    assert overview.outcomes.mean == pytest.approx(0.8)
    options = {"roles": {"outcome": "score"}, "options": ReadOptions(values={"outcome": "0..10"})}
    assert {one.episode for one in read_trajectories(path, "table", **options)} >= {"q0/a", "q0/b"}
    # Steps that several models took in turn are of one episode.
    mixed = [{**row, "turn": row["turn"] + 2 * (row["model"] == "b")} for row in rows]
    assert look_at_logs(write_table(path, mixed)).episodes == 3


def test_percentages_are_numbers(tmp_path) -> None:
    rows = [{"query_id": f"q{i}", "model": "weak", "score": text} for i, text in enumerate(["85%", "12,5 %", "100%"])]
    outcomes = [one.outcome for one in read_trajectories(write_table(tmp_path / "log.csv", rows))]
    assert outcomes == [0.85, 0.125, 1.0]
    with pytest.raises(LogError, match="column 'score': expected a number; got '%'"):
        list(read_trajectories(write_table(tmp_path / "log.csv", [{**rows[0], "score": "%"}])))


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_who_answered_in_the_steps_of_nested_logs(tmp_path) -> None:
    def ticket(number: int) -> dict[str, Any]:
        events = [{"sender": "customer", "text": "help"}, {"sender": "bot", "text": "try this"}]
        if number % 2:
            events += [{"sender": "system", "text": "handed on"}, {"sender": "human_agent", "text": "solved"}]
        return {"ticketId": f"T{number}", "events": events, "csat": 1 + number % 5, "escalated": bool(number % 2)}

    overview = look_at_logs(write_lines(tmp_path / "log.jsonl", [ticket(number) for number in range(10)]))
    assert overview.help == {"person": 5}
    assert "intervention=sender" in maps(overview.command)
    assert "intervention=bot=,customer=,system=,*=person" in shlex.split(overview.command)


def test_nobody_is_taken_for_help_where_no_person_answers(tmp_path) -> None:
    events = [{"sender": "customer", "text": "help"}, {"sender": "bot", "text": "try this"}]
    records = [{"ticketId": f"T{i}", "events": events, "csat": 1 + i % 5} for i in range(6)]
    assert "intervention" not in look_at_logs(write_lines(tmp_path / "log.jsonl", records)).command


def test_help_of_a_step_and_a_final_status(tmp_path) -> None:
    def run(number: int) -> dict[str, Any]:
        steps = [{"thought": "hm", "observation": f"saw {i}", "askedHuman": i == 1} for i in range(3)]
        status = ("success", "failure", "timeout")[number % 3]
        return {"taskName": f"t{number % 2}", "agentModel": "weak", "steps": steps, "finalStatus": status}

    overview = look_at_logs(write_lines(tmp_path / "log.jsonl", [run(number) for number in range(6)]))
    assert (overview.episodes, overview.tasks, overview.help) == (6, 2, {"help": 6})
    assert overview.outcomes.mean == pytest.approx(1 / 3)


def test_messages_a_line_of_conversations_in_another_spelling(tmp_path) -> None:
    lines = [
        {"conversationId": f"c{i}", "seq": seq, "role": role, "content": role, "resolved": bool(i % 2)}
        for seq, role in ((1, "assistant"), (0, "user")) for i in range(2)
    ]  # fmt: skip
    episodes = list(read_trajectories(write_lines(tmp_path / "log.jsonl", lines)))
    assert [(one.episode, one.outcome, one.steps[0].state) for one in episodes] == [
        ("c0", 0.0, "user"),
        ("c1", 1.0, "user"),
    ]
