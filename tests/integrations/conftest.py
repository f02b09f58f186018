"""Frameworks load nothing from the network, and leave asyncio as it is."""

import asyncio
import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@pytest.fixture(autouse=True)
def asyncio_is_not_patched() -> Iterator[None]:
    """Inspect can patch it so that loops nest: `asyncio.run` then leaves tasks behind, in all tests that follow."""
    yield
    assert not hasattr(asyncio, "_nest_patched")
