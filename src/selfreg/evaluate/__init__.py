"""Does it work? Closed-loop comparison of help policies, with paired intervals."""

from selfreg._bootstrap import Interval
from selfreg.evaluate.baselines import EveryN, LastK, Tuned, tune_threshold
from selfreg.evaluate.closed_loop import Contestant, Row, run_closed_loop, write_rows
from selfreg.evaluate.compare import Comparison, Difference, Outcome, compare
from selfreg.evaluate.forecast import Forecast, forecasts
from selfreg.evaluate.policies import Always, FollowHelper, Never, Plan, Threshold

__all__ = [
    "Always",
    "Comparison",
    "Contestant",
    "Difference",
    "EveryN",
    "FollowHelper",
    "Forecast",
    "Interval",
    "LastK",
    "Never",
    "Outcome",
    "Plan",
    "Row",
    "Threshold",
    "Tuned",
    "compare",
    "forecasts",
    "run_closed_loop",
    "tune_threshold",
    "write_rows",
]
