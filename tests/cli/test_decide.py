"""`selfreg decide`: steps, messages and texts; one and many; what is wrong with them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import selfreg
from helper_cases import lights
from selfreg.cli.main import main
from selfreg.data import Step
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, RationedHelper, label, load_policy, ration, train_helper


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a `tfidf` helper that reads four earlier steps."""
    folder = tmp_path_factory.mktemp("decide")
    logs = lights()
    model = estimate_mdp(logs, Features(["step", "class"], {c: c for c in ("red", "amber", "green")}))
    labels = label(logs, model, selfreg.solve(model.mdp, 2))
    helper = train_helper(labels, HelperConfig(form="tfidf", history=4))
    helper.save(folder / "helper")
    (folder / "run.toml").write_text("")
    return folder


@pytest.fixture
def decide(run, monkeypatch, capsys):
    """Runs the command on an input: exit status, decisions, and what the error stream says."""

    def call(text: str, *arguments: str):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = main(["decide", str(run), *arguments])
        said = capsys.readouterr()
        return status, [json.loads(line) for line in said.out.splitlines()], said.err

    return call


STEPS = [{"state": "first green lamp", "action": "go"}, {"state": "second red key"}]
MESSAGES = [
    {"role": "user", "content": "first green lamp"},
    {"role": "assistant", "content": "go"},
    {"role": "user", "content": "second red key"},
]


def test_steps_and_messages_are_read_as_the_helper_was_trained(run, decide) -> None:
    helper = Helper.load(run / "helper")
    wanted = helper.decide([Step("first green lamp", "go"), Step("second red key")], (2,))
    for value in (STEPS, {"steps": STEPS}, {"messages": MESSAGES}):
        status, (decision,), err = decide(json.dumps(value), "--budget-left", "2")
        assert (status, err) == (0, "")
        assert decision["action"] == wanted.action == "help"
        assert decision["request_probability"] == wanted.request_probability
        assert decision["budget_left"] == [2]


@pytest.mark.parametrize("text", ["second red key", '"second red key"', "{second} red key", "[second] red key"])
def test_a_text_is_a_state_and_lacks_its_history(decide, text) -> None:
    status, (decision,), err = decide(text, "--budget-left", "1")
    assert (status, decision["action"]) == (0, "help")
    assert err.count("note: a text is one state without history; the helper was trained with 4 earlier steps") == 1


def test_many_decisions_in_one_process(tmp_path, decide) -> None:
    lines = [
        {"id": "a", "steps": STEPS, "budget_left": 1},
        {"id": 2, "messages": MESSAGES, "budget_left": [0]},
        {"steps": STEPS},
        {"steps": STEPS, "budget_left": None},
        "second red key",
    ]
    text = "\n\n".join(map(json.dumps, lines)) + "\n"
    (tmp_path / "input.jsonl").write_text(text)
    status, decisions, err = decide("", str(tmp_path / "input.jsonl"), "--jsonl", "--budget-left", "9")
    assert status == 0
    assert [one["action"] for one in decisions] == ["help", "nohelp", "help", "help", "help"]
    assert [one.get("id") for one in decisions] == ["a", 2, None, None, None]
    assert [one["budget_left"] for one in decisions] == [[1], [0], [9], None, [9]]
    assert err.count("note: the budget left is above (2,), the largest in training") == 1
    assert decide(text, "--jsonl", "--budget-left", "9")[1] == decisions


