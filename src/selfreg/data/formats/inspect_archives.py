"""Samples in an `.eval` archive of Inspect: a member each, or a folder of chunks each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from zipfile import ZipInfo

from selfreg._util.extras import require_extra
from selfreg.data.archives import read_member
from selfreg.data.documents import convert_value, decode_json
from selfreg.data.faults import LogError
from selfreg.data.log_files import MOST_BYTES

with require_extra("logs", "selfreg.data"):
    import msgspec

_SHELL = re.compile(r"(samples/.+_epoch_\d+/)sample\.json", re.DOTALL)
_CHUNK = re.compile(r"(\d+)\.json")


class _Shell(msgspec.Struct):
    """What a sample in chunks says of its final conversation: ranges of its pool of messages."""

    message_refs: list[tuple[int, int]] = []


class SampleMembers:
    """The members of an archive, and the samples in them."""

    def __init__(self, path: str, members: Mapping[str, ZipInfo]) -> None:
        self.path, self.members = path, members
        shells = {match[1]: name for name in members if (match := _SHELL.fullmatch(name))}
        self._folders = {name: folder for folder, name in shells.items()}
        self.names = [name for name in members if name.startswith("samples/") and name.endswith(".json")]
        if shells:
            inside = re.compile("|".join(map(re.escape, shells)))
            self.names = [name for name in self.names if name in self._folders or not inside.match(name)]

    def read(self, name: str) -> Any:
        """A sample, as it is where it is one member."""
        sample = self.decode(name)
        return sample if name not in self._folders else self._join(sample, self._folders[name])

    def decode(self, name: str, type: Any = Any) -> Any:
        data = read_member(self.path, self.members[name], MOST_BYTES)
        try:
            return decode_json(data, type)
        except LogError as error:
            raise error.at(f"member {name!r}") from None

    def _join(self, shell: Any, folder: str) -> dict[str, Any]:
        messages, events, attachments = (
            list(self._items(folder, kind)) for kind in ("messages", "events", "attachments")
        )
        refs = convert_value(shell, _Shell).message_refs
        return {
            **shell,
            "messages": [message for first, last in refs for message in messages[first:last]],
            "events": events,
            "events_data": {"messages": messages},
            "attachments": {str(i): text for i, text in enumerate(attachments)},
        }

    def _items(self, folder: str, kind: str) -> Iterator[Any]:
        """Items of a sequence, whose chunks have the index of their first item as a name."""
        prefix = f"{folder}{kind}/"
        names = {name.removeprefix(prefix): name for name in self.members if name.startswith(prefix)}
        starts = sorted(int(match[1]) for name in names if (match := _CHUNK.fullmatch(name)))
        count, size = 0, 0
        for start in starts:
            name = names[f"{start}.json"]
            size += self.members[name].file_size
            if start != count or size > MOST_BYTES:
                what = f"is not the one that follows {count} items" if start != count else "makes the sample too large"
                raise LogError(f"member {name!r} {what}")
            items = self.decode(name, list[Any])
            count += len(items)
            yield from items
