"""Trajectories, and readers of logs in several formats."""

from selfreg.data.formats.canonical import write_trajectories
from selfreg.data.formats.stepwise import write_stepwise
from selfreg.data.log_files import LogError
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.markers import assume_takeover
from selfreg.data.messages import parse_history
from selfreg.data.read import read_trajectories
from selfreg.data.scorer import StateScorer
from selfreg.data.trajectory import NOHELP, Scalar, Step, Trajectory, state_text

__all__ = [
    "NOHELP",
    "LogError",
    "LogFormat",
    "ReadOptions",
    "Scalar",
    "StateScorer",
    "Step",
    "Trajectory",
    "assume_takeover",
    "parse_history",
    "read_trajectories",
    "state_text",
    "write_stepwise",
    "write_trajectories",
]
