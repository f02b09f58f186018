"""Logs of nobody's format: `look` finds how they are meant, or says exactly what to name."""

from __future__ import annotations

import json

import pytest

from selfreg.data import LogError, ReadOptions, look_at_logs


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def chats(status):
    turns = [{"llm": "small", "content": "the order is late"}, {"llm": "large", "content": "Refund issued"}]
    return [
        {"conversation_id": i, "ticket": {"id": f"t{i // 2}"}, "dialog": turns, "final": {"status": status[i % 2]}}
        for i in range(8)
    ]


def events():
    return [
        {"session": f"s{i}", "idx": t, "obs": {"screen": "cart", "n": t}, "escalation": "human" if i % 2 else "none"}
        for i in range(6)
        for t in range(3)
    ]


def test_a_word_for_success_is_enough(tmp_path) -> None:
    found = look_at_logs(write(tmp_path / "chats.jsonl", chats(["resolved", "escalated"])))
    assert (found.episodes, found.tasks, found.outcomes.mean) == (8, 4, 0.5)
    assert "--value outcome=escalated=0,resolved=1" in found.command
    assert "--map outcome=final.status" in found.command


def test_without_a_word_for_success_the_outcome_is_asked_for(tmp_path) -> None:
    log = write(tmp_path / "chats.jsonl", chats(["closed", "handed on"]))
    with pytest.raises(LogError, match=r"no field looks like an outcome; the fields are .*final.status") as error:
        look_at_logs(log)
    assert "--map steps=dialog --map task=ticket.id --map observation=content" in str(error.value)


def test_observations_may_be_objects_and_outcomes_in_another_file(tmp_path) -> None:
    log = write(tmp_path / "events.jsonl", events())
    with pytest.raises(LogError, match=r"--group-by session --order-by idx --map outcome=FIELD.* --outcomes FILE"):
        look_at_logs(log)
    found = look_at_logs(log, options=ReadOptions(outcomes={f"s{i}": float(i % 2) for i in range(6)}))
    assert (found.format, found.episodes, found.steps, found.outcomes.mean) == ("rows", 6, 18, 0.5)
    assert found.help == {"human": 9}


def test_a_word_that_is_no_outcome_is_shown(tmp_path) -> None:
    roles = {"steps": "dialog", "task": "ticket.id", "outcome": "final.status", "observation": "content"}
    found = look_at_logs(write(tmp_path / "chats.jsonl", chats(["closed", "handed on"])), roles=roles)
    assert "got a string ('closed'; --value says what values mean)" in found.faults[0]


def test_the_roles_of_rows_are_found_where_only_their_group_is_named(tmp_path) -> None:
    rows = [f"run{i},job{i // 2},{t},the test failed: {t},{40 + 40 * (i % 2)}" for i in range(6) for t in range(3)]
    log = tmp_path / "runs.csv"
    log.write_text("\n".join(["run_id,job,n,log_line,quality", *rows]) + "\n")
    found = look_at_logs(str(log), options=ReadOptions(group_by="run_id", order_by="n"))
    assert (found.episodes, found.steps, round(found.outcomes.mean, 6)) == (6, 18, 0.6)
    for words in ("--map observation=log_line", "--map outcome=quality", "--value outcome=0..100"):
        assert words in found.command


def test_names_that_end_like_an_outcome(tmp_path) -> None:
    steps = [{"state": {"page": 1}, "helper": None}, {"state": {"page": 2}, "helper": "expert"}]
    records = [{"case": i, "final_reward": i % 2, "confidence_score": 0.5, "path": steps} for i in range(6)]
    found = look_at_logs(write(tmp_path / "log.jsonl", records))
    assert (found.outcomes.mean, found.help) == (0.5, {"expert": 6})
    assert "--map observation=state" in found.command
    assert "The outcome is read from 'final_reward'; correct it" in "".join(found.hints)
    for record in records:
        del record["final_reward"]
    with pytest.raises(LogError, match="no field looks like an outcome"):
        look_at_logs(write(tmp_path / "log.jsonl", records))


def test_rows_that_say_whether_they_were_helped(tmp_path) -> None:
    records = [
        {"ticket": i, "turn": t, "text": f"m{t}", "escalated": t == 2, "solved": i % 2}
        for i in range(4)
        for t in range(3)
    ]
    found = look_at_logs(write(tmp_path / "log.jsonl", records))
    assert (found.episodes, found.help) == (4, {"help": 4})
    assert "--map intervention=escalated" in found.command


def test_a_document_with_an_empty_list_beside_its_records(tmp_path) -> None:
    episodes = [{"task": f"t{i}", "outcome": i % 2, "steps": [{"observation": "x"}]} for i in range(4)]
    (log := tmp_path / "log.json").write_text(json.dumps({"about": {"a": 1}, "episodes": episodes, "notes": []}))
    assert look_at_logs(log).episodes == 4


def test_an_outcome_that_varies_comes_first(tmp_path) -> None:
    records = [
        {
            "global index": f"A_{i // 2}",
            "question": "2 + 2",
            "llm_selected": f"m{i % 2}",
            "ran": {"success": True},
            "judged": {"score": i % 2},
        }
        for i in range(8)
    ]
    found = look_at_logs(write(tmp_path / "answers.jsonl", records))
    assert (found.tasks, found.outcomes.mean, found.models) == (4, 0.5, {"m0": 4, "m1": 4})
    assert "--map outcome=judged.score" in found.command
