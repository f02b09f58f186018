"""Logs of Inspect: `.eval` (a zip file of samples, read one at a time) and `.json`.

A call of a model is a step; calls inside of scorers are none. A model in the role "helper" is help, and so is a person
who rejects or changes a call (the approver "human"). Decisions of `selfreg.integrations.inspect_ai`, events of the
log, name the help type, and have the propensities that off-policy evaluation needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg.data.archives import list_members
from selfreg.data.documents import convert_value, read_document
from selfreg.data.faults import LogError, ask_choice
from selfreg.data.formats.inspect_archives import SampleMembers
from selfreg.data.log_files import plain_name, plain_suffix
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.samples import Sample
from selfreg.data.trajectory import NOHELP, Trajectory
from selfreg.data.turns import Message, Turns, make_episode, read_success

with require_extra("logs", "selfreg.data"):
    import msgspec

# Inspect's own values of letters and words.
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
HELPER = "helper"
OURS = "selfreg"  # source of events that hold a decision
_ATTACHMENT = re.compile(r"attachment://([0-9a-f]{32}|\d+)")


class _Eval(msgspec.Struct):
    task: str = ""
    model: str | None = None
    eval_id: str | None = None
    run_id: str | None = None


class _Header(msgspec.Struct):
    eval: _Eval


class _Log(_Header):
    samples: list[Any] | None = None


class _Score(msgspec.Struct):
    value: Any = None


class _Pool(msgspec.Struct):
    messages: list[Message] = []


class _Transcript(msgspec.Struct):
    """Where the first versions kept the events."""

    events: list[dict[str, Any]] = []
    content: dict[str, str] = {}


class _Sample(msgspec.Struct):
    id: int | str
    epoch: int
    messages: list[Message] = []
    events: list[dict[str, Any]] = []
    transcript: _Transcript | None = None
    scores: dict[str, _Score] | None = None
    score: _Score | None = None
    attachments: dict[str, str] = {}
    events_data: _Pool | None = None
    error: dict[str, Any] | None = None
    limit: dict[str, Any] | None = None
    uuid: str | None = None


class _Choice(msgspec.Struct):
    message: Message


class _Output(msgspec.Struct):
    choices: list[_Choice] = []


class _Call(msgspec.Struct):
    """A call of a model."""

    model: str
    role: str | None = None
    input: list[Message] = []
    input_refs: list[tuple[int, int]] | None = None
    output: _Output | None = None
    error: Any = None  # such a call has an output too, which is empty


class _Place(NamedTuple):
    """Where the samples of a log are."""

    header: _Eval
    options: ReadOptions


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    try:
        if plain_suffix(path) == ".eval":
            yield from _read_archive(path, options)
        else:
            log: _Log = read_document(path, _Log)
            if not log.samples:
                raise LogError("field 'samples': expected at least one sample; the log has none")
            for number, sample in enumerate(log.samples, 1):
                yield number, _convert_or_fault(sample, _Place(log.eval, options))
    except LogError as error:
        yield 0, error


def _read_archive(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    members = {member.filename: member for member in list_members(path)}
    samples = SampleMembers(path, members)
    # A log whose run was interrupted has no header, but the beginning of its journal.
    first = next((name for name in ("header.json", "_journal/start.json") if name in members), None)
    if first is None or not samples.names:
        raise LogError(f"member {'header.json' if first is None else 'samples/*.json'!r} is missing in the archive")
    place = _Place(samples.decode(first, _Header).eval, options)
    for number, name in enumerate(samples.names, 1):
        try:
            yield number, _convert_or_fault(samples.read(name), place)
        except LogError as error:
            yield number, error


def _convert_or_fault(raw: Any, place: _Place) -> Record:
    try:
        return _convert(convert_value(raw, _Sample), place)
    except LogError as error:
        return error


def _convert(sample: _Sample, place: _Place) -> Trajectory:
    turns = Turns()
    fields: dict[str, Any] = {}
    decision: dict[str, Any] | None = None  # of the call that follows
    if sample.transcript is not None:
        sample.events, sample.attachments = sample.transcript.events, sample.transcript.content
    for event in _events_of_agent(sample.events):
        if event["event"] == "info":
            decision = _read_decision(turns, event)
        elif event["event"] == "model":
            if _add_call(turns, event, sample) and decision is not None:
                _add_decision(turns, decision, fields)
            decision = None
        elif event.get("approver") == "human" and event.get("decision") in ("reject", "modify", "terminate"):
            turns.reject_last()
    if not turns.steps:
        turns.add_messages(sample.messages)
    turns.steps = [_resolve(step, sample.attachments) for step in turns.steps]
    header = place.header
    run = header.eval_id or header.run_id
    name = plain_name(place.options.source) if run in (None, "...") else run
    limit, error = (sample.limit or {}).get("type"), (sample.error or {}).get("message")
    about = {"model": header.model, "task_name": header.task, "epoch": sample.epoch, "limit": limit, "error": error}
    outcome = None if sample.error else _read_score(sample, place.options)
    task, episode = f"{header.task}/{sample.id}", f"{name}/{header.task}/{sample.id}/{sample.epoch}"
    if error and not turns.steps:
        raise LogError(f"the sample failed before the first answer of a model: {error}")
    return make_episode(turns, task, episode, outcome, {**about, **fields})


def _read_decision(turns: Turns, event: dict[str, Any]) -> dict[str, Any] | None:
    """A decision about the call that follows; None for one about a call of a tool, which marks the last step."""
    data = event.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("selfreg.action"), str):
        return None
    if data.get("selfreg.kind") != "call":
        return data
    if turns.steps and data["selfreg.action"] != NOHELP:
        turns.steps[-1] = msgspec.structs.replace(turns.steps[-1], intervention=data["selfreg.action"])
    return None


def _add_decision(turns: Turns, decision: dict[str, Any], fields: dict[str, Any]) -> None:
    """The help type of the last step, and the propensity of its action."""
    if turns.steps[-1].intervention == HELPER:
        turns.steps[-1] = msgspec.structs.replace(turns.steps[-1], intervention=decision["selfreg.action"])
    propensity = decision.get("selfreg.propensity")
    if isinstance(propensity, (int, float)):
        fields[f"propensity {len(turns.steps) - 1}"] = float(propensity)


def _events_of_agent(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Calls of models, approvals and decisions of ours that are not inside of a scorer."""
    scoring: set[str] = set()  # spans
    for event in events:
        kind = event.get("event")
        if kind == "span_begin":
            if event.get("type") in ("scorers", "scorer") or str(event.get("parent_id")) in scoring:
                scoring.add(str(event.get("id")))
        elif kind == "step" and event.get("type") == "scorer":  # of older versions, without spans
            (scoring.add if event.get("action") == "begin" else scoring.discard)("None")
        elif kind == "info" and event.get("source") != OURS:
            continue
        elif kind in ("model", "approval", "info") and str(event.get("span_id")) not in scoring:
            yield event


