"""Twin of `_scan.pyx`: the same lines read by the json module, one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

_TEXT, _MAYBE_TEXT = (str,), (str, type(None))
_STEP = {"state": _TEXT, "action": _MAYBE_TEXT, "key": _MAYBE_TEXT, "intervention": _MAYBE_TEXT}
_KNOWN = {"task", "episode", "outcome", "truncated", "fields", "steps"}
_RATE, _COST = re.compile(r"0(\.[0-9]+)?|1(\.0+)?"), re.compile(r"0|[1-9][0-9]{0,17}")


class _Number(str):
    """A number as it is written."""


class _Members(list[tuple[str, Any]]):
    """An object, as it is written."""


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


_DECODE = json.JSONDecoder(object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number, parse_constant=_constant)


def scan(
    block: bytes,
    begin: int,
    wanted: int,
    reached: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    episode_ends: npt.NDArray[np.int64],
    episode_texts: npt.NDArray[np.uint8],
    step_ends: npt.NDArray[np.int64],
    step_texts: npt.NDArray[np.uint8],
    helped: npt.NDArray[np.uint8],
) -> int:
    """Begin of the first line that is not plain; the length of the block if all are plain."""
    while begin < len(block):
        stop = block.find(b"\n", begin) % (len(block) + 1)
        if line := block[begin:stop].strip(b" \t\r"):
            try:
                texts, steps = _read(line.decode(), wanted)
            except (ValueError, KeyError, RecursionError):
                return begin
            _put(texts, episode_ends, episode_texts, int(reached[1]))
            for place, step in enumerate(steps, int(reached[2])):
                _put([text or "" for text in step], step_ends, step_texts, place)
                helped[place] = step[1] is not None
            numbers[reached[1]], lengths[reached[1]] = reached[0] + 1, len(steps)
            reached[1:] += (1, len(steps))
        reached[0] += 1
        begin = stop + 1
    return len(block)


def _put(texts: Iterable[str], ends: npt.NDArray[np.int64], out: npt.NDArray[np.uint8], place: int) -> None:
    for row, text in enumerate(texts):
        first, content = ends[row, place], np.frombuffer(text.encode(), np.uint8)
        out[row, first : first + len(content)] = content
        ends[row, place + 1] = first + len(content)


def _read(line: str, wanted: int) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Texts of the episode and of its steps; ValueError or KeyError if the line is not plain."""
    if re.search(r"\\u[dD][89a-fA-F]", line):
        raise ValueError
    episode = _object(_DECODE.decode(line), _KNOWN)
    texts = [episode["task"], episode["episode"], episode["outcome"]]
    _require(type(texts[0]) is str and type(texts[1]) is str and _is(texts[2], _RATE))
    _require(isinstance(episode.get("truncated", True), bool))
    steps, fields = episode["steps"], episode.get("fields", _Members())
    _require(isinstance(fields, _Members) and not any(isinstance(value, list) for _, value in fields))
    _require(type(steps) is list and bool(steps))
    return [*texts, _raw(dict(fields)) if "fields" in episode else ""], [_step(step, wanted) for step in steps]


def _object(value: Any, allowed: set[str]) -> dict[str, Any]:
    """An object of allowed members, each at most once."""
    _require(isinstance(value, _Members))
    members: dict[str, Any] = dict(value)
    _require(len(members) == len(value) and members.keys() <= allowed)
    return members


def _step(value: Any, wanted: int) -> tuple[str, str | None]:
    step = _object(value, {*_STEP, "cost", "label"})
    _require("state" in step and all(type(step.get(name, "")) in types for name, types in _STEP.items()))
    _require(step.get("cost") is None or _is(step["cost"], _COST))
    _require(step.get("label") is None or _is(step["label"], _RATE))
    key = step.get("key")
    text = step["state"] if wanted == 2 or key is None else key
    return text if wanted else "", step.get("intervention")


def _is(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, _Number) and form.fullmatch(value) is not None


def _raw(fields: dict[str, Any]) -> str:
    """The fields as JSON, with numbers as written."""
    shown = (f"{json.dumps(k)}:{v if isinstance(v, _Number) else json.dumps(v)}" for k, v in fields.items())
    return "{" + ",".join(shown) + "}"


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError
