"""How a file of separated values is laid out: its delimiter, and what stands before the names of its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

DELIMITERS = (",", "\t", ";", "|")
# Most lines of comments before the names of the columns.
MOST_COMMENTS = 50
# Excel's own first line.
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class CsvLayout(NamedTuple):
    """How a file is laid out.

    Attributes
    ----------
    columns : list of str
        Names of the columns; empty for an empty file.
    delimiter : str
    skipped : int
        Lines before the names: blank ones, comments (`#`), and a line `sep=;`.
    """

    columns: list[str]
    delimiter: str
    skipped: int


def find_csv_layout(head: str) -> CsvLayout:
    """The layout of a file, from its beginning.

    Examples
    --------
    >>> from selfreg.data.csv_layout import find_csv_layout
    >>> find_csv_layout("# exported today\\nid;score\\na;1\\n")
    CsvLayout(columns=['id', 'score'], delimiter=';', skipped=1)
    """
    lines = [line + "\n" for line in head.split("\n")]
    skipped = 0
    named = ""
    while skipped < min(len(lines), MOST_COMMENTS):
        if match := _SEPARATOR.fullmatch(lines[skipped]):
            named = match[1]
        elif lines[skipped].strip() and not _is_comment(lines[skipped:]):
            break
        skipped += 1
    delimiter = named or max(DELIMITERS, key=lambda one: _rank(lines[skipped:], one))
    return CsvLayout(_first_records(lines[skipped:], delimiter, 1)[0], delimiter, skipped)


def _is_comment(lines: Sequence[str]) -> bool:
    """Whether the first line begins with #, and is not one of names (`#,question,score`)."""
    if not lines[0].startswith("#"):
        return False
    return not any(_rank(lines, delimiter)[0] for delimiter in DELIMITERS)


def _rank(lines: Sequence[str], delimiter: str) -> tuple[int, int]:
    """Columns of the first two records if they have as many, and more than one, else 0; then those of the first."""
    first, second = _first_records(lines, delimiter, 2)
    agree = len(first) > 1 and len(second) in (0, len(first))
    return (len(first) if agree else 0, len(first))


def _first_records(lines: Sequence[str], delimiter: str, count: int) -> list[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        return [next((row for row in reader if row), []) for _ in range(count)]
    except csv.Error:
        return [[]] * count
