"""Trajectories, and readers of logs in several formats."""

from selfreg.data.detection import detect_format
from selfreg.data.faults import LogError
from selfreg.data.formats.canonical import write_trajectories
from selfreg.data.formats.stepwise import write_stepwise
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.markers import HelpMarks, assume_takeover
from selfreg.data.messages import parse_history
from selfreg.data.overview import Outcomes, look_at_logs
from selfreg.data.read import read_trajectories
from selfreg.data.samples import Sample
from selfreg.data.scorer import StateScorer
from selfreg.data.trajectory import NOHELP, Scalar, Step, Trajectory, state_text

__all__ = [
    "NOHELP",
    "HelpMarks",
    "LogError",
    "LogFormat",
    "Outcomes",
    "ReadOptions",
    "Sample",
    "Scalar",
    "StateScorer",
    "Step",
    "Trajectory",
    "assume_takeover",
    "detect_format",
    "look_at_logs",
    "parse_history",
    "read_trajectories",
    "state_text",
    "write_stepwise",
    "write_trajectories",
]
