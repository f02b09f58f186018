"""Messages of a chat in the form of OpenAI, as steps; and the history of an episode that is still going on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value
from selfreg.data.faults import LogError
from selfreg.data.log_files import describe_kind
from selfreg.data.roles import read_prose
from selfreg.data.trajectory import Step
from selfreg.data.turns import Message, Turns

with require_extra("logs", "selfreg.data"):
    import msgspec

HISTORY_KEYS = ("steps", "messages")


def parse_history(value: Any) -> list[Step]:
    """The episode so far from JSON; the text of its state is then built as in training.

    Parameters
    ----------
    value : dict, list or str
        ``{"steps": [...]}`` or the list alone: each step is a text, or an object with the fields of `Step`, whose state
        may also be JSON; the last one is the current state. ``{"messages": [...]}``: messages in the form of OpenAI;
        what came in after the last message of the assistant is the current state. A str is a state without history.

    Returns
    -------
    list of Step

    Raises
    ------
    ValueError
        Naming the key, step or message at fault: an unknown key, both keys or none, nothing to decide about.

    Examples
    --------
    >>> from selfreg.data import parse_history
    >>> parse_history({"steps": [{"state": "2 + 2 = ?", "action": "5"}, "wrong answer"]})[1].state
    'wrong answer'
    >>> chat = [{"role": "user", "content": "2 + 2 = ?"}, {"role": "assistant", "content": "5"}]
    >>> [step.state for step in parse_history({"messages": [*chat, {"role": "user", "content": "wrong answer"}]})]
    ['2 + 2 = ?', 'wrong answer']
    """
    if isinstance(value, str):
        value = {"steps": [value]}
    elif isinstance(value, list):
        value = {"steps": value}
    if not isinstance(value, dict):
        raise ValueError(f"expected steps, messages or a text; got {describe_kind(value)}")
    unknown = [key for key in value if key not in HISTORY_KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; expected one of {', '.join(HISTORY_KEYS)}")
    if len(value) != 1:
        raise ValueError("expected either 'steps' or 'messages'")
    ((name, items),) = value.items()
    if not isinstance(items, list) or not items:
        raise ValueError(f"field {name!r}: expected a list of at least one; got {describe_kind(items)}")
    return _parse_steps(items) if name == "steps" else _parse_messages(items)


def _parse_steps(items: Sequence[Any]) -> list[Step]:
    steps = []
    for index, item in enumerate(items):
        try:
            step = Step(item) if isinstance(item, str) else msgspec.convert(_with_text(item), Step)
        except (msgspec.ValidationError, ValueError) as error:
            hint = "; messages go into 'messages'" if isinstance(item, dict) and "role" in item else ""
            raise ValueError(f"steps[{index}]: {error}{hint}") from None
        steps.append(step)
    last = steps[-1]
    for name in ("action", "intervention", "cost", "label"):
        if getattr(last, name) is not None:
            raise ValueError(f"steps[{len(steps) - 1}] has {name!r}; the last step is the state to decide in")
    if not last.state.strip():
        raise ValueError("the state is empty: the last step has no text")
    return steps


def _with_text(item: Any) -> Any:
    """A step with its state as text: it may be JSON, as in logs; a Step stays as it is."""
    return item | {"state": read_prose("state", item["state"])} if isinstance(item, dict) and "state" in item else item


def _parse_messages(items: Sequence[Any]) -> list[Step]:
    turns = Turns()
    try:
        turns.add_messages(convert_value(items, list[Message]))
    except LogError as error:
        raise ValueError(str(error).replace("field '[", "field 'messages[", 1)) from None
    if not turns.unanswered.strip():
        raise ValueError("field 'messages': nothing came in after the last message of the assistant")
    return [*(Step(step.state, step.action) for step in turns.steps), Step(turns.unanswered)]
