"""From trajectories to an `InterventionMDP`: abstractions, counts, the model, and how far to trust it."""

from selfreg.estimate.abstraction import ExactKey, Features, Key, StateAbstraction, load_classes
from selfreg.estimate.advice import Advice, Sample, advise
from selfreg.estimate.bands import Band, FrontierBands, Uncertainty, frontier_bands, uncertainty
from selfreg.estimate.calibrated import CalibratedL1, calibrated_l1
from selfreg.estimate.counts import Counts, count
from selfreg.estimate.crossfit import CrossFit, cross_fit
from selfreg.estimate.ingest.logs import Ingested, count_logs
from selfreg.estimate.model import EstimatedModel, estimate_mdp
from selfreg.estimate.score_bins import ScoreBins, from_description
from selfreg.estimate.support import Coverage, coverage

__all__ = [
    "Advice",
    "Band",
    "CalibratedL1",
    "Counts",
    "Coverage",
    "CrossFit",
    "EstimatedModel",
    "ExactKey",
    "Features",
    "FrontierBands",
    "Ingested",
    "Key",
    "Sample",
    "ScoreBins",
    "StateAbstraction",
    "Uncertainty",
    "advise",
    "calibrated_l1",
    "count",
    "count_logs",
    "coverage",
    "cross_fit",
    "estimate_mdp",
    "from_description",
    "frontier_bands",
    "load_classes",
    "uncertainty",
]
