"""Canonical episodes as columns want them: read several times as fast as trajectories, with the same checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Annotated

import msgspec

from selfreg.data.formats.canonical import LogError, keeps_record, read_jsonl_lines
from selfreg.data.trajectory import Scalar, Trajectory

Unit = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class DecodedStep(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A `Step` whose values are checked while they are decoded, without a call of Python."""

    state: str
    action: str | None = None
    key: str | None = None
    intervention: str | None = None
    cost: Annotated[int, msgspec.Meta(ge=0)] | None = None
    label: Unit | None = None


class LeanTrajectory(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A `Trajectory`, likewise."""

    task: str
    episode: str
    outcome: Unit | None
    steps: Annotated[tuple[DecodedStep, ...], msgspec.Meta(min_length=1)]
    truncated: bool = False
    fields: dict[str, Scalar] = {}


_DECODE, _OUTCOME = msgspec.json.Decoder(LeanTrajectory).decode, attrgetter("outcome")


def lean_trajectories(lines: Sequence[bytes]) -> list[LeanTrajectory] | None:
    """Trajectories of some lines; None where one is blank, wrong or without an outcome (`read_lean_lines` tells)."""
    try:
        records = [*map(_DECODE, lines)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if None in map(_OUTCOME, records) else records


def read_lean_lines(
    numbered: Iterable[tuple[int, bytes]], where: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, LeanTrajectory | Trajectory | LogError]]:
    """As `read_jsonl_lines`, of trajectories with the same attributes; faults in the same words."""
    for number, line in numbered:
        try:
            record = _DECODE(line)
            if record.outcome is not None:
                if not where or keeps_record(record, where):
                    yield number, record
                continue
        except LogError as error:
            yield number, error
            continue
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        yield from read_jsonl_lines([(number, line)], where)
