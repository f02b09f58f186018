"""Folders of work that may be killed and called again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfreg._util.files import written_whole


def claim(folder: Path, name: str, settings: Mapping[str, Any], what: str) -> None:
    """Make `folder` that of the work with these settings, noted in the file `name`, or find that it is.

    Raises
    ------
    ValueError
        For a folder of other work, naming the setting that differs, or of something else.
    """
    file = folder / name
    if not file.is_file():
        if folder.is_dir() and any(path for path in folder.iterdir() if not path.name.startswith(".")):
            raise ValueError(f"{folder} is not empty and holds no {what} (no {name}); choose another folder")
        with written_whole(file) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    before, now = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    for key in [*now, *before]:
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{folder} holds another {what}: its {key} is {before.get(key)!r}, now {now.get(key)!r}; "
                "choose another folder, or remove that one"
            )
    for leftover in folder.glob(".*.partial*"):
        leftover.unlink(missing_ok=True)
