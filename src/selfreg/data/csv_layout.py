"""How a file of separated values is laid out: its delimiter, and what stands before the names of its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

from selfreg.data.log_files import MOST_BYTES

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


def find_csv_layout(head: str, tabs: bool = False) -> CsvLayout:
    """The layout of a file, from its beginning; `tabs` where its name says that tabs delimit (.tsv).

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
    if not named:
        tabbed = tabs and "\t" in head
        named = "\t" if tabbed else max(DELIMITERS, key=lambda one: _rank(lines[skipped:], one))
    return CsvLayout(_first_records(lines[skipped:], named, 1)[0], named, skipped)


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
    csv.field_size_limit(MOST_BYTES)  # a cell may hold a conversation
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        return [next((row for row in reader if row), []) for _ in range(count)]
    except csv.Error:
        return [[]] * count
