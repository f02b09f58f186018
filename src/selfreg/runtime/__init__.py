"""What runs beside the agent: ledgers that cannot overspend."""

from typing import TYPE_CHECKING, Any

from selfreg.runtime.ledger import Budget, Entry, Ledger, LimitChange, SQLiteLedger, micro_units

if TYPE_CHECKING:
    from selfreg.runtime.ledger import PostgresLedger

__all__ = ["Budget", "Entry", "Ledger", "LimitChange", "PostgresLedger", "SQLiteLedger", "micro_units"]


def __getattr__(name: str) -> Any:
    if name == "PostgresLedger":  # needs the extra 'postgres'
        from selfreg.runtime.ledger import PostgresLedger

        return PostgresLedger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
