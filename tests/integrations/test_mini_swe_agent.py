"""mini-swe-agent with its own agent and a scripted model."""

from __future__ import annotations

import os

import pytest

os.environ["MSWEA_SILENT_STARTUP"] = "1"
pytest.importorskip("minisweagent", reason="mini-swe-agent is missing (extra 'adapters')")

from conformance import Models, make_recorder
from driver_mini_swe_agent import Scripted
from minisweagent.exceptions import FormatError

from selfreg.integrations.mini_swe_agent import HelpModel


def test_an_answer_in_a_wrong_format_is_paid() -> None:
    recorder = make_recorder(1)
    strong = Scripted("strong", Models(strong=(FormatError({"role": "user", "content": "no action"}),)))
    model = HelpModel(Scripted("weak", Models()), strong, recorder, run="run")
    with pytest.raises(FormatError):
        model.query([{"role": "user", "content": "a"}])
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]


def test_the_decision_is_in_the_message() -> None:
    model = HelpModel(Scripted("weak", Models()), Scripted("strong", Models()), make_recorder(1), run="run")
    said = model.query([{"role": "user", "content": "a"}])
    assert said["extra"]["selfreg"]["selfreg.action"] == "strong"
    assert said["extra"]["cost"] == 0.0
    assert model.name == "weak"
