"""All text of the report is in one module."""

from __future__ import annotations

import re
from pathlib import Path

import selfreg.report
from selfreg.report import words

TEMPLATE = Path(selfreg.report.__file__).with_name("report.html")


def summary(unhelped: float | None, helped: float | None) -> dict[str, object]:
    counts = {"episodes": 8, "tasks": 4, "steps": 16, "states": 5, "actions": ["nohelp", "expert"]}
    parts = {"unhelped": unhelped, "helped": helped}
    return counts | {name: {"episodes": 4, "success": success} for name, success in parts.items()}


def test_the_template_has_no_text_of_its_own() -> None:
    body = TEMPLATE.read_text(encoding="utf-8").partition("<body>")[2]
    text = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", " ", body, flags=re.DOTALL)
    assert text.split() == []


def test_the_first_sentences_say_what_is_missing() -> None:
    assert words.lead(summary(0.25, 0.5)).endswith("25.0% of 4 episodes. Success with help: 50.0% of 4 episodes.")
    assert words.lead(summary(None, 0.5)).endswith("no episodes without help. Success with help: 50.0% of 4 episodes.")
    assert words.lead(summary(0.25, None)).endswith("Success without help: 25.0% of 4 episodes.")


def test_a_difference_shows_its_sign_and_interval() -> None:
    assert (
        words.difference("helper above random", 0.1, -0.05, 0.2)
        == "helper above random by +10.0 (-5.0 to +20.0) points."
    )
