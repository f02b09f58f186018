"""Tables, CSV or Parquet: a row is a query that a model answered (an episode of one step), or a row is a step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError
from selfreg.data.filters import matches_filter
from selfreg.data.guesses import find_name
from selfreg.data.log_files import MOST_BYTES, is_parquet, open_arrow, plain_suffix
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.rows import Numbered, Row, read_csv_lines, read_table_rows
from selfreg.data.samples import Sample
from selfreg.data.trajectory import MOST_COST, LoggedStep, Trajectory, name_help
from selfreg.data.translation import parse_number
from selfreg.data.turns import name_task, read_success
from selfreg.data.wide_tables import MODEL, WideTable, find_wide_table, refuse_battles

with require_extra("logs", "selfreg.data"):
    import msgspec
    import pyarrow as pa
    import pyarrow.parquet as pq

# Columns that are taken for a role which is not mapped: the first that the table has.
USUAL_COLUMNS = {
    "task": ("task", "task_id", "query_id", "question_id", "prompt_id", "sample_id", "instance_id", "ticket_id"),
    "observation": ("observation", "state", "question", "query", "prompt", "input", "text"),
    "outcome": ("outcome", "success", "resolved", "correct", "passed", "reward", "score"),
    "episode": ("episode", "episode_id", "run_id", "trace_id", "conversation_id"),
    "step": ("step", "step_id", "step_index", "turn", "turn_idx"),
    "action": ("action", "answer", "response", "output", "completion"),
    "model": ("model", "model_name", "llm", "model_id", "model_name_or_path"),
    "intervention": ("intervention", "help", "helper"),
    "key": ("key",),
    "cost": (),
    "label": (),
}
# The column of the model that took all steps of an episode, where several took those of a task.
_OF_MODEL = "model of the episode"
# Why a file is a table whose columns have no names of these.
PLAIN = "it is a table"


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    columns = _column_names(path)
    wide = find_wide_table(options.roles.get("outcome", ""), columns)
    roles = find_columns(columns, options, wide)
    rows = _need_rows(read_table_rows(path))
    if wide is not None:
        rows = wide.split(rows)
    rows = _filter(rows, options)
    if "step" not in roles and "episode" not in options.roles:
        for number, row in rows:
            yield number, row if isinstance(row, LogError) else _convert([(number, row)], roles, options)
        return
    yield from _read_grouped(path, rows, roles, options)


def find_columns(columns: list[str], options: ReadOptions, wide: WideTable | None = None) -> dict[str, str]:
    """Column of each role that the table has; those of a wide table have the names that its rows get."""
    usual = {role: find_name(columns, names) or "" for role, names in USUAL_COLUMNS.items()}
    given = dict(options.roles)
    if wide is not None:
        given = {MODEL: MODEL, "action": "action", "step": "", "episode": "", **given, "outcome": "outcome"}
        columns = [*columns, MODEL, "action", "outcome"]
    for role, column in given.items():
        if column and column not in columns:
            raise LogError(f"column {column!r} is missing (role {role!r}); there are {', '.join(columns)}")
    roles = {role: column for role, column in {**usual, **given}.items() if column}
    # A row without the name of a task is of the task that its text states.
    named = "observation" in roles and not {"step", "episode"} & roles.keys()
    needed = [role for role, is_needed in (("task", not named), ("outcome", options.outcomes is None)) if is_needed]
    if "outcome" in needed and "outcome" not in roles:
        refuse_battles(columns)
    if missing := [role for role in needed if role not in roles]:
        what = f"role{'s' * (len(missing) > 1)} {' and '.join(map(repr, missing))}"
        how = " ".join(f"--map {role}=COLUMN" for role in missing)
        raise LogError(f"no column for the {what}; there are {', '.join(columns)}: {how}")
    return roles


def _column_names(path: str) -> list[str]:
    if is_parquet(path):
        try:
            with open_arrow(path) as file:
                return list(pq.read_schema(file).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise LogError(f"not a Parquet file: {error}") from None
    names = next((row for _, row in read_csv_lines(path)), None)
    if names is None:
        raise LogError("the table is empty; expected a first line with the names of its columns")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise LogError(f"two columns are named {twice!r}; expected a first line with the names of the columns")
    return names


def _need_rows(rows: Numbered) -> Numbered:
    number = 0
    for number, row in rows:
        yield number, row
    if not number:
        raise LogError("the table has no rows below the names of its columns")


def _filter(rows: Numbered, options: ReadOptions) -> Numbered:
    for number, row in rows:
        try:
            if isinstance(row, LogError) or not options.where or matches_filter(row, options.where):
                yield number, row
        except LogError as error:
            yield number, error


def _read_grouped(
    path: str, rows: Numbered, roles: dict[str, str], options: ReadOptions
) -> Iterator[tuple[int, Record]]:
    """Episodes of several rows: grouped in memory, or where the file is large as they follow each other."""
    column = roles.get("episode", roles["task"])

    def valid() -> Iterator[tuple[int, Row]]:
        for number, row in rows:
            if isinstance(row, LogError):
                raise LogError(f"{row} (row {number}): which episode would lack this step is not known")
            yield number, row

    groups: Iterable[tuple[Any, list[tuple[int, Row]]]]
    if os.path.getsize(path) <= MOST_BYTES:
        gathered: dict[Any, list[tuple[int, Row]]] = {}
        for number, row in valid():
            gathered.setdefault(row[column], []).append((number, row))
        if (
            "model" in roles
            and "episode" not in roles
            and any(_repeats(some, roles["step"]) for some in gathered.values())
        ):
            gathered = _split_models(gathered, roles["model"])
            roles = {**roles, _OF_MODEL: roles["model"]}
        groups = gathered.items()
    else:
        groups = ((key, list(group)) for key, group in groupby(valid(), key=lambda pair: pair[1][column]))
    for name, group in groups:
        record = _convert(group, roles, options)
        yield (0, record.at(f"episode {name!r}")) if isinstance(record, LogError) else (group[0][0], record)


def _repeats(rows: list[tuple[int, Row]], column: str) -> bool:
    """Whether a step is there twice."""
    steps = [str(row[column]) for _, row in rows]
    return len(set(steps)) < len(steps)


def _split_models(groups: dict[Any, list[tuple[int, Row]]], column: str) -> dict[Any, list[tuple[int, Row]]]:
    """The rows of each task, apart for each model that took its steps."""
    split: dict[Any, list[tuple[int, Row]]] = {}
    for task, rows in groups.items():
        for number, row in rows:
            split.setdefault((task, str(row[column])), []).append((number, row))
    return split


def _convert(rows: list[tuple[int, Row]], roles: dict[str, str], options: ReadOptions) -> Record:
    """The episode of some rows, or its fault."""
    number, first = rows[0]
    try:
        if "step" in roles:
            rows = _in_order(rows, roles["step"])
        task = _find_task(first, number, roles, options)
        outcome = _find_outcome([row for _, row in rows], roles.get("outcome"), options)
        taken = {roles[role] for role in ("outcome", "observation", "action") if role in roles}
        fields = {name: value for name, value in first.items() if name not in taken and _is_scalar(value)}
        return Trajectory(
            task,
            _episode_name(first, task, number, roles, options),
            outcome,
            tuple(_convert_step(row, roles) for _, row in rows),
            truncated=outcome is None,
            fields=fields,
        )
    except LogError as error:
        return error
    except ValueError as error:
        return LogError(str(error))


def _find_task(row: Row, number: int, roles: dict[str, str], options: ReadOptions) -> str:
    if "task" in roles:
        return _read_name(row[roles["task"]], roles["task"])
    text = row[roles["observation"]]
    return name_task(text if isinstance(text, str) else None, f"{options.source}:{number}")


def _find_outcome(rows: Sequence[Row], column: str | None, options: ReadOptions) -> float | None:
    """The outcome that the rows of an episode agree on."""
    if column is None:
        return None
    outcomes = {_read_outcome(row[column], column, options) for row in rows} - {None}
    if len(outcomes) > 1:
        shown = ", ".join(f"{value:g}" for value in sorted(outcomes))  # type: ignore[type-var]
        raise LogError(f"column {column!r}: rows of one episode have different values ({shown})")
    return next(iter(outcomes), None)


def _episode_name(row: Row, task: str, number: int, roles: dict[str, str], options: ReadOptions) -> str:
    if "episode" in roles:
        return _read_name(row[roles["episode"]], roles["episode"])
    if "step" in roles:
        return f"{task}/{row[roles[_OF_MODEL]]}" if _OF_MODEL in roles else task
    model = row[roles["model"]] if "model" in roles else None
    name = task if "task" in roles else f"{options.source}:{number}"
    return f"{options.source}:{number}" if model is None else f"{name}/{model}"


def _convert_step(row: Row, roles: dict[str, str]) -> LoggedStep:
    def text(role: str) -> str | None:
        value = row[roles[role]] if role in roles else None
        return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()

    cost, label = (
        _read_number(row[roles[role]], roles[role], any=True) if role in roles else None for role in ("cost", "label")
    )
    if cost is not None and not (0 <= cost <= MOST_COST and cost.is_integer()):
        raise LogError(f"column {roles['cost']!r}: expected an integer from 0 to {MOST_COST}; got {cost:g}")
    intervention = text("intervention")
    return LoggedStep(
        text("observation") or "",
        text("action"),
        text("key"),
        name_help(intervention or ""),
        None if cost is None else int(cost),
        label,
        model=text("model"),
    )


def _in_order(rows: list[tuple[int, Row]], column: str) -> list[tuple[int, Row]]:
    """Rows of an episode by their step; a number of a step is there once."""
    keyed = sorted(((_read_order(row[column], column), number) for number, row in rows))
    for (one, _), (other, number) in pairwise(keyed):
        if one == other and not one[1]:
            raise LogError(f"column {column!r}: step {one[0]:g} is there twice (again in row {number})")
    by_number = dict(rows)
    return [(number, by_number[number]) for _, number in keyed]


def _read_order(value: Any, column: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except (TypeError, ValueError):
        if value is None:
            raise LogError(f"column {column!r}: expected the number or time of a step; got no value") from None
        return 0.0, str(value)


def _read_name(value: Any, column: str) -> str:
    if isinstance(value, float) and value.is_integer():  # of a column with empty cells, as pandas writes it
        value = int(value)
    if value is None or isinstance(value, (bool, float, list, dict)):
        raise LogError(f"column {column!r}: expected a string or an integer; got {value!r}")
    return str(value)


def _read_outcome(value: Any, column: str, options: ReadOptions) -> float | None:
    if "outcome" in options.values:
        return read_success(value, column, options)
    return _read_number(value, column)


def _read_number(value: Any, column: str, any: bool = False) -> float | None:
    """A number in [0, 1] (or any number), of a cell that may be its text."""
    words = {"true": 1.0, "false": 0.0, "none": None, "null": None, "nan": None}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if value is None or value != value:
        return None
    try:
        number = parse_number(value)
    except (TypeError, ValueError, OverflowError):
        how = "" if any else " (words: --value 'outcome=WORD=1,*=0')"
        raise LogError(f"column {column!r}: expected a number; got {value!r}{how}") from None
    if not any and not 0 <= number <= 1:
        raise LogError(f"column {column!r}: expected a number in [0, 1]; got {value} (--value outcome=LOW..HIGH)")
    return number


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _detect(sample: Sample) -> str | None:
    if sample.kind not in ("parquet", "table"):
        return None
    columns = sample.values
    found = {role: find_name(columns, names) for role, names in USUAL_COLUMNS.items()}
    if found["task"] and (found["outcome"] or found["observation"]):
        rows = "a step" if found["step"] else f"a query and {found['model']}" if found["model"] else "an episode"
        return f"it is a table; a row is {rows}"
    return PLAIN if sample.kind == "table" and plain_suffix(sample.path) in (".csv", ".tsv") else None


FORMAT = LogFormat(
    "table",
    "CSV or Parquet: a row is a query and a model, or a step; columns by --map",
    read_file=_read,
    roles=tuple(USUAL_COLUMNS),
    detect=_detect,
    filters_records=True,
)
