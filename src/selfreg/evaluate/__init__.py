"""Does it work? Closed-loop comparison of help policies with paired intervals; off-policy evaluation from logs."""

from selfreg._util.bootstrap import Interval
from selfreg.evaluate.closed_loop import Contestant, Row, read_rows, run_closed_loop, write_rows
from selfreg.evaluate.comparison import Comparison, Difference, Outcome, compare, paired
from selfreg.evaluate.extrapolation import (
    Backoff,
    Decided,
    Extrapolating,
    Like,
    NearestScore,
    NearestText,
    unseen_share,
)
from selfreg.evaluate.forecast_outcome import ForecastOutcome, forecasts
from selfreg.evaluate.logged import Overlap
from selfreg.evaluate.monitoring import Forecast, Monitoring, Watch, monitor
from selfreg.evaluate.off_policy import Estimate, OffPolicy, OverlapError, ope
from selfreg.evaluate.policies import Always, FollowHelper, NearestState, Never, Plan, Threshold
from selfreg.evaluate.policy_comparison import PolicyComparison, score_quantiles, usual_length
from selfreg.evaluate.propensity import fitted_propensity
from selfreg.evaluate.schedules import EveryN, LastK, Tuned, tune_threshold, tune_thresholds

__all__ = [
    "Always",
    "Backoff",
    "Comparison",
    "Contestant",
    "Decided",
    "Difference",
    "Estimate",
    "EveryN",
    "Extrapolating",
    "FollowHelper",
    "Forecast",
    "ForecastOutcome",
    "Interval",
    "LastK",
    "Like",
    "Monitoring",
    "NearestScore",
    "NearestState",
    "NearestText",
    "Never",
    "OffPolicy",
    "Outcome",
    "Overlap",
    "OverlapError",
    "Plan",
    "PolicyComparison",
    "Row",
    "Threshold",
    "Tuned",
    "Watch",
    "compare",
    "fitted_propensity",
    "forecasts",
    "monitor",
    "ope",
    "paired",
    "read_rows",
    "run_closed_loop",
    "score_quantiles",
    "tune_threshold",
    "tune_thresholds",
    "unseen_share",
    "usual_length",
    "write_rows",
]
