"""Does it work? Closed-loop comparison of help policies with paired intervals; off-policy evaluation from logs."""

from selfreg._bootstrap import Interval
from selfreg.evaluate.baselines import EveryN, LastK, Tuned, tune_threshold, tune_thresholds
from selfreg.evaluate.closed_loop import Contestant, Row, read_rows, run_closed_loop, write_rows
from selfreg.evaluate.compare import Comparison, Difference, Outcome, compare, paired
from selfreg.evaluate.contest import Contest, score_quantiles, usual_length
from selfreg.evaluate.forecast import ForecastOutcome, forecasts
from selfreg.evaluate.logged import Overlap
from selfreg.evaluate.monitor import Forecast, Monitoring, Watch, monitor
from selfreg.evaluate.ope import Estimate, OffPolicy, OverlapError, ope
from selfreg.evaluate.policies import Always, FollowHelper, NearestState, Never, Plan, Threshold
from selfreg.evaluate.propensity import fitted_propensity
from selfreg.evaluate.unseen import Backoff, Decided, Extrapolating, Like, NearestScore, NearestText, unseen_share

__all__ = [
    "Always",
    "Backoff",
    "Comparison",
    "Contest",
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
