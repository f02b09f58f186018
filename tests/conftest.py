"""Fixtures of the whole suite."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import strategies

settings.register_profile(
    "selfreg", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("selfreg"), max_examples=12)  # of `make check`
settings.register_profile("thorough", settings.get_profile("selfreg"), max_examples=400)  # of `make test-long`
settings.load_profile("selfreg")


# Files that take longest, first: two processes that share the files then end at about the same time.
LONGEST = (
    "test_demo.py",
    "test_packaging.py",
    "test_interrupts.py",
    "test_ray.py",
    "test_recorder.py",
    "test_prm_training.py",
    "test_forecasts.py",
)

# Folders whose tests run without torch. The others import it, with one thread, and are left out where it is missing.
WITHOUT_TORCH = {"_core", "_util", "data", "estimate", "models", "planning", "sweeps", "tests"}
HAS_TORCH = importlib.util.find_spec("torch") is not None
if not HAS_TORCH:
    collect_ignore = ["helper", "prm"]


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread(request: pytest.FixtureRequest) -> None:
    """Small models on shared machines lose more to threads that wait for each other than they gain."""
    rooms = {(folder.parts or ("tests",))[0] for folder in map(_folder_below_tests, request.session.items)}
    if HAS_TORCH and rooms - WITHOUT_TORCH:
        import torch

        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def _folder_below_tests(item: pytest.Item) -> Path:
    return item.path.parent.relative_to(Path(__file__).parent)


@pytest.fixture(params=["cython", "python"], scope="session")
def implementation(request: pytest.FixtureRequest) -> str:
    """Which kernel runs; the test's name shows it."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real logs beside the project, or SELFREG_DATA."""
    folder = Path(os.environ.get("SELFREG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real logs are not there ({folder.name} beside the project, or SELFREG_DATA)")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"property examples run on random models: {strategies.EXAMPLES.count}")
