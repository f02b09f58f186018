"""Messages of a chat in the form of OpenAI, as steps; and the history of an episode that is still going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.log_files import LogError, describe_kind
from selfreg.data.trajectory import Step

with require_extra("logs", "selfreg.data"):
    import msgspec

HISTORY_KEYS = ("steps", "messages")


def convert_messages(messages: Sequence[Any], field: str) -> tuple[list[Step], list[str]]:
    """Steps of messages, and the texts that came in after the last one; LogError names the message at fault.

    A step is one message of the assistant; its state is what came in since the message before it, from the user and
    tools. The system prompt, the same in all episodes, is left out.
    """
    steps: list[Step] = []
    received: list[str] = []
    for index, message in enumerate(messages):
        place = f"{field}[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise LogError(f"field '{place}.role': expected a string")
        content = _read_content(message.get("content"), place)
        if message["role"] == "assistant":
            steps.append(Step(state="\n".join(received), action=content + _format_calls(message, place)))
            received = []
        elif message["role"] == "tool":
            received.append(f"{message.get('name', 'tool')} returned: {content}")
        elif message["role"] not in ("system", "developer"):
            received.append(content)
    return steps, received


def parse_history(value: Any) -> list[Step]:
    """The episode so far from JSON; the text of its state is then built as in training.

    Parameters
    ----------
    value : dict, list or str
        ``{"steps": [...]}`` or the list alone: each step is a text, or an object with the fields of `Step`; the last
        one is the current state. ``{"messages": [...]}``: messages in the form of OpenAI; what came in after the last
        message of the assistant is the current state. A str is a state without history.

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
            step = Step(item) if isinstance(item, str) else msgspec.convert(item, Step)  # a Step stays as it is
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


def _parse_messages(items: Sequence[Any]) -> list[Step]:
    steps, received = convert_messages(items, "messages")
    state = "\n".join(received)
    if not state.strip():
        raise ValueError("field 'messages': nothing came in after the last message of the assistant")
    return [*steps, Step(state)]


def _read_content(content: Any, place: str) -> str:
    """A text, or the texts of its parts."""
    if content is None:
        return ""
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise LogError(f"field '{place}.content': expected parts with a 'text' only")
        return "\n".join(map(str, texts))
    if not isinstance(content, str):
        raise LogError(f"field '{place}.content': expected a string or null; got {describe_kind(content)}")
    return content


def _format_calls(message: Mapping[str, Any], place: str) -> str:
    try:
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return " ".join(f"{call['name']}({call['arguments']})" for call in calls)
    except (TypeError, KeyError) as error:
        raise LogError(f"field '{place}.tool_calls': expected OpenAI tool calls ({error!r})") from None
