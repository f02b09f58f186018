"""State of a training run in one safetensors file: tensors, and a JSON text of everything else in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreg._util.files import atomic_write

if TYPE_CHECKING:
    import torch

SCHEMA = "selfreg.checkpoint/1"


def write_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write the file atomically.

    Raises
    ------
    OSError
        The disk is full; an earlier checkpoint is kept.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = {"format": "pt", "selfreg": json.dumps({"schema": SCHEMA, **facts}, allow_nan=False)}
    try:
        with atomic_write(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, header)
    except SafetensorError as error:
        raise OSError(f"checkpoint {str(path)!r} could not be written and is unchanged: {error}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts; ValueError where the file is not a checkpoint or is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("selfreg", "{}"))
            if facts.get("schema") != SCHEMA:
                raise ValueError(f"its schema is {facts.get('schema')!r}; expected {SCHEMA!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (not a mapping)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{str(path)!r} is not a readable checkpoint: {error}") from None
