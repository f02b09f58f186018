"""Closed-loop comparison of policies with paired intervals; off-policy evaluation and monitoring from logs."""

from selfreg.evaluate.closed_loop import ComparedPolicy, Row, read_rows, run_closed_loop
from selfreg.evaluate.comparison import compare, paired
from selfreg.evaluate.extrapolation import Extrapolating, NearestScore, NearestText
from selfreg.evaluate.forecast_outcome import ForecastOutcome, forecasts
from selfreg.evaluate.monitoring import Forecast, monitor
from selfreg.evaluate.off_policy import OverlapError, ope
from selfreg.evaluate.plans import Plan
from selfreg.evaluate.policies import Always, EveryN, LastK, Never
from selfreg.evaluate.policy_comparison import PolicyComparison, PolicySetup
from selfreg.evaluate.propensity import fitted_propensity
from selfreg.evaluate.recorded import Recorded

__all__ = [
    "Always",
    "ComparedPolicy",
    "EveryN",
    "Extrapolating",
    "Forecast",
    "ForecastOutcome",
    "LastK",
    "NearestScore",
    "NearestText",
    "Never",
    "OverlapError",
    "Plan",
    "PolicyComparison",
    "PolicySetup",
    "Recorded",
    "Row",
    "compare",
    "fitted_propensity",
    "forecasts",
    "monitor",
    "ope",
    "paired",
    "read_rows",
    "run_closed_loop",
]
