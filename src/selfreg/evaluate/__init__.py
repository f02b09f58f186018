"""Does it work? Closed-loop comparison of help policies with paired intervals; off-policy evaluation from logs."""

from selfreg.evaluate.closed_loop import Contestant, Row, run_closed_loop, write_rows
from selfreg.evaluate.compare import Comparison, Difference, Interval, Outcome, compare
from selfreg.evaluate.ope import Estimate, OffPolicy, Overlap, OverlapError, ope
from selfreg.evaluate.policies import Always, FollowHelper, Never, Plan, Threshold

__all__ = [
    "Always",
    "Comparison",
    "Contestant",
    "Difference",
    "Estimate",
    "FollowHelper",
    "Interval",
    "Never",
    "OffPolicy",
    "Outcome",
    "Overlap",
    "OverlapError",
    "Plan",
    "Row",
    "Threshold",
    "compare",
    "ope",
    "run_closed_loop",
    "write_rows",
]
