"""From trajectories to an `InterventionMDP`: abstractions, counts, the estimated model."""

from selfreg.estimate.abstraction import ExactKey, Features, Key, StateAbstraction, from_description, load_classes
from selfreg.estimate.counts import Counts, count
from selfreg.estimate.ingest import Ingested, count_logs
from selfreg.estimate.model import EstimatedModel, estimate_mdp

__all__ = [
    "Counts",
    "EstimatedModel",
    "ExactKey",
    "Features",
    "Ingested",
    "Key",
    "StateAbstraction",
    "count",
    "count_logs",
    "estimate_mdp",
    "from_description",
    "load_classes",
]
