"""`selfreg decide`: decisions of a trained helper, as JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO
from zlib import crc32

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.cli.terminal import remark
from selfreg.data import parse_history
from selfreg.decisions import BudgetLeft, start_episode
from selfreg.runs import RunFolder

if TYPE_CHECKING:
    from selfreg.helper import Helper, RationedHelper

Request = tuple[Any, BudgetLeft, dict[str, Any]]  # history, budget left, what is printed with the decision

BUDGET, ID = "budget_left", "id"
LOOKS_LIKE_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*["{\]]|")')


def load_helper(folder: RunFolder) -> Helper | RationedHelper:
    """The run's helper, with its PRM and its mean number of requests where there are any."""
    from selfreg.helper import load_policy
    from selfreg.prm import PRM

    prm = PRM.load(folder.path / "prm") if folder.has("prm") else None
    return load_policy(folder.need("helper", "train --part helper"), prm)


def command(
    run: options.RunArgument,
    input: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What to decide about; - or nothing: standard input.")
    ] = None,
    budget_left: Annotated[
        str | None, typer.Option(help="Budget left where the input has none; one number for each budget (2,1).")
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One request a line; one decision a line.")] = False,
) -> None:
    """Print the helper's decision for an episode so far.

    The input is JSON, {"steps": [...]} or {"messages": [...]}, also with "budget_left" and an "id" that is printed with
    the decision. Texts are built as in training. Any other text is one state without history. A helper that was fitted
    with --usage decides with chance, which comes from the states: the same ones get the same decision.
    """
    left = None if budget_left is None else _as_budget("--budget-left", options.integers("--budget-left", budget_left))
    with require_extra("ml", "selfreg decide"):
        helper = load_helper(RunFolder.open(run))
    notes = _Notes(helper)
    with nullcontext(sys.stdin) if input in (None, Path("-")) else open(input, encoding="utf-8") as stream:
        for place, request in _read_requests(stream, jsonl):
            with _at(place):
                history, own_left, shown = _parse_request(request, left)
                steps = parse_history(history)
                notes.say(history, own_left)
                start_episode(helper, "", crc32("\n".join(step.state for step in steps).encode("utf-8", "replace")))
                decision = helper.decide(steps, own_left)
            print(json.dumps(shown | asdict(decision)), flush=True)


def _read_requests(stream: TextIO, jsonl: bool) -> Iterator[tuple[str, Any]]:
    """Where a request is, and its JSON value or text."""
    if jsonl:
        for number, line in enumerate(stream, 1):
            if line.strip():
                with _at(f"line {number}"):
                    request = _parse_json(line)
                yield f"line {number}", request
        return
    text = stream.read().strip()
    if not text:
        raise ValueError("the state is empty; give its text, or JSON, on standard input or in a file")
    yield "", _parse_json(text) if LOOKS_LIKE_JSON.match(text) else text


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None


def _parse_request(request: Any, budget_left: BudgetLeft) -> Request:
    shown: dict[str, Any] = {}
    if isinstance(request, dict):
        request = dict(request)
        if ID in request:
            shown[ID] = request.pop(ID)
        if BUDGET in request:
            left = request.pop(BUDGET)
            return request, None if left is None else _as_budget(f"field {BUDGET!r}", left), shown
    if budget_left is None:
        raise ValueError(f"{BUDGET} is missing; give --budget-left, or {BUDGET!r} in the input (null: no limit)")
    return request, budget_left, shown


def _as_budget(name: str, left: Any) -> tuple[int, ...]:
    entries = left if isinstance(left, list | tuple) else [left]
    if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in entries):
        raise ValueError(f"{name}: expected an integer >= 0, or a list of them; got {left!r}")
    return tuple(entries)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Name the line of an error."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}" if place else str(error)) from None


class _Notes:
    """What a user should know about a request; each is said once."""

    def __init__(self, helper: Helper | RationedHelper) -> None:
        self._limits, self._history, self._said = helper.limits, helper.history, set[str]()

    def say(self, history: Any, left: BudgetLeft) -> None:
        if isinstance(history, str) and self._history:
            self._once(
                f"note: a text is one state without history; the helper was trained with {self._history} earlier "
                'steps: send {"steps": [...]} or {"messages": [...]}'
            )
        fits = left is not None and len(left) == len(self._limits)
        if fits and any(map(int.__gt__, left or (), self._limits)):
            self._once(
                f"note: the budget left is above {self._limits}, the largest in training; the helper decides as with it"
            )

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            remark(text)
