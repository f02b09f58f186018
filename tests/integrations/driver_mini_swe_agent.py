"""mini-swe-agent as a driver: one query of its model is a step."""

from __future__ import annotations

import os
from typing import Any

os.environ["MSWEA_SILENT_STARTUP"] = "1"

from conformance import Driver, Models

from selfreg.integrations.mini_swe_agent import HelpModel
from selfreg.runtime import Recorder


class Scripted:
    """A model that answers by the script of `Models`."""

    def __init__(self, name: str, models: Models) -> None:
        self.name, self.models = name, models

    def query(self, messages: Any, **options: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": self.models.answer(self.name), "extra": {"cost": 0.0}}


def call(recorder: Recorder, run: str, text: str, models: Models) -> str:
    model = HelpModel(Scripted("weak", models), Scripted("strong", models), recorder, run=run)
    return model.query([{"role": "system", "content": "s"}, {"role": "user", "content": text}])["content"]


DRIVER = Driver(call)
