"""docs/serve.md against the code: its paths, its options, its length."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()


def test_the_options_exist() -> None:
    from selfreg.cli import fit, monitor, serve

    known = {name for one in (serve, monitor, fit) for name in inspect.signature(one.command).parameters}
    used = {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z-]*)", PAGE)}
    assert used <= known
    assert "shadow" in used


def test_the_paths_are_those_of_the_server() -> None:
    pytest.importorskip("msgspec")
    from selfreg.runtime.server.description import OPERATIONS

    assert {one.path for one in OPERATIONS} <= set(re.findall(r"`(/[a-z0-9./]+)`", PAGE))


def test_the_guide_is_short() -> None:
    assert len(PAGE.split()) < 900
