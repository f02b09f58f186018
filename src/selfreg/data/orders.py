"""Names of fields that group rows into episodes and order them, and values that order rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime, timezone
from typing import Any

from selfreg.data.translation import parse_number

# In the order of preference; all are names of an episode.
EPISODES = (
    "episode_id", "episode", "run_id", "session_id", "session", "conversation_id", "conversation", "thread_id",
    "thread", "trace_id", "ticket_id", "ticket", "case_id", "chat_id", "dialogue_id",
    "ticket_number", "ticket_no", "case_number",
)  # fmt: skip
ORDERS = (
    "step", "step_id", "step_index", "turn", "turn_idx", "turn_id", "index", "idx", "seq", "ts", "timestamp", "time",
    "created_at", "opened_at", "sent_at", "datetime", "date",
)  # fmt: skip
_FRACTION = re.compile(r"\.(\d+)")


def order_keys(values: Sequence[Any]) -> list[float] | None:
    """Numbers that order values: numbers or their texts, or ISO 8601 dates and times; None where the order is not sure.

    Examples
    --------
    >>> from selfreg.data.orders import order_keys
    >>> order_keys(["9", "10", 11.5]), order_keys(["9:59", "10:00"])
    ([9.0, 10.0, 11.5], None)
    """
    numbers = [_read_number(value) for value in values]
    if all(number is not None for number in numbers):
        return [number for number in numbers if number is not None]
    times = [_read_time(value) for value in values]
    known = [time for time in times if time is not None]
    if len(known) < len(times) or len({time.tzinfo is None for time in known}) > 1:
        return None
    return [(time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp() for time in known]


def _read_number(value: Any) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else parse_number(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _read_time(value: Any) -> datetime | None:
    if isinstance(value, date):
        value = value.isoformat()
    if not isinstance(value, str):
        return None
    text = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), value.strip())
    try:
        return datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)
    except ValueError:
        return None
