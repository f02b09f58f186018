"""Canonical trajectories, their store, and readers of other people's logs."""

from selfreg.data.trajectory import NOHELP, Scalar, Step, Trajectory, state_text

__all__ = ["NOHELP", "Scalar", "Step", "Trajectory", "state_text"]
