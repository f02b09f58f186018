"""Does it work? Closed-loop comparison of help policies with paired intervals; off-policy evaluation from logs."""

from selfreg._bootstrap import Interval
from selfreg.evaluate.baselines import EveryN, LastK, Tuned, tune_threshold
from selfreg.evaluate.closed_loop import Contestant, Row, run_closed_loop, write_rows
from selfreg.evaluate.compare import Comparison, Difference, Outcome, compare
from selfreg.evaluate.forecast import ForecastOutcome, forecasts
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
    "EveryN",
    "FollowHelper",
    "Forecast",
    "ForecastOutcome",
    "Interval",
    "LastK",
    "Monitoring",
    "Never",
    "OffPolicy",
    "Outcome",
    "Overlap",
    "OverlapError",
    "Plan",
    "Row",
    "Threshold",
    "Tuned",
    "Watch",
    "compare",
    "forecasts",
    "monitor",
    "ope",
    "run_closed_loop",
    "tune_threshold",
    "write_rows",
]
