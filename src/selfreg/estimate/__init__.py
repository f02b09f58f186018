"""From trajectories to an `InterventionMDP`: abstractions, counts, the model, and how far to trust it."""

from selfreg.estimate.abstraction import ExactKey, Features, Key, StateAbstraction, load_classes
from selfreg.estimate.advice import advise
from selfreg.estimate.bands import Band, frontier_bands, uncertainty
from selfreg.estimate.calibrated import calibrated_l1
from selfreg.estimate.counts import Counts, count
from selfreg.estimate.crossfit import cross_fit
from selfreg.estimate.forecasting.compute import forecast
from selfreg.estimate.forecasting.results import PolicyForecast, PolicyForecasts
from selfreg.estimate.handoffs import HandoffCost, handoff_costs
from selfreg.estimate.ingest.logs import count_logs
from selfreg.estimate.model import EstimatedModel, estimate_mdp
from selfreg.estimate.score_bins import ScoreBins
from selfreg.estimate.support import Coverage, coverage

__all__ = [
    "Band",
    "Counts",
    "Coverage",
    "EstimatedModel",
    "ExactKey",
    "Features",
    "HandoffCost",
    "Key",
    "PolicyForecast",
    "PolicyForecasts",
    "ScoreBins",
    "StateAbstraction",
    "advise",
    "calibrated_l1",
    "count",
    "count_logs",
    "coverage",
    "cross_fit",
    "estimate_mdp",
    "forecast",
    "frontier_bands",
    "handoff_costs",
    "load_classes",
    "uncertainty",
]
