"""Any JSONL by mapping, tau-bench, and the real logs beside the project."""

from __future__ import annotations

import json

import pytest

from selfreg.data import HelpMarks, LogError, ReadOptions, Step, read_trajectories

ROLES = {"task": "id", "outcome": "won", "steps": "turns", "observation": "saw", "intervention": "helper"}
GOOD = {"id": 7, "won": True, "helper": None, "model": "m", "turns": [{"saw": "a"}, {"saw": None, "helper": "person"}]}


def read(tmp_path, *records, roles=ROLES, **options):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return list(read_trajectories(path, "jsonl", roles=roles, **options))


def test_roles_are_found_in_the_step_or_the_episode(tmp_path) -> None:
    (episode,) = read(tmp_path, GOOD)
    assert (episode.task, episode.outcome, episode.episode) == ("7", 1.0, "log.jsonl:1")
    assert [step.state for step in episode.steps] == ["a", ""]
    assert [step.intervention for step in episode.steps] == [None, "person"]
    assert episode.fields == {"id": 7, "helper": None, "model": "m"}


def test_a_role_of_the_episode_holds_for_each_step(tmp_path) -> None:
    (episode,) = read(tmp_path, {**GOOD, "helper": "gpt", "turns": [{"saw": "a"}, {"saw": "b"}]})
    assert [step.intervention for step in episode.steps] == ["gpt", "gpt"]
    assert episode.cost == 2


def test_an_episode_field_that_is_not_mapped_is_no_role_of_steps(tmp_path) -> None:
    (episode,) = read(tmp_path, {**GOOD, "cost": 0.25, "action": "x"})
    assert [step.cost for step in episode.steps] == [None, None]
    assert [step.action for step in episode.steps] == [None, None]
    assert episode.fields["cost"] == 0.25


def test_dotted_paths(tmp_path) -> None:
    roles = {**ROLES, "task": "info.id", "observation": "seen.text"}
    (episode,) = read(
        tmp_path, {"info": {"id": "x"}, "won": 0, "helper": None, "turns": [{"seen": {"text": "hi"}}]}, roles=roles
    )
    assert (episode.task, episode.steps[0].state) == ("x", "hi")


def test_filters(tmp_path) -> None:
    records = [{**GOOD, "model": model} for model in ("a", "b", None)]
    assert len(read(tmp_path, *records, where={"model": ["a"]})) == 1
    assert len(read(tmp_path, *records, where={"model": ["a", "b"]})) == 2
    assert len(read(tmp_path, *records, where={"model": ["null"], "id": ["7"]})) == 1
    with pytest.raises(LogError, match=r"log.jsonl:1: field 'modle' is missing; a filter names it"):
        read(tmp_path, *records, where={"modle": ["a"]})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("nonsense", r"log.jsonl:1: not JSON"),
        ("[1]", "expected a JSON object; got a"),
        ({**GOOD, "won": 1.5}, r"log.jsonl:1: field 'won': expected a number in \[0, 1\]; got 1.5"),
        ({**GOOD, "won": "yes"}, "field 'won': expected a number .* got a string"),
        ({**GOOD, "won": None}, "outcome is null"),
        ({**GOOD, "turns": []}, "field 'turns': expected a list of at least one step; got an empty list"),
        ({**GOOD, "turns": 3}, "field 'turns': expected a list"),
        ({**GOOD, "turns": ["x"]}, "step 0: expected an object; got a string"),
        ({**GOOD, "turns": [{"saw": "a"}, {}]}, r"step 1: field 'saw' is missing \(role 'observation'\)"),
        ({**GOOD, "turns": [{"saw": "a", "helper": 3}]}, "step 0: field 'helper': expected the name of a help type"),
        ({**GOOD, "id": [1]}, "field 'id': expected a string or an integer; got a list"),
        ({"won": 1, "helper": None, "turns": [{"saw": "a"}]}, r"field 'id' is missing \(role 'task'\)"),
        ({**GOOD, "truncated": "no"}, "field 'truncated': expected true or false"),
    ],
)
def test_a_bad_record_names_line_field_and_what_was_expected(tmp_path, record, message) -> None:
    with pytest.raises(LogError, match=message):
        read(tmp_path, record)
    skipped: list[LogError] = []
    assert len(read(tmp_path, record, GOOD, skipped=skipped)) == 1
    assert len(skipped) == 1


