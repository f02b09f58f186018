"""The model card: what a PRM was trained on, how it was split, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfreg._util.bootstrap import as_texts

HEADER = """---
library_name: {library}
pipeline_tag: text-classification
tags: [process-reward-model, selfreg]
---
# Process reward model

P(success | state text, the agent continues without help). Model: {kind}. Load it with
`selfreg.prm.PRM.load(folder)`; `score(texts)` gives calibrated probabilities, `text(steps)` the text of a state.

"""


def model_card(
    kind: str, figures: Mapping[str, float], split: Mapping[str, Sequence[str]], facts: Mapping[str, Any]
) -> str:
    """Markdown with data, split, figures and, where measured, baselines."""
    text = HEADER.format(kind=kind, library="transformers" if kind == "transformer" else "selfreg")
    if data := facts.get("data"):
        text += f"## Data\n\n{data['states']} states of {data['tasks']} tasks ({data['episodes']} episodes), "
        text += f"{data['success']:.1%} of them before a success.\n\n"
        text += _table(("setting", "value"), [(name, str(value)) for name, value in data["settings"].items()])
    if split:
        text += "## Split by task\n\n" + _table(("part", "tasks"), [(k, str(len(v))) for k, v in split.items()])
    if figures:
        text += "## Figures on test tasks\n\nIntervals are 95% bootstrap intervals over tasks.\n\n"
        text += _table(("figure", "value"), list(as_texts(figures).items()))
    if baselines := facts.get("baselines"):
        text += f"## Compared with baselines\n\n{baselines['words']}\n\n"
        rows = [(r["name"], *(_interval(r[m]) for m in ("auroc", "brier", "ece"))) for r in baselines["rows"]]
        text += _table(("model", "AUROC", "Brier score", "calibration error"), rows)
    return text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n"


def _interval(values: Sequence[float | None]) -> str:
    mean, low, high = (f"{value:.3f}" if value is not None else "unknown" for value in values)
    return f"{mean} [{low}, {high}]"
