"""What runs beside the agent: ledgers that cannot overspend, and decisions that are made once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg.runtime.ledger import Budget, Ledger, SQLiteLedger, UnusableLedgerError, micro_units
from selfreg.runtime.prices import Moment, PeriodPrice

if TYPE_CHECKING:
    from selfreg.runtime.arrivals import Arrivals, estimate_arrivals
    from selfreg.runtime.availability import estimate_availability, median_step_seconds
    from selfreg.runtime.desk import Desk, HelpRequest, RequestClosed
    from selfreg.runtime.drafts import StepToDecide
    from selfreg.runtime.ledger.postgres import PostgresLedger
    from selfreg.runtime.recorder import Recorder
    from selfreg.runtime.records import logged_propensity, logged_requests

# Public name -> module that needs an extra ('postgres' or 'logs'), imported when first used.
_LAZY = {
    "Arrivals": "selfreg.runtime.arrivals",
    "Desk": "selfreg.runtime.desk",
    "HelpRequest": "selfreg.runtime.desk",
    "PostgresLedger": "selfreg.runtime.ledger.postgres",
    "RequestClosed": "selfreg.runtime.desk",
    "Recorder": "selfreg.runtime.recorder",
    "StepToDecide": "selfreg.runtime.drafts",
    "estimate_arrivals": "selfreg.runtime.arrivals",
    "estimate_availability": "selfreg.runtime.availability",
    "logged_propensity": "selfreg.runtime.records",
    "logged_requests": "selfreg.runtime.records",
    "median_step_seconds": "selfreg.runtime.availability",
}

__all__ = [
    "Arrivals",
    "Budget",
    "Desk",
    "HelpRequest",
    "Ledger",
    "Moment",
    "PeriodPrice",
    "PostgresLedger",
    "Recorder",
    "RequestClosed",
    "SQLiteLedger",
    "StepToDecide",
    "UnusableLedgerError",
    "estimate_arrivals",
    "estimate_availability",
    "logged_propensity",
    "logged_requests",
    "median_step_seconds",
    "micro_units",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