@pytest.mark.parametrize("cost", [0.5, -1, 1 << 63, 1 << 31, "3"])
def test_a_cost_that_is_mapped_is_checked_and_another_is_not_read(tmp_path, cost) -> None:
    record = {**GOOD, "turns": [{"saw": "a", "cost": cost}]}
    (episode,) = read(tmp_path, record)
    assert episode.steps[0].cost is None
    with pytest.raises(LogError, match=r"log.jsonl:1: step 0: field 'cost': expected an integer"):
        read(tmp_path, record, roles={**ROLES, "cost": "cost"})
    (episode,) = read(tmp_path, {**GOOD, "turns": [{"saw": "a", "cost": 3}]}, roles={**ROLES, "cost": ""})
    assert episode.steps[0].cost is None


@pytest.mark.parametrize("word", ["None", "False", "none", " ", "null", "", "nohelp", "NaN", None, False])
def test_words_for_no_help_are_no_help(tmp_path, word) -> None:
    (episode,) = read(tmp_path, {**GOOD, "turns": [{"saw": "a", "helper": word}]})
    assert not episode.helped
    assert word is False or not Step("a", intervention=word).intervention


def test_a_step_without_the_field_of_help_is_unhelped(tmp_path) -> None:
    record = {"id": 7, "won": True, "turns": [{"saw": "a"}, {"saw": "b", "helper": "person"}]}
    (episode,) = read(tmp_path, record)
    assert [step.intervention for step in episode.steps] == [None, "person"]


def test_paths_reach_into_lists_and_fields_are_joined(tmp_path) -> None:
    calls = [{"function": {"name": "search"}}, {"function": {"name": "pay"}}]
    record = {
        "meta": {"ids": ["x", "y"]},
        "won": 1,
        "turns": [{"parts": [{"text": "a"}, {"kind": "image"}, {"text": "b"}], "calls": calls, "why": "c"}],
    }
    roles = {"task": "meta.ids[1]", "outcome": "won", "steps": "turns", "observation": "parts[].text"}
    roles |= {"action": "why+calls[].function.name+nothing", "key": "calls.0.function.name"}
    (episode,) = read(tmp_path, record, roles=roles)
    (step,) = episode.steps
    assert (episode.task, step.state, step.action, step.key) == ("y", "a\nb", "c\nsearch\npay", "search")


def test_a_record_that_is_one_step(tmp_path) -> None:
    record = {"task": "q1", "outcome": 0.5, "observation": "2 + 2?", "action": "5", "model": "small"}
    (episode,) = read(tmp_path, record, roles={})
    assert [(step.state, step.action) for step in episode.steps] == [("2 + 2?", "5")]
    assert episode.fields == {"task": "q1", "model": "small"}
    (episode,) = read(tmp_path, {**record, "steps": 3}, roles={"steps": ""})
    assert len(episode.steps) == 1


def test_roles_that_are_off(tmp_path) -> None:
    (episode,) = read(tmp_path, {**GOOD, "won": 3}, roles={**ROLES, "task": "", "outcome": "", "observation": ""})
    assert (episode.task, episode.outcome, episode.truncated) == ("log.jsonl:1", None, True)
    assert [step.state for step in episode.steps] == ["", ""]


def test_an_observation_that_follows_its_action_is_the_next_state(tmp_path) -> None:
    steps = [{"observation": "saw 1", "action": "do 1"}, {"observation": "saw 2", "action": "do 2"}]
    record = {"task": "t", "outcome": 1, "steps": steps, "problem": "fix it"}
    options = ReadOptions({"prompt": "problem"}, shift_observation=True)
    (episode,) = read(tmp_path, record, roles={}, options=options)
    assert [(step.state, step.action) for step in episode.steps] == [("fix it", "do 1"), ("saw 1", "do 2")]


