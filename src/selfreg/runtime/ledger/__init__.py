"""What is left of budgets: paid once a step and never overspent, in memory, in a file, or on a PostgreSQL server.

A step is identified by ``(run_id, step_id)``, and its status only goes forward: ``reserved``, then ``charged`` or
``refunded``; or ``refused`` at once. Refused and refunded are final: a step that is executed again gets the answer that
it got before, and a message that comes twice or late changes nothing. Another try needs a new ``step_id``.

After a crash between `reserve` and `charge` nobody can know whether help was given. The reservation then **stays
held**, which counts as spent, until it is charged or refunded: by the step itself when it is executed again (its
`reserve` is answered as before and takes nothing), or by whoever reads `entries` and knows better. A reservation
expires only where `expires_in` says so.
"""

from typing import TYPE_CHECKING, Any

from selfreg.runtime.ledger.budgets import Budget, Units, micro_units, units
from selfreg.runtime.ledger.ledger import Ledger
from selfreg.runtime.ledger.sqlite import SQLiteLedger
from selfreg.runtime.ledger.store import UnusableLedgerError

if TYPE_CHECKING:
    from selfreg.runtime.ledger.postgres import PostgresLedger

__all__ = [
    "Budget",
    "Ledger",
    "PostgresLedger",
    "SQLiteLedger",
    "Units",
    "UnusableLedgerError",
    "micro_units",
    "units",
]


def __getattr__(name: str) -> Any:
    if name == "PostgresLedger":  # needs the extra 'postgres'
        from selfreg.runtime.ledger.postgres import PostgresLedger

        return PostgresLedger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
