"""The ledger: a record of the budget, charged once per step and never overspent, in memory or in a file.

A step is identified by ``(run_id, step_id)``. Its status is ``reserved``, then ``charged`` or ``refunded``; or
``refused`` at once. Refused and refunded are final. Calls are idempotent: a step that is executed again gets the same
answers, and a repeated or late call changes nothing. To try again, use a new ``step_id``.

After a crash between `reserve` and `charge` it is unknown whether help was given. **The reservation is kept**, and
counts as spent, until it is charged or refunded: by the step itself when it is executed again, or by an operator who
reads `entries`. Reservations do not expire: a slow process would then get help that is not counted.
"""

from selfreg.runtime.ledger.memory import Entry, Ledger, Status, Units
from selfreg.runtime.ledger.sqlite import SQLiteLedger

__all__ = ["Entry", "Ledger", "SQLiteLedger", "Status", "Units"]
