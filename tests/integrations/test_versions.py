"""An adapter whose framework is missing, too old or too new says so at import; this needs no framework."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

import selfreg.integrations
from selfreg.integrations import _versions

# Adapter -> package, a version before and one after those that are supported, and the extra.
ADAPTERS = {
    "agent_framework": ("agent-framework-core", "1.22.9", "2.0.0", "agent-framework"),
    "inspect_ai": ("inspect-ai", "0.3.284", "0.4.0", "inspect"),
    "langchain": ("langchain", "1.4.9", "2.0.0", "langchain"),
    "langchain_router": ("langchain", "1.4.9", "2.0.0", "langchain"),
    "litellm": ("litellm", "1.107.9", "2.0.0", "litellm"),
    "mcp": ("mcp", "2.2.9", "3.0.0", "mcp"),
    "mini_swe_agent": ("mini-swe-agent", "2.3.9", "3.0.0", "mini-swe-agent"),
    "openai_agents": ("openai-agents", "0.23.9", "0.25.0", "openai-agents"),
    "otel": ("opentelemetry-api", "1.29.0", "2.0.0", "otel"),
    "pydantic_ai": ("pydantic-ai-slim", "2.67.9", "3.0.0", "pydantic-ai"),
}


def import_anew(monkeypatch: pytest.MonkeyPatch, adapter: str, version: Any) -> None:
    name = f"selfreg.integrations.{adapter}"
    monkeypatch.setattr(_versions, "version", version)
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module(name)


def test_every_adapter_is_here() -> None:
    folder = Path(selfreg.integrations.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert found - {"gymnasium"} == set(ADAPTERS)  # any version of Gymnasium from 1.0 on


@pytest.mark.parametrize("which", ["before", "after"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_unsupported_version_says_so(monkeypatch, adapter, which) -> None:
    package, before, after, extra = ADAPTERS[adapter]
    found = before if which == "before" else after
    with pytest.raises(ImportError) as caught:
        import_anew(monkeypatch, adapter, lambda _: found)
    assert f"{package} is {found}; supported are versions from " in str(caught.value)
    assert f"pip install 'selfreg[{extra}]'" in str(caught.value)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_framework_names_its_extra(monkeypatch, adapter) -> None:
    package, _, _, extra = ADAPTERS[adapter]

    def find(name: str) -> str:
        raise PackageNotFoundError(name)

    with pytest.raises(ImportError, match=rf"pip install 'selfreg\[{extra}\]' \(no package {package}\)"):
        import_anew(monkeypatch, adapter, find)