@pytest.mark.parametrize(
    ("rule", "value", "outcome"),
    [
        ("C=1,I=0", "C", 1.0),
        ("C=1,*=0", "X", 0.0),
        ("C=1,I=0", None, "outcome is null"),
        ("C=1,I=0,null=0", None, 0.0),
        ("C=1,I=0", "X", r"field 'won': expected one of 'C', 'I'; got 'X' \(--value outcome\)"),
        ("true=1,false=0", True, 1.0),
        ("-1..1", 0, 0.5),
        ("1..5", "4", 0.75),
        ("100..0", 25, 0.75),
        ("0..100", 101, "expected a number in 0..100; got 101"),
        (">=4", 4, 1.0),
        (">=4", "3.5", 0.0),
        ("<2.5", 2, 1.0),
        (">=4", "many", "expected a number; got 'many'"),
        (">=4", [4], "expected a number"),
    ],
)
def test_values_are_translated(tmp_path, rule, value, outcome) -> None:
    options = ReadOptions(values={"outcome": rule})
    if isinstance(outcome, float):
        (episode,) = read(tmp_path, {**GOOD, "won": value}, options=options)
        assert episode.outcome == outcome
    else:
        with pytest.raises(LogError, match=outcome):
            read(tmp_path, {**GOOD, "won": value}, options=options)


@pytest.mark.parametrize("rule", ["", "1..1", "a", "a=1,a=0", ">=x", "..", "0..1..2"])
def test_rules_are_checked_before_anything_is_read(rule) -> None:
    with pytest.raises(ValueError, match=r"expected|twice"):
        read_trajectories("nowhere.jsonl", "jsonl", options=ReadOptions(values={"outcome": rule}))


def test_values_of_help_are_translated(tmp_path) -> None:
    options = ReadOptions(values={"intervention": "human=person,agent=,*=other"})
    turns = [{"saw": "a", "helper": name} for name in ("human", "agent", "x", None)] + [{"saw": "a"}]
    (episode,) = read(tmp_path, {"id": 7, "won": True, "turns": turns}, options=options)
    assert [step.intervention for step in episode.steps] == ["person", None, "other", None, None]


def test_facts_of_steps_are_marks_of_help(tmp_path) -> None:
    roles = {**ROLES, "model": "llm", "tools": "calls[].name", "decision": "ok"}
    turns = [
        {"saw": "a", "llm": "gpt-4o", "helper": None},
        {"saw": "a", "llm": "small", "calls": [{"name": "look"}, {"name": "escalate"}]},
        {"saw": "a", "ok": False},
        {"saw": "a", "ok": True},
    ]
    marks = HelpMarks({"rejected": "reviewer"}, {"escalate": "person"}, models={"gpt-4*": "strong"})
    (episode,) = read(tmp_path, {"id": 7, "won": 1, "turns": turns}, roles=roles, options=ReadOptions(marks=marks))
    assert [step.intervention for step in episode.steps] == ["strong", "person", "reviewer", None]
    assert all(type(step) is Step for step in episode.steps)


def test_unknown_roles_and_misplaced_mappings(tmp_path) -> None:
    with pytest.raises(ValueError, match="unknown role 'reward'"):
        read(tmp_path, GOOD, roles={"reward": "won"})
    with pytest.raises(ValueError, match="format 'tau_bench' takes no roles"):
        read_trajectories(tmp_path / "x", "tau_bench", roles=ROLES)


