"""Runs of LangSmith: JSON or JSONL of runs, or the batches (`post`, `patch`) that its clients send.

The runs of a trace are an episode, and each run of a model in it is a step. Outcome: the one feedback score of the
root, or the one that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json, read_values
from selfreg.data.faults import LogError, ask_choice
from selfreg.data.log_files import is_parquet
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.message_layouts import read_answer, read_messages
from selfreg.data.rows import read_parquet_rows
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Turns, make_episode, read_success

with require_extra("logs", "selfreg.data"):
    import msgspec


# Fields that exports may have as JSON texts.
OBJECTS = ("inputs", "outputs", "extra", "feedback_stats")


class _Feedback(msgspec.Struct):
    avg: float | None = None
    n: int | None = None


class _Run(msgspec.Struct):
    id: str
    run_type: str = ""
    name: str | None = None
    trace_id: str | None = None
    parent_run_id: str | None = None
    dotted_order: str | None = None
    start_time: str | float | None = None
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None
    error: str | None = None
    status: str | None = None
    feedback_stats: dict[str, _Feedback] | None = None
    reference_example_id: str | None = None
    session_name: str | None = None
    total_cost: float | str | None = None


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    try:
        runs = _merge(read_parquet_rows(path) if is_parquet(path) else read_values(path))
        if not runs:
            raise LogError("expected at least one run")
    except LogError as error:
        yield 0, error
        return
    traces: dict[str, list[Any]] = {}
    for raw in runs.values():
        # A run that cannot be read stays with the others of its trace, whose fault it is.
        order = raw.get("dotted_order")
        first = order.split(".")[0] if isinstance(order, str) else raw["id"]
        traces.setdefault(str(raw.get("trace_id") or first), []).append(raw)
    for number, (trace, some) in enumerate(traces.items(), 1):
        try:
            yield number, _convert(trace, [_convert_run(raw) for raw in some], options)
        except LogError as error:
            yield number, error


def _decode_texts(row: dict[str, Any]) -> dict[str, Any]:
    """A row of an export in Parquet, which has objects as JSON texts, and times."""

    def decode(name: str, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        is_text = name in OBJECTS and isinstance(value, str)
        try:
            return (decode_json(value.encode()) if value.strip() else None) if is_text else value
        except (LogError, UnicodeError) as error:
            raise LogError(f"run {row.get('id')!r}: field {name!r}: {error}") from None

    return {name: decode(name, value) for name, value in row.items()}


def _convert_run(raw: Any) -> _Run:
    try:
        run: _Run = convert_value(_decode_texts(raw), _Run)
    except LogError as error:
        raise error.at(f"run {raw['id']!r}") from None
    return run


def _merge(values: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Runs by their ids, with what was sent about each at its end."""
    runs: dict[str, dict[str, Any]] = {}
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise LogError(f"[{number - 1}]: expected a run; got {type(value).__name__}")
        parts = [value.get(part) for part in ("post", "patch", "runs") if part in value]
        if any(not isinstance(part, list) for part in parts):
            raise LogError(f"[{number - 1}]: expected lists in 'post', 'patch' and 'runs'")
        some = [one for part in parts for one in part or ()] if parts else [value]
        for run in [inner for one in some for inner in _flatten(one)]:
            name = _find_id(run)
            if name is None:
                raise LogError(f"[{number - 1}]: field 'id' is missing, or is not a string")
            merged = runs.setdefault(name, {"id": name})
            merged.update({field: one for field, one in run.items() if one not in (None, {}, [])})
    return runs


def _flatten(run: Any) -> Iterator[Any]:
    """A run and those below it, which an export may hold inside of it (`child_runs`)."""
    waiting = [run]
    while waiting:
        one = waiting.pop()
        children = one.pop("child_runs", None) if isinstance(one, dict) else None
        yield one
        children = [] if children is None else children
        if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
            raise LogError("field 'child_runs': expected a list of runs")
        for child in children:
            above = {"trace_id": one.get("trace_id") or one.get("id"), "parent_run_id": one.get("id")}
            waiting.append({**above, **{name: value for name, value in child.items() if value is not None}})


def _find_id(run: Any) -> str | None:
    """The id of a run; without one, what is sent at its end has it as the last part of its order."""
    if not isinstance(run, dict):
        return None
    if "id" not in run and "run_id" not in run and isinstance(order := run.get("dotted_order"), str):
        return order.split(".")[-1].partition("Z")[2] or None
    name = run.get("id", run.get("run_id"))  # the latter in exports of some tools
    return name if isinstance(name, str) else None


def _convert(trace: str, runs: list[_Run], options: ReadOptions) -> Trajectory:
    turns = Turns()
    for run in sorted(runs, key=lambda run: run.dotted_order or str(run.start_time or "")):
        if run.run_type in ("llm", "chat_model") and (run.outputs or not run.error):
            _add_run(turns, run)
    root = next((run for run in runs if run.parent_run_id is None), runs[0])
    if not turns.steps:
        failed = next((run.error for run in runs if run.error and run.run_type in ("llm", "chat_model")), None)
        what = (
            "has no run of a model (run_type 'llm')" if failed is None else f"has no answer of a model: {failed[:200]}"
        )
        raise LogError(f"trace {trace!r} {what}")
    model = next((name for run in runs if (name := _model(run))), None)
    fields = {"name": root.name, "model": model, "error": root.error, "session_name": root.session_name}
    return make_episode(turns, root.reference_example_id, trace, _read_feedback(root, options), fields, where="runs")


def _add_run(turns: Turns, run: _Run) -> None:
    inputs, outputs = run.inputs or {}, run.outputs or {}
    given = read_messages(
        next((inputs[name] for name in ("messages", "prompts", "prompt", "input") if name in inputs), None)
    )
    answers = [i for i, message in enumerate(given) if message.role == "assistant"]
    turns.add_messages(given, first=answers[-1] + 1 if answers else 0)
    answer = read_answer(outputs)
    turns.add_messages([msgspec.structs.replace(answer, role="assistant", model=_model(run))])


def _model(run: _Run) -> str | None:
    metadata = (run.extra or {}).get("metadata")
    name = metadata.get("ls_model_name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None


def _read_feedback(root: _Run, options: ReadOptions) -> float | None:
    scores = {name: one.avg for name, one in (root.feedback_stats or {}).items() if one.avg is not None}
    wanted = options.roles.get("outcome")
    if wanted is None and len(scores) > 1:
        raise ask_choice("there are several feedback scores", scores)
    if wanted is not None and scores and wanted not in scores:
        raise LogError(f"feedback {wanted!r} is missing (role 'outcome'); there are {', '.join(scores)}")
    name = wanted or next(iter(scores), "")
    return read_success(scores.get(name), f"feedback_stats.{name}.avg", options)


def _detect(sample: Sample) -> str | None:
    if sample.kind == "parquet":
        return "its columns are those of runs" if {"id", "run_type", "dotted_order"} <= set(sample.values) else None
    for record in sample.objects()[:1]:
        runs = next((record[part] for part in ("post", "patch", "runs") if record.get(part)), [record])
        first = runs[0] if isinstance(runs, list) and runs and isinstance(runs[0], dict) else {}
        if {"run_type", "dotted_order"} & first.keys() and {"id", "run_id"} & first.keys():
            return "its runs have run_type or dotted_order"
    return None


FORMAT = LogFormat(
    "langsmith",
    "runs of LangSmith; --map outcome=FEEDBACK where there are several",
    read_file=_read,
    roles=("outcome",),
    detect=_detect,
)
