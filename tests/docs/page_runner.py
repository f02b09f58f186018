"""Runs the blocks of a Markdown page in order: bash in a shell, Python in one namespace, as a reader would.

``python tests/docs/page_runner.py FILE.md`` prints what each block prints.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
SECONDS = 300


class Block(NamedTuple):
    """`printed` is what the page says that the block prints, or None."""

    language: str
    code: str
    printed: str | None


def read_blocks(page: Path) -> list[Block]:
    return [Block(*match.groups()) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def run_blocks(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Each block and its output, in a folder with `examples/` in it."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in read_blocks(page):
        if block.language == "bash":
            yield block, _run_bash(block.code, folder)
            continue
        output = io.StringIO()
        with (
            contextlib.chdir(folder) if sys.version_info >= (3, 11) else _chdir(folder),
            contextlib.redirect_stdout(output),
        ):
            exec(compile(block.code, str(page), "exec"), namespace)
        yield block, output.getvalue()


def prepare(folder: Path) -> Path:
    """A folder with the examples, and a `selfreg` command that runs this checkout."""
    (folder / "examples").symlink_to(ROOT / "examples")
    command = folder / ".bin" / "selfreg"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m selfreg "$@"\n')
    command.chmod(0o755)
    return folder


def _run_bash(code: str, folder: Path) -> str:
    path = os.pathsep.join([str(folder / ".bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode:
        raise AssertionError(f"{code}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for block, output in run_blocks(Path(sys.argv[1]).resolve(), prepare(Path(temporary))):
            print(f"--- {block.language}\n{block.code}--- prints\n{output}")