def test_tau_bench(tmp_path) -> None:
    call = {"function": {"name": "get", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "policy"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "name": "get", "content": "42"},
        {"role": "assistant", "content": "it is 42"},
        {"role": "user", "content": "bye"},
    ]
    path = tmp_path / "tau.json"
    path.write_text(json.dumps([{"task_id": 3, "reward": 1.0000001, "traj": messages, "trial": 2}]))
    (episode,) = read_trajectories(path, "tau_bench")
    assert (episode.task, episode.episode, episode.outcome, episode.fields["trial"]) == ("3", "tau.json:3/2", 1.0, 2)
    assert [(s.state, s.action) for s in episode.steps] == [("hello", "get({})"), ("get returned: 42", "it is 42")]
    path.write_text(json.dumps([{"task_id": 3, "reward": "x", "traj": messages}]))
    with pytest.raises(LogError, match="episode 1: field 'reward': expected a number; got a string"):
        list(read_trajectories(path, "tau_bench"))
    for text, fault in (("[]", "expected a JSON list of at least one episode"), ("{}", "field 'task_id' is missing")):
        path.write_text(text)
        with pytest.raises(LogError, match=fault):
            list(read_trajectories(path, "tau_bench"))


def test_tau_bench_as_published(shared_data) -> None:
    episodes = list(read_trajectories(shared_data / "tau_bench" / "gpt-4o-airline.json.gz", "tau_bench"))
    assert len(episodes) == 200
    assert sum(e.outcome for e in episodes) / 200 == pytest.approx(0.42)
    assert sum(len(e.steps) for e in episodes) / 200 == pytest.approx(12.27)


def test_mint(shared_data) -> None:
    roles = {"task": "task_id", "outcome": "success", "intervention": "helper"}
    where = {"actor": ["gpt-3.5-turbo-0613"]}
    path = shared_data / "mint" / "mint_core.jsonl.gz"
    episodes = list(read_trajectories(path, "jsonl", roles=roles, where=where))
    alone = {e.task: e.outcome for e in episodes if not e.helped}
    helped = {e.task: e.outcome for e in episodes if e.helped}
    assert sum(alone.values()) / len(alone) == pytest.approx(0.362, abs=5e-4)
    assert sum(helped.values()) / len(helped) == pytest.approx(0.514, abs=5e-4)
    assert sum(alone[t] == 0 and helped[t] == 1 for t in alone) == 134
    assert sum(alone[t] == 1 and helped[t] == 0 for t in alone) == 45


def test_labels_are_read_only_where_they_are_mapped_and_steps_may_lack_them(tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    steps = [{"observation": "a", "label": 1}, {"observation": "b", "label": None}, {"observation": "c", "judged": 0.5}]
    log.write_text(json.dumps({"task": "t", "outcome": 1, "steps": steps}) + "\n")

    def labels(**roles: str) -> list[float | None]:
        return [step.label for step in next(iter(read_trajectories(log, "jsonl", roles=roles))).steps]

    assert labels() == [None, None, None]
    assert labels(label="label") == [1.0, None, None]
    assert labels(label="judged") == [None, None, 0.5]
    log.write_text('{"task": "t", "outcome": 1, "steps": [{"observation": "a", "label": "GOOD"}]}\n')
    assert labels() == [None]
    with pytest.raises(LogError, match="step 0: field 'label': expected a number"):
        labels(label="label")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("field", ["logs", "runs", "mine"])
def test_one_episode_in_a_document_is_no_wrapper(tmp_path, field, indent) -> None:
    record = {"task": "t1", "success": 1, field: [{"observation": "a", "action": "b"}, {"observation": "c"}]}
    (tmp_path / "run1.json").write_text(json.dumps(record, indent=indent))
    options = ReadOptions({"steps": field, "outcome": "success"})
    [episode] = read_trajectories(tmp_path / "run1.json", "jsonl", options=options)
    assert (episode.task, episode.outcome, [step.state for step in episode.steps]) == ("t1", 1.0, ["a", "c"])


def test_records_in_a_summary_are_unwrapped(tmp_path) -> None:
    steps = [{"observation": "a", "action": "b"}]
    records = [{"task": f"t{i}", "outcome": i, "steps": steps} for i in (0, 1)]
    (tmp_path / "all.json").write_text(json.dumps({"id": "export", "score": 0.5, "results": records}, indent=1))
    assert [t.outcome for t in read_trajectories(tmp_path / "all.json", "jsonl")] == [0.0, 1.0]
