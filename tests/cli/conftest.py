"""A run folder with everything in it, made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfreg.cli.main import main


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory) -> Path:
    """A small `selfreg demo`; processes that share the tests make it once. Not to be changed: copy it."""
    filelock = pytest.importorskip("filelock", reason="filelock, which comes with torch, is missing")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    out = folder / "demo" / "run"
    size = ["--tasks", "8", "--test-tasks", "3", "--episodes", "16", "--budget", "2", "--workers", "1", "--fallbacks"]
    with filelock.FileLock(folder / "demo.lock"):
        if not out.exists():
            assert main(["demo", "--out", str(out), "--seed", "1", *size]) == 0
    return out