def _add_call(turns: Turns, raw: dict[str, Any], sample: _Sample) -> bool:
    """A step for a call: what the model was given after its last answer, and what it answered; False if it failed."""
    call: _Call = convert_value({**raw, "input": raw.get("input") or []}, _Call)
    if call.error or call.output is None or not call.output.choices:
        return False
    given = call.input
    if not given and call.input_refs and sample.events_data:
        given = [message for first, last in call.input_refs for message in sample.events_data.messages[first:last]]
    answers = [i for i, message in enumerate(given) if message.role == "assistant"]
    turns.add_messages(given, first=answers[-1] + 1 if answers else 0)
    answer = msgspec.structs.replace(call.output.choices[0].message, model=call.model, role="assistant")
    turns.add_messages([answer], role=call.role, intervention=HELPER if call.role == HELPER else None)
    return True


def _resolve(step: Any, attachments: dict[str, str]) -> Any:
    """A step with long texts, which Inspect keeps apart."""

    def resolve(text: str) -> str:
        return _ATTACHMENT.sub(lambda found: attachments.get(found[1], found[0]), text)

    if not attachments:
        return step
    return msgspec.structs.replace(step, state=resolve(step.state), action=resolve(step.action or ""))


def _read_score(sample: _Sample, options: ReadOptions) -> float | None:
    scores = dict(sample.scores or ({"score": sample.score} if sample.score else {}))
    wanted = options.roles.get("outcome")
    if not scores:
        return None
    if wanted is not None:
        name, _, key = wanted.partition(".")
        if wanted in scores:
            name, key = wanted, ""
        if name not in scores:
            raise LogError(f"scorer {name!r} is missing (role 'outcome'); there are {', '.join(scores)}")
        value = scores[name].value
        return _grade(value.get(key) if key and isinstance(value, dict) else _take_only(name, value), wanted, options)
    if len(scores) > 1:
        raise ask_choice(
            "there are several scorers", [one for name in scores for one in _choices(name, scores[name].value)]
        )
    name = next(iter(scores))
    return _grade(_take_only(name, scores[name].value), name, options)


def _take_only(name: str, value: Any) -> Any:
    """A value, or the one of several that a scorer gives."""
    if isinstance(value, dict) and len(value) == 1:
        return next(iter(value.values()))
    if isinstance(value, dict):
        raise ask_choice(f"scorer {name!r} has several values", _choices(name, value))
    return value


def _choices(name: str, value: Any) -> list[str]:
    """Names of the values of a scorer."""
    return [f"{name}.{key}" for key in value] if isinstance(value, dict) and len(value) > 1 else [name]


def _grade(value: Any, scorer: str, options: ReadOptions) -> float | None:
    if isinstance(value, str) and "outcome" not in options.values:
        text = value.strip()
        if (grade := GRADES.get(text, GRADES.get(text.lower()))) is not None:
            return grade
        try:
            value = float(text)
        except ValueError:
            raise LogError(f"scorer {scorer!r}: expected C, P, I, N or a number in [0, 1]; got {text!r}") from None
    return read_success(value, f"scores.{scorer}.value", options)


def _detect(sample: Sample) -> str | None:
    if sample.kind == "eval":
        inside = any(name.startswith(("samples/", "_journal/")) or name == "header.json" for name in sample.values)
        return "it is an archive with the members of an .eval file" if inside else None
    for record in sample.objects()[:1]:
        header = record.get("eval")
        if sample.kind == "document" and isinstance(header, dict) and {"task", "dataset"} & header.keys():
            return "it has a part 'eval' with task and data set"
    return None


FORMAT = LogFormat(
    "inspect",
    "logs of Inspect, .eval and .json; --map outcome=SCORER where there are several",
    read_file=_read,
    roles=("outcome",),
    detect=_detect,
)
