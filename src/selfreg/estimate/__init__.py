"""From trajectories to an `InterventionMDP`: abstractions, counts, the model, and how far to trust it."""

from selfreg.estimate.abstraction import ExactKey, Features, Key, StateAbstraction, from_description, load_classes
from selfreg.estimate.counts import Counts, count
from selfreg.estimate.coverage import Coverage, coverage
from selfreg.estimate.model import EstimatedModel, estimate_mdp

__all__ = [
    "Counts",
    "Coverage",
    "EstimatedModel",
    "ExactKey",
    "Features",
    "Key",
    "StateAbstraction",
    "count",
    "coverage",
    "estimate_mdp",
    "from_description",
    "load_classes",
]
