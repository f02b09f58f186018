"""Wide tables: a row is a query, and has a column for each model with its score.

The outcome is mapped to these columns, joined by `+`; `*` stands for any characters: `--map 'outcome=gpt-4*+mixtral'`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from selfreg.data.faults import LogError
from selfreg.data.roles import JOIN
from selfreg.data.rows import Numbered
from selfreg.data.translation import parse_number

MODEL = "model"
_SCORE = r"(?:is_)?(?:score|correct|acc|accuracy|success|passed?|reward|outcome|quality|resolved|solved|eval)"
_ANSWER = r"(?:model_)?(?:response|answer|output|completion|prediction)"
_MONEY = r"(?:total_)?(?:cost|price|usd)"
_BETWEEN = r"[ _.:|/-]+"
# Names of models, as people abbreviate them.
_MODEL = re.compile(
    r"gpt|claude|llama|mi[sx]tral|gemini|gemma|qwen|phi-?\d|deepseek|vicuna|wizard|command-?r|palm|falcon|grok|haiku|"
    r"sonnet|opus|\bo[134]\b|\byi-|zephyr|olmo|kimi|glm|nova|weak|strong|small_model|large_model|\d+b\b",
    re.IGNORECASE,
)


# Columns of a table of battles, as of Chatbot Arena.
SIDES = ("model_a", "model_b")


def refuse_battles(columns: Collection[str]) -> None:
    """Raise LogError for a table whose rows compare two models."""
    if set(SIDES) <= set(columns):
        raise LogError(
            f"a row compares two models ({' and '.join(SIDES)}): who wins says nothing of success. Score each answer "
            "by itself, and write a row for each query and model (columns query_id, question, model, score)"
        )


class WideTable(NamedTuple):
    """The columns of the models of a table.

    Attributes
    ----------
    scores : dict
        Model by the column of its scores.
    answers : dict
        Column of the answers by model, where there is one.
    """

    scores: Mapping[str, str]
    answers: Mapping[str, str]

    def split(self, rows: Numbered) -> Numbered:
        """A row for each query and model, with the columns `model`, `outcome` and `action`."""
        own = {*self.scores, *self.answers.values()}
        for number, row in rows:
            if isinstance(row, LogError):
                yield number, row
                continue
            shared = {name: value for name, value in row.items() if name not in own}
            for column, model in self.scores.items():
                answer = row[self.answers[model]] if model in self.answers else None
                yield number, {**shared, MODEL: model, "outcome": row[column], "action": answer}


def find_wide_table(field: str, columns: Sequence[str]) -> WideTable | None:
    """The columns that the outcome of a table is mapped to; None where it is one column.

    Raises
    ------
    LogError
        For a name or pattern that fits no column.
    """
    if field in columns or not (JOIN in field or "*" in field):
        return None
    found: list[str] = []
    for part in field.split(JOIN):
        named = [name for name in columns if name == part or fnmatchcase(name, part)]
        if not named:
            raise LogError(f"column {part!r} is missing (role 'outcome'); there are {', '.join(columns)}")
        found += [name for name in named if name not in found and not _is_answer(name)]
    if MODEL in columns:
        raise LogError(f"the table has a column {MODEL!r}; expected none where the outcome is several columns")
    return _make_table(found, columns)


def _is_answer(name: str) -> bool:
    """Whether the name of a column says that it holds answers or amounts of money."""
    kinds = f"(?:{_ANSWER}|{_MONEY})"
    return re.search(rf"{_BETWEEN}{kinds}$|^{kinds}{_BETWEEN}", name, re.IGNORECASE) is not None


def _make_table(found: Sequence[str], columns: Sequence[str]) -> WideTable:
    scores = {column: _strip(column) for column in found}
    if len(set(scores.values())) < len(scores):
        scores = {column: column for column in found}
    answers = {}
    for name in columns:
        rest = re.sub(rf"^{_ANSWER}{_BETWEEN}|{_BETWEEN}{_ANSWER}$", "", name, flags=re.IGNORECASE)
        if rest != name and rest in scores.values():
            answers[rest] = name
    return WideTable(scores, answers)


def _strip(column: str) -> str:
    """The model of a column, whose name may say that it is a score: `gpt-4_score`, `correct_mixtral`."""
    rest = re.sub(rf"^{_SCORE}{_BETWEEN}|{_BETWEEN}{_SCORE}$", "", column, flags=re.IGNORECASE)
    return rest or column


def find_models(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns that have the names of models and the values of scores; none if they are fewer than two."""
    names = list(records[0]) if records else []
    found = [name for name in names if _MODEL.search(name) and not _is_answer(name) and _are_scores(records, name)]
    return found if len(found) > 1 else []


def _are_scores(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    known = [read_cell(value) for value in known_values(records, name)]
    return bool(known) and all(isinstance(value, (bool, int, float)) for value in known)


def known_values(records: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Values of a column that are not empty."""
    return [value for record in records if (value := record.get(name)) not in (None, "")]


def read_cell(value: Any) -> Any:
    """The number or boolean that a cell of text stands for; another value as it is."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    try:
        return word == "true" if word in ("true", "false") else parse_number(value)
    except ValueError:
        return value
