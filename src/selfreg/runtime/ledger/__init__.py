"""What is left of the budget: paid once a step, never overspent, in memory or in a file that outlives the process.

A step is known by ``(run_id, step_id)``, and its story only goes forward: ``reserved``, then ``charged`` or
``refunded``; or ``refused`` at once. What was refused or refunded stays so: a step that is executed again goes the way
that it went before, and a message that comes twice or late changes nothing. Whoever wants to try once more asks under a
new ``step_id``.

After a crash between `reserve` and `charge` nobody can know whether help was given. The rule: **the reservation stays
held**, which counts as spent, until it is charged or refunded: by the step itself when it is executed again (its
`reserve` is answered as before and takes nothing), or by whoever reads `entries` and knows better. No lease gives it
back after some time: a process that is only slow would then get help that nobody counted.
"""

from selfreg.runtime.ledger.memory import Entry, Ledger, Status, Units, units
from selfreg.runtime.ledger.sqlite import SQLiteLedger

__all__ = ["Entry", "Ledger", "SQLiteLedger", "Status", "Units", "units"]
