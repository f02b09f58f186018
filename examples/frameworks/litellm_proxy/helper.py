"""What LiteLLM's proxy loads: ``callbacks: helper.logger`` in the config.yaml beside this file."""

from __future__ import annotations

import os

from selfreg import SQLiteLedger
from selfreg.decisions import Decision
from selfreg.integrations.litellm import SelfregLogger
from selfreg.runtime import Recorder


class AfterAnError:
    """In the place of a trained helper, `Helper.load("runs/mine")`."""

    def decide(self, steps, budget_left):
        return Decision("strong" if "error" in steps[-1].state else "nohelp")


# Stored in a file: what was paid is known after a restart, and all workers of the proxy share it.
ledger = SQLiteLedger(os.environ["LEDGER"], 1)
logger = SelfregLogger(Recorder(AfterAnError(), ledger, costs={"strong": 1}), weak="agent", strong="agent-strong")
