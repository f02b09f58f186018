"""Canonical episodes without frozen objects: decoded several times as fast as trajectories, with the same checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Annotated

import msgspec

from selfreg.data.faults import LogError
from selfreg.data.filters import trajectory_matches
from selfreg.data.formats.canonical import read_jsonl_lines
from selfreg.data.log_format import ReadOptions
from selfreg.data.trajectory import MOST_COST, Scalar, Trajectory

Unit = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class DecodedStep(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A `Step` that the decoder itself checks, without calling Python."""

    state: str
    action: str | None = None
    key: str | None = None
    intervention: str | None = None
    cost: Annotated[int, msgspec.Meta(ge=0, le=MOST_COST)] | None = None
    label: Unit | None = None


class DecodedTrajectory(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A `Trajectory` that the decoder itself checks."""

    task: str
    episode: str
    outcome: Unit | None
    steps: Annotated[tuple[DecodedStep, ...], msgspec.Meta(min_length=1)]
    truncated: bool = False
    fields: dict[str, Scalar] = {}


_DECODE, _OUTCOME = msgspec.json.Decoder(DecodedTrajectory).decode, attrgetter("outcome")


def decode_lines(lines: Sequence[bytes]) -> list[DecodedTrajectory] | None:
    """Trajectories of some lines; None if one is blank, broken or without an outcome."""
    try:
        records = [*map(_DECODE, lines)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if None in map(_OUTCOME, records) else records


def read_decoded_lines(
    numbered: Iterable[tuple[int, bytes]], where: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, DecodedTrajectory | Trajectory | LogError]]:
    """As `FORMAT.read_lines` of the canonical format, with its messages, and with its filter."""
    for number, line in numbered:
        try:
            record: DecodedTrajectory | Trajectory | LogError = _DECODE(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            record = LogError()
        if isinstance(record, LogError) or record.outcome is None:
            [(_, record)] = read_jsonl_lines([(number, line)], ReadOptions())
        try:
            if isinstance(record, LogError) or not where or trajectory_matches(record, where):
                yield number, record
        except LogError as error:
            yield number, error
