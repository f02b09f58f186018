"""CSV as spreadsheets and exports write it: delimiters, comments, decimal commas; all read as the plain file is."""

from __future__ import annotations

import csv
import io

import pytest

from selfreg.data import LogError, read_trajectories
from selfreg.data.csv_layout import find_csv_layout
from selfreg.data.outcomes import load_outcomes
from selfreg.data.translation import parse_number

ROWS = [
    {"query_id": f"q{i // 2}", "question": f'a, b; "{i}"\nsecond|line', "model": "ab"[i % 2], "score": i % 4 / 4}
    for i in range(8)
]


def write(delimiter: str, comma: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows([row | {"score": str(row["score"]).replace(".", ",")} for row in ROWS] if comma else ROWS)
    return text.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        write(";"),
        write("\t"),
        write("|"),
        write(";", comma=True),
        "# exported, today\n\n# by; a tool\n" + write(","),
        "sep=;\r\n" + write(";"),
        "\ufeff" + write(","),
    ],
    ids=["semicolons", "tabs", "bars", "decimal commas", "comments", "sep=", "byte order mark"],
)
def test_other_layouts_are_read_as_the_plain_one(tmp_path, text) -> None:
    plain, other = tmp_path / "a" / "log.csv", tmp_path / "b" / "log.csv"
    for path, content in ((plain, write(",")), (other, text)):
        path.parent.mkdir()
        path.write_bytes(content.encode())
    assert list(read_trajectories(other)) == list(read_trajectories(plain))


def test_lines_are_counted_from_the_beginning_of_the_file(tmp_path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("# a comment\nquery_id;score\nq1;1;2\nq2;1\n")
    with pytest.raises(LogError, match="line 3: expected 2 values; got 3"):
        list(read_trajectories(path))
    path.write_bytes(b"query_id,score\nq1,1\nq\xe9,1\n")
    with pytest.raises(LogError, match=r"line 3: not UTF-8 \(byte 0xe9\); convert the file"):
        list(read_trajectories(path))


def test_names_that_look_like_a_comment_are_names() -> None:
    assert find_csv_layout("#,task_id,score\n1,a,1\n").columns == ["#", "task_id", "score"]
    assert find_csv_layout('task_id,"x|y|z"\na,b\n').columns == ["task_id", "x|y|z"]
    assert find_csv_layout("").columns == []


def test_decimal_commas_are_no_thousands() -> None:
    assert [parse_number(text) for text in ("0,500", "1,0", "12,5", "3.25")] == [0.5, 1.0, 12.5, 3.25]
    with pytest.raises(ValueError, match="1,000"):
        parse_number("1,000")


def test_outcomes_of_a_spreadsheet(tmp_path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("session;resolved\na;0,5\nb;1\n")
    assert load_outcomes(path) == {"a": 0.5, "b": 1.0}


def test_tsv_is_delimited_by_tabs(tmp_path) -> None:
    assert find_csv_layout("task\toutcome, %\na\t0,5\n", tabs=True).columns == ["task", "outcome, %"]
    (tmp_path / "o.tsv").write_text("episode\toutcome\tnote, more, and more\na\t1\tx\nb\t0\ty\n")
    assert load_outcomes(tmp_path / "o.tsv") == {"a": 1.0, "b": 0.0}


def test_a_long_cell_does_not_change_the_delimiter() -> None:
    csv.field_size_limit(131072)
    long = "x" * 200_000
    assert find_csv_layout(f'"{long}";b\n1;2\n').delimiter == ";"
