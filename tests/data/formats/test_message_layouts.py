"""Messages as their writers lay them out: refusals, audio, the AI SDK, custom tools, Gemini, items of responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import LANGSMITH

from selfreg.data import LogError, Trajectory, detect_format, look_at_logs, read_trajectories


def read(path: Path, record: Any, format: str = "openai_messages") -> Trajectory:
    path.write_text(json.dumps(record) + "\n")
    assert detect_format(path).format.name == format
    (episode,) = read_trajectories(path)
    return episode


def steps_of(episode: Trajectory) -> list[tuple[str, str | None]]:
    return [(step.state, step.action) for step in episode.steps]


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


QUESTION = message("user", "2 + 2 = ?")


@pytest.mark.parametrize(
    "answer",
    [
        message("assistant", None, refusal="I will not"),
        message("assistant", [{"type": "refusal", "refusal": "I will not"}]),
        message("assistant", None, audio={"id": "a", "transcript": "I will not"}),
        message("assistant", "I will not", refusal=None, audio=None),
        message("assistant", "I will not", refusal=False, audio="a.wav"),
    ],
)
def test_what_a_model_refuses_or_speaks_is_its_action(tmp_path, answer) -> None:
    assert steps_of(read(tmp_path / "log.jsonl", {"messages": [QUESTION, answer]})) == [("2 + 2 = ?", "I will not")]


def test_calls_of_tools_whose_input_is_a_text(tmp_path) -> None:
    call = {"id": "c1", "type": "custom", "custom": {"name": "run", "input": "print(4)"}}
    messages = [QUESTION, message("assistant", None, tool_calls=[call]), message("tool", "4", tool_call_id="c1")]
    episode = read(tmp_path / "log.jsonl", {"messages": [*messages, message("assistant", "it is 4")]})
    assert steps_of(episode) == [("2 + 2 = ?", "run(print(4))"), ("run returned: 4", "it is 4")]


@pytest.mark.parametrize(
    ("given", "returned"), [("input", "output"), ("args", "result")], ids=["version 5", "version 4"]
)
def test_calls_and_results_of_the_ai_sdk(tmp_path, given, returned) -> None:
    def part(kind: str, name: str, **fields: Any) -> dict[str, Any]:
        return {"type": kind, "toolCallId": name, "toolName": name, **fields}

    value = {"type": "text", "value": "4"} if returned == "output" else "4"
    messages = [
        message("user", [{"type": "text", "text": "2 + 2 = ?"}]),
        message("assistant", [{"type": "text", "text": "so"}, part("tool-call", "add", **{given: {"a": 2}})]),
        message("tool", [part("tool-result", "add", **{returned: value}), part("tool-result", "sub")]),
        message("assistant", "it is 4"),
    ]
    assert steps_of(read(tmp_path / "log.jsonl", {"messages": messages})) == [
        ("2 + 2 = ?", 'so\nadd({"a":2})'),
        ("add returned: 4\nsub returned: ", "it is 4"),
    ]


def text(value: str, **fields: Any) -> dict[str, Any]:
    return {"text": value, **fields}


GEMINI = [
    {"role": "user", "parts": [text("2 + 2 = ?")]},
    {
        "role": "model",
        "parts": [text("hm", thought=True), text("so"), {"functionCall": {"name": "add", "args": {"a": 2}}}],
    },
    {"role": "user", "parts": [{"functionResponse": {"name": "add", "response": {"result": "4"}}}]},
    {"role": "model", "parts": [text("it is 4")]},
]
STEPS = [("2 + 2 = ?", 'so\nadd({"a":2})'), ("add returned: 4", "it is 4")]


def test_contents_of_gemini(tmp_path) -> None:
    instruction = {"role": "system", "parts": [text("be brief")]}
    snake = json.loads(json.dumps(GEMINI).replace("functionCall", "function_call").replace("nR", "n_r"))
    for number, record in enumerate([{"systemInstruction": instruction, "contents": GEMINI}, {"contents": snake}]):
        assert steps_of(read(tmp_path / f"{number}.jsonl", record)) == STEPS
    assert steps_of(read(tmp_path / "log.json", GEMINI)) == STEPS
    response = {"candidates": [{"content": GEMINI[3], "finishReason": "STOP"}], "modelVersion": "weak"}
    exchange = {"request": {"contents": GEMINI[:3]}, "response": response}
    assert steps_of(read(tmp_path / "exchange.jsonl", exchange)) == STEPS
    for bad in ([{"role": [3], "parts": []}], [*GEMINI, {"role": "model", "parts": [{"functionCall": {"name": 3}}]}]):
        with pytest.raises(LogError, match=r"bad\.jsonl:1: field 'contents': field .*expected"):
            list(read_trajectories(write_line(tmp_path / "bad.jsonl", {"contents": bad}), "openai_messages"))


def write_line(path: Path, record: Any) -> Path:
    path.write_text(json.dumps(record) + "\n")
    return path


def test_tools_of_a_server_of_the_responses_api(tmp_path) -> None:
    output = [
        {"type": "mcp_call", "name": "find", "arguments": '{"q":1}', "output": "found", "error": None},
        {"type": "file_search_call", "queries": ["a"], "results": [{"text": "a page"}]},
        {"type": "code_interpreter_call", "code": "2+2", "outputs": [{"type": "logs", "logs": "4"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "it is 4"}]},
    ]
    assert steps_of(read(tmp_path / "log.jsonl", {"input": [QUESTION], "output": output})) == [
        ("2 + 2 = ?", 'find({"q":1})'),
        ("find returned: found", 'file_search({"queries":["a"]})'),
        ("file_search returned: a page", 'code_interpreter({"code":"2+2"})'),
        ("code_interpreter returned: 4", "it is 4"),
    ]


# ---- LangSmith ------------------------------------------------------------------------------------------------------


def run(number: int, **fields: Any) -> dict[str, Any]:
    order = f"20260101T000000000000Zroot.2026010{number}T000000000000Z{number}"
    about = {"id": str(number), "run_type": "llm", "trace_id": "root", "parent_run_id": "root", "dotted_order": order}
    return {**about, "inputs": {"messages": [QUESTION]}, **fields}


ANSWER = {"choices": [{"message": message("assistant", "4")}]}


def test_items_of_the_responses_api_in_runs(tmp_path) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
    call = {"type": "function_call", "name": "add", "arguments": '{"a":2}', "call_id": "c"}
    output = {"type": "function_call_output", "call_id": "c", "output": "4"}
    done = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "it is 4"}]}
    first = run(
        1, inputs={"input": [QUESTION]}, outputs={"object": "response", "output": [{"type": "reasoning"}, said, call]}
    )
    last = run(2, inputs={"input": [QUESTION, said, call, output]}, outputs={"object": "response", "output": [done]})
    assert steps_of(read(tmp_path / "log.json", [first, last], "langsmith")) == STEPS


def test_a_run_of_a_model_that_failed_is_no_step(tmp_path) -> None:
    runs = [run(1, error="too many requests", outputs=None), run(2, outputs=ANSWER)]
    assert steps_of(read(tmp_path / "log.json", runs, "langsmith")) == [("2 + 2 = ?", "4")]
    with pytest.raises(LogError, match="trace 'root' has no answer of a model: too many requests"):
        read(tmp_path / "log.json", runs[:1], "langsmith")


def test_runs_whose_ids_are_named_run_id(tmp_path) -> None:
    about = {"run_id": "a", "trace_id": "a", "run_type": "llm", "parent_run_id": None}
    episode = read(
        tmp_path / "log.jsonl", {**about, "inputs": {"messages": [QUESTION]}, "outputs": ANSWER}, "langsmith"
    )
    assert (episode.episode, steps_of(episode)) == ("a", [("2 + 2 = ?", "4")])


# ---- several outcomes -----------------------------------------------------------------------------------------------


def test_look_takes_the_first_of_several_outcomes_and_says_so(tmp_path) -> None:
    scores = {"good": {"n": 1, "avg": 1.0}, "style": {"n": 1, "avg": 0.0}}
    root = {**LANGSMITH[0], "id": "root", "trace_id": "root", "feedback_stats": scores}
    (tmp_path / "log.json").write_text(json.dumps([root, run(1, outputs=ANSWER)]))
    overview = look_at_logs(tmp_path / "log.json")
    assert (overview.episodes, overview.outcomes.mean, overview.n_faults) == (1, 1.0, 0)
    assert "--map outcome=good" in overview.command
    assert any("several outcomes (good, style); the command takes 'good'" in hint for hint in overview.hints)
    given = look_at_logs(tmp_path / "log.json", roles={"outcome": "style"})
    assert given.outcomes.mean == 0.0
    assert "--map outcome=style" in given.command


def test_an_answer_that_is_a_list_of_parts(tmp_path) -> None:
    record = {"input": [QUESTION], "output": [{"content": "4"}]}
    assert steps_of(read(tmp_path / "log.jsonl", record)) == [("2 + 2 = ?", "4")]


@pytest.mark.parametrize("name", ["text", "message"])
def test_messages_whose_text_has_another_name(tmp_path, name) -> None:
    messages = [{"role": "user", name: "2 + 2 = ?"}, {"role": "ai", name: "4"}, {"role": "tool", name: "ok"}]
    episode = read(tmp_path / "log.jsonl", {"trajectory": [*messages, {"role": "ai", name: "done"}]})
    assert steps_of(episode) == [("2 + 2 = ?", "4"), ("tool returned: ok", "done")]


def test_a_message_without_a_text_is_named(tmp_path) -> None:
    with pytest.raises(
        LogError, match=r"'messages': field '\[1\]': expected a message with 'content'; it has role, body"
    ):
        read(tmp_path / "log.jsonl", {"messages": [QUESTION, {"role": "assistant", "body": "4"}]})


def test_messages_as_the_text_of_their_json(tmp_path) -> None:
    text = json.dumps([QUESTION, message("assistant", "4")])
    episode = read(tmp_path / "log.jsonl", {"messages": text, "instance_id": "i1", "resolved": True})
    assert (steps_of(episode), episode.outcome, "messages" in episode.fields) == ([("2 + 2 = ?", "4")], 1.0, False)


def test_trajectories_of_messages_in_parquet(tmp_path) -> None:
    row = {"instance_id": "i1", "trajectory": [QUESTION, message("assistant", "4")], "resolved": 1}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "log.parquet")
    (episode,) = read_trajectories(tmp_path / "log.parquet")
    assert (steps_of(episode), episode.task, episode.outcome) == ([("2 + 2 = ?", "4")], "i1", 1.0)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_prompt_and_a_completion_of_messages(tmp_path, suffix) -> None:
    answers = [message("assistant", "5"), message("user", "Again"), message("assistant", "4")]
    records = [
        {"example_id": i // 2, "task": "sums", "prompt": [QUESTION], "completion": answers, "reward": 1.0}
        for i in range(4)
    ]
    log = tmp_path / f"log{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), log)
    else:
        log.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert detect_format(log).format.name == "openai_messages"
    episodes = list(read_trajectories(log))
    assert [episode.task for episode in episodes] == ["0", "0", "1", "1"]
    assert steps_of(episodes[0]) == [("2 + 2 = ?", "5"), ("Again", "4")]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [], "reward": 0},
        {"messages": [{"role": "user"}], "reward": 0},
        {"task_id": 1, "trial": 0, "reward": 0.0, "traj": [], "info": {"error": "no answer"}},
    ],
)
def test_a_fault_knows_the_outcome_of_its_record(tmp_path, record) -> None:
    good = {**record, "task_id": 2} | {
        name: [QUESTION, message("assistant", "4")] for name in ("messages", "traj") if name in record
    }
    (log := tmp_path / "log.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(record)}\n")
    skipped: list[LogError] = []
    assert len(list(read_trajectories(log, skipped=skipped))) == 1
    assert [fault.outcome for fault in skipped] == [0.0]
