"""`python -m benchmarks routing`: tables of two models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.routing import read_table

QUESTIONS = ["What is 2 + 2?", "Who wrote Emma?", "Is 51 a prime number?"]
WIDE = "prompt,mistralai/Mixtral-8x7B,gpt-4-1106\n" + "".join(
    f"{question},{small},{large}\n"
    for question, small, large in zip(QUESTIONS, ("True", "False", "False"), ("True", "True", "False"), strict=True)
)
LONG = "query_id,question,model,score\n" + "".join(
    f"{i},{question},{model},{score}\n"
    for i, question in enumerate(QUESTIONS)
    for model, score in (("gpt-4-1106", (1, 1, 0)[i]), ("mistralai/Mixtral-8x7B", (1, 0, 0)[i]))
)


@pytest.mark.parametrize("text", [WIDE, LONG], ids=["a column a model", "a row an answer"])
def test_both_kinds_of_tables_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    table = read_table(tmp_path / "table.csv")
    assert table.models == ("mistralai/Mixtral-8x7B", "gpt-4-1106")
    assert table.texts == QUESTIONS
    np.testing.assert_array_equal(table.scores, [[1, 1], [0, 1], [0, 0]])


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("prompt,a,b\nWhat is 2 + 2?,1,0\n")
    with pytest.raises(ValueError, match="the columns prompt, a, b; expected query_id, question, model, score, or"):
        read_table(tmp_path / "table.csv")


def test_other_than_two_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(LONG + "0,What is 2 + 2?,third,1\n")
    with pytest.raises(ValueError, match=r"\['gpt-4-1106', 'mistralai/Mixtral-8x7B', 'third'\]; expected two"):
        read_table(tmp_path / "table.csv")
