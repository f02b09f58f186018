"""Does it work? Closed-loop comparison of help policies, with paired intervals."""

from selfreg._bootstrap import Interval
from selfreg.evaluate.closed_loop import Contestant, Row, run_closed_loop, write_rows
from selfreg.evaluate.compare import Comparison, Difference, Outcome, compare
from selfreg.evaluate.policies import Always, FollowHelper, Never, Plan, Threshold

__all__ = [
    "Always",
    "Comparison",
    "Contestant",
    "Difference",
    "FollowHelper",
    "Interval",
    "Never",
    "Outcome",
    "Plan",
    "Row",
    "Threshold",
    "compare",
    "run_closed_loop",
    "write_rows",
]