@pytest.mark.parametrize("left", ["9" * 23, str(2**63), str(2**64)])
def test_a_budget_of_many_digits(decide, left) -> None:
    status, (decision,), err = decide(json.dumps(STEPS), "--budget-left", left)
    assert (status, decision["action"], decision["budget_left"]) == (0, "help", [int(left)])
    assert "above (2,)" in err


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", ["--budget-left", "1"], "the state is empty"),
        (" \n", ["--budget-left", "1"], "the state is empty"),
        ('{"steps": ["a"', ["--budget-left", "1"], "not JSON"),
        ("[" * 100_000 + '["a', ["--budget-left", "1", "--jsonl"], "line 1: not JSON"),
        ('{"steps": ["a"]}', [], "budget_left is missing; give --budget-left"),
        ('{"steps": ["a"], "budget_left": 1.9}', [], "field 'budget_left': expected an integer >= 0"),
        ('{"steps": ["a"], "budget_left": true}', [], "field 'budget_left': expected an integer"),
        ('{"steps": ["a"], "budget_left": -1}', [], "field 'budget_left': expected an integer"),
        ('{"steps": ["a"], "budget_left": [1, 1]}', [], "expected 1 number"),
        ('{"steps": ["a"], "budget": 1}', ["--budget-left", "1"], "unknown key 'budget'"),
        ('{"state": "a"}', ["--budget-left", "1"], "unknown key 'state'; expected one of steps, messages"),
        ('"a"\n7\n', ["--budget-left", "1", "--jsonl"], "line 2: expected steps, messages or a text"),
        ('"a"\n{"steps": []}\n', ["--budget-left", "1", "--jsonl"], "line 2: field 'steps'"),
        ("a", ["--budget-left", "1,1"], "expected 1 number"),
        ("a", ["--budget-left", "-1"], "expected integers >= 0"),
        ("a", ["--budget-left", "1.9"], "expected an integer"),
        ("a", ["missing.json", "--budget-left", "1"], "missing.json"),
    ],
)
def test_what_is_wrong_is_named(decide, text, arguments, message) -> None:
    status, _, err = decide(text, *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_a_helper_without_history_takes_a_text_without_a_note(run, decide, tmp_path, monkeypatch, capsys) -> None:
    replace(Helper.load(run / "helper"), history=0).save(tmp_path / "helper")
    (tmp_path / "run.toml").write_text("")
    monkeypatch.setattr("sys.stdin", io.StringIO("second red key"))
    assert main(["decide", str(tmp_path), "--budget-left", "1"]) == 0
    assert capsys.readouterr().err == ""


def test_a_helper_with_a_mean_number_of_requests_decides_by_it(run, tmp_path, capsys, monkeypatch) -> None:
    """Saved with the helper: `decide` draws, and the same state gets the same decision."""
    logs = lights()
    model = estimate_mdp(logs, Features(["step", "class"], {c: c for c in ("red", "amber", "green")}))
    labels = label(logs, model, selfreg.solve(model.mdp, 2))
    policy = ration(Helper.load(run / "helper"), labels, 0.4)
    policy.save(tmp_path / "helper")
    (tmp_path / "run.toml").write_text("")
    loaded = load_policy(tmp_path / "helper")
    shown = ("low", "high", "share", "requests", "limits", "costs", "history")
    assert [getattr(loaded, name) for name in shown] == [getattr(policy, name) for name in shown]
    RationedHelper(policy.helper, 0.0, 1.0, 0.4, 0.4).save(tmp_path / "helper")
    texts = [f"first red {word} lamp {i}" for i in range(20) for word in ("north", "key")]
    requests = "\n".join(json.dumps({"steps": [text], "budget_left": 2}) for text in texts)
    drawn = []
    for _ in range(2):
        monkeypatch.setattr("sys.stdin", io.StringIO(requests))
        assert main(["decide", str(tmp_path), "--jsonl"]) == 0
        drawn.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert drawn[0] == drawn[1]
    assert sum(one["action"] == "help" for one in drawn[0]) == pytest.approx(0.4 * len(texts), abs=9)
    assert "0.40 units on average" in drawn[0][0]["reason"]
    (tmp_path / "helper" / "ration.json").write_text('{"low": 0.1}')
    with pytest.raises(ValueError, match=r"ration\.json"):
        load_policy(tmp_path / "helper")
