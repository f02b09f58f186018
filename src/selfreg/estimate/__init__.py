"""From trajectories to an `InterventionMDP`: abstractions, counts, the estimated model."""

from selfreg.estimate.abstraction import ExactKey, Features, Key, StateAbstraction, load_classes
from selfreg.estimate.counts import Counts, count
from selfreg.estimate.model import EstimatedModel, estimate_mdp
from selfreg.estimate.score_bins import ScoreBins, from_description

__all__ = [
    "Counts",
    "EstimatedModel",
    "ExactKey",
    "Features",
    "Key",
    "ScoreBins",
    "StateAbstraction",
    "count",
    "estimate_mdp",
    "from_description",
    "load_classes",
]
