"""Does it work? Closed-loop comparison of help policies with paired intervals; off-policy evaluation from logs."""

from selfreg.evaluate.closed_loop import Contestant, Row, run_closed_loop, write_rows
from selfreg.evaluate.compare import Comparison, Difference, Interval, Outcome, compare
from selfreg.evaluate.logged import Overlap
from selfreg.evaluate.monitor import Forecast, Monitoring, Watch, monitor
from selfreg.evaluate.ope import Estimate, OffPolicy, OverlapError, ope
from selfreg.evaluate.policies import Always, FollowHelper, Never, Plan, Threshold

__all__ = [
    "Always",
    "Comparison",
    "Contestant",
    "Difference",
    "Estimate",
    "FollowHelper",
    "Forecast",
    "Interval",
    "Monitoring",
    "Never",
    "OffPolicy",
    "Outcome",
    "Overlap",
    "OverlapError",
    "Plan",
    "Row",
    "Threshold",
    "Watch",
    "compare",
    "monitor",
    "ope",
    "run_closed_loop",
    "write_rows",
]
