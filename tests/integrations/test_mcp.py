"""The tool `ask_for_help` with the real client, also over stdio: asked at the client or the desk, and paid once."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp is missing (extra 'mcp')")

import mcp_types as types
from mcp import Client, StdioServerParameters, stdio_client

from selfreg.decisions import Decision
from selfreg.integrations.mcp import make_server
from selfreg.runtime import Budget, Desk, Ledger, Recorder, SQLiteLedger

SITUATION = "error: no such file"


class AfterAnError:
    """Requests help after an error."""

    def decide(self, steps: Any, budget_left: Any) -> Decision:
        return Decision("person" if "error" in steps[-1].state else "nohelp")


class Person:
    """The person at the client; `actions` is what comes of each question, the last one for all that follow."""

    def __init__(self, *actions: str) -> None:
        self.actions, self.asked = list(actions), list[str]()

    async def __call__(self, _: Any, request: Any) -> types.ElicitResult:
        self.asked.append(request.message)
        action = self.actions.pop(0) if len(self.actions) > 1 else self.actions[0]
        return types.ElicitResult(action=action, content={"answer": "use b.txt"} if action == "accept" else None)


def make(ledger: Ledger, **options: Any):
    return make_server(
        Recorder(AfterAnError(), ledger, costs={"person": 1}),
        Desk(ledger, time_limit=options.pop("time_limit", 60.0), poll=0.02),
        **options,
    )


def ask(server: Any, *questions: str, person: Any = None, meta: Any = None, situation: str = SITUATION, **options: Any):
    """Replies to calls of the tool, in one connection."""

    async def call_all() -> list[dict[str, Any]]:
        async with Client(server, elicitation_callback=person, **options) as client:
            words = [{"situation": situation, "question": question} for question in questions]
            return [(await client.call_tool("ask_for_help", one, meta=meta)).structured_content for one in words]

    return asyncio.run(call_all())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_person_at_the_client_is_asked_once_within_the_budget(mode) -> None:
    ledger, person = Ledger(1), Person("accept")
    first, again, second = ask(make(ledger), "Which file?", "Which file?", "Which folder?", person=person, mode=mode)
    assert first == again
    assert first == {
        "status": "answered",
        "answer": "use b.txt",
        "note": "Answered by the person at the client.",
        "budget_left": [0],
    }
    assert (second["status"], second["answer"]) == ("refused", "")
    assert "cannot pay" in second["note"]
    assert person.asked == [f"Which file?\n\n{SITUATION}"]
    assert [one.status for one in ledger.entries()] == ["charged"]


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_nothing_is_paid_where_the_person_declines(action) -> None:
    ledger, person = Ledger(1), Person(action, "accept")
    declined, again, other = ask(make(ledger), "a", "a", "b", person=person)
    assert (declined["status"], declined["budget_left"]) == ("declined", [1])
    assert again == declined
    assert other["status"] == "answered"
    assert len(person.asked) == 2


def test_the_policy_may_refuse() -> None:
    ledger, person = Ledger(1), Person("accept")
    (reply,) = ask(make(ledger), "a", person=person, situation="all is well")
    assert (reply["status"], reply["budget_left"], person.asked) == ("refused", [1], [])


def test_without_a_question_at_the_client_people_answer_at_the_desk() -> None:
    ledger = Ledger(1)
    server, desk = make(ledger, wait=30.0, run_id="run"), Desk(ledger, poll=0.02)

    def answer() -> None:
        while not desk.requests("open"):
            time.sleep(0.02)
        (request,) = desk.requests("open")
        assert request.text == f"{SITUATION}\n\nWhich file?"
        desk.answer(request.run_id, request.step_id, "b.txt", by="Ada")

    thread = threading.Thread(target=answer)
    thread.start()
    (reply,) = ask(server, "Which file?")
    thread.join(10)
    assert (reply["status"], reply["answer"], reply["note"]) == ("answered", "b.txt", "Answered by Ada.")


def test_a_call_that_waits_too_long_is_called_again() -> None:
    ledger = Ledger(1)
    server = make(ledger, wait=0.1, run_id="run")
    (still,) = ask(server, "a")
    assert (still["status"], still["budget_left"]) == ("open", [0])
    (request,) = Desk(ledger).requests("open")
    Desk(ledger).answer("run", request.step_id, "b.txt", by="Ada")
    assert ask(server, "a")[0]["answer"] == "b.txt"
    assert len(ledger.entries()) == 1


def test_a_request_that_nobody_answers_expires_and_is_refunded() -> None:
    ledger = Ledger(1)
    (reply,) = ask(make(ledger, time_limit=0.2, wait=30.0), "a")
    assert (reply["status"], reply["budget_left"]) == ("expired", [1])


def test_whoever_is_faster_answers() -> None:
    """The desk answers while the client still asks its person."""
    ledger = Ledger(1)

    async def late(_: Any, request: Any) -> types.ElicitResult:
        (found,) = Desk(ledger).requests("open")
        Desk(ledger).answer(found.run_id, found.step_id, "from the desk", by="Ada")
        return types.ElicitResult(action="accept", content={"answer": "too late"})

    (reply,) = ask(make(ledger), "a", person=late)
    assert (reply["status"], reply["answer"]) == ("answered", "from the desk")


def test_runs_and_steps_come_from_the_client_application() -> None:
    ledger = Ledger(3)
    server = make(ledger, run_id="of the server")
    ask(server, "a", person=Person("accept"))
    ask(server, "a", person=Person("accept"), meta={"selfreg/run": "of the client", "selfreg/step": 3})
    assert [(one.run_id, one.step_id == "3") for one in ledger.entries()] == [
        ("of the server", False),
        ("of the client", True),
    ]


def test_parallel_calls_share_the_budget() -> None:
    ledger, person = Ledger(2), Person("accept")

    async def call_all() -> list[str]:
        async with Client(make(ledger), elicitation_callback=person) as client:
            calls = [
                client.call_tool("ask_for_help", {"situation": SITUATION, "question": str(i % 4)}) for i in range(8)
            ]
            return [one.structured_content["status"] for one in await asyncio.gather(*calls)]

    statuses = asyncio.run(call_all())
    assert (statuses.count("answered"), statuses.count("refused")) == (4, 4)
    assert [one.status for one in ledger.entries()] == ["charged"] * 2


def test_the_tool_has_a_schema_without_ids() -> None:
    async def read() -> Any:
        async with Client(make(Ledger(1))) as client:
            return (await client.list_tools()).tools[0]

    tool = asyncio.run(read())
    assert set(tool.input_schema["properties"]) == {"situation", "question"}
    assert set(tool.output_schema["properties"]) == {"status", "answer", "note", "budget_left"}


def test_the_command_over_stdio(tmp_path) -> None:
    """With a trained helper; the server is started anew, and answers from the ledger."""
    selfreg = pytest.importorskip("selfreg")
    from helper_cases import lights
    from selfreg.estimate import Features, estimate_mdp
    from selfreg.helper import HelperConfig, label, train_helper
    from selfreg.runs import RunFolder

    folder, logs = RunFolder(tmp_path / "run"), lights()
    model = estimate_mdp(logs, Features(["step", "class"], {c: c for c in ("red", "amber", "green")}))
    labels = label(logs, model, selfreg.solve(model.mdp, 2))
    folder.record("import", {})
    train_helper(labels, HelperConfig(form="tfidf", history=0)).save(folder.path / "helper")
    command = ["-m", "selfreg", "mcp", str(folder.path), "--run-id", "ticket 7", "--per-run", "1"]
    person = Person("accept")
    replies = []
    for _ in range(2):
        server = StdioServerParameters(command=sys.executable, args=command, env={**os.environ})
        with open(os.devnull, "w") as errors:
            replies += ask(stdio_client(server, errors), "a", "b", person=person, situation="second red key")
    assert [one["status"] for one in replies] == ["answered", "refused"] * 2
    assert len(person.asked) == 1
    assert [(one.run_id, one.status) for one in SQLiteLedger(folder.path / "ledger.sqlite").entries()] == [
        ("ticket 7", "charged")
    ]


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="the desk has another ledger"):
        make_server(Recorder(AfterAnError(), Ledger(1), costs={"person": 1}), Desk(Ledger(1)))
    with pytest.raises(ValueError, match="wait is -1"):
        make(Ledger(1), wait=-1)


def test_a_task_has_its_budget() -> None:
    """Without a task in the metadata, a ledger with a budget for each of them could not be used at all."""
    server = make(Ledger(Budget(1, scope="task")), run_id="run", wait=0.0)
    replies = [ask(server, name, meta={"selfreg/task": task})[0] for name, task in (("a", "1"), ("b", "1"), ("c", "2"))]
    assert [(one["status"], one["budget_left"]) for one in replies] == [("open", [0]), ("refused", [0]), ("open", [0])]


def test_a_situation_may_be_empty() -> None:
    assert ask(make(Ledger(1)), "what now?", situation=" ")[0]["status"] == "refused"
