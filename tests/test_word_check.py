"""The check of words, `tools/check_words.py`; `make lint` runs it over the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "check_words.py"


def check(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text, encoding="utf-8")
    return subprocess.run([sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "text", "line", "phrase"),
    [
        ("page.md", "# A page\n\nThe value rests\non few visits.\n", 3, "rests on"),
        ("page.md", "The plan asks for help.\n", 1, "asks"),
        ("module.py", "x = 1  # such a row leans\n# on its neighbours\n", 1, "leans on"),
        ("module.py", '"""First line.\n\nA folder that holds no model.\n"""\n', 3, "holds no"),
        ("module.py", "raise ValueError(\n    f'{x} was '\n    'there before')\n", 2, "was there before"),
        ("module.py", "class Log:\n    def _kept(self):\n        pass\n", 2, "the name _kept"),
        ("kernel.pyx", "cdef inline double known(int b) noexcept nogil:\n    return 0\n", 1, "the name known"),
        ("page.md", "The logs lie in /home/somebody/logs.\n", 1, "/home/somebody"),
    ],
)
def test_a_banned_phrase_is_reported_with_its_line(tmp_path, name, text, line, phrase) -> None:
    done = check(tmp_path / name, text)
    assert done.returncode == 1
    (reported,) = done.stdout.splitlines()
    assert reported.startswith(f"{name}:{line}: {phrase!r} -> ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "The plan requests help. There is no model. A unit rests, on average. An affirmed task.\n"),
        ("module.py", "asks = known = 1\nload(asks)  # the number of requests\n"),
        ("kernel.pyx", "cdef int known_states = find_known(3)\n"),
    ],
)
def test_a_good_sentence_passes(tmp_path, name, text) -> None:
    done = check(tmp_path / name, text)
    assert done.stdout == ""
    assert done.returncode == 0
