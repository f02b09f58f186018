"""Canonical trajectories, their store, and readers of other people's logs."""

from selfreg.data.formats.canonical import LogError, write_trajectories
from selfreg.data.formats.stepwise import write_stepwise
from selfreg.data.markers import assume_takeover
from selfreg.data.read import FORMATS, read_trajectories
from selfreg.data.scorer import StateScorer
from selfreg.data.trajectory import NOHELP, Scalar, Step, Trajectory, state_text

__all__ = [
    "FORMATS",
    "NOHELP",
    "LogError",
    "Scalar",
    "StateScorer",
    "Step",
    "Trajectory",
    "assume_takeover",
    "read_trajectories",
    "state_text",
    "write_stepwise",
    "write_trajectories",
]
