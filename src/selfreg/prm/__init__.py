"""Process reward model: P(success | state text, the base policy goes on without help), and how good it is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg.prm.metrics import (
    Reliability,
    ReliabilityRow,
    auroc,
    brier,
    by_task,
    difference_by_task,
    expected_calibration_error,
    reliability,
    reliability_by_task,
)

if TYPE_CHECKING:
    from selfreg.prm.comparison import Contender, compare_prms, with_baselines
    from selfreg.prm.encoder import EncoderConfig
    from selfreg.prm.prm import PRM, PRMConfig, recalibrate, train_prm
    from selfreg.prm.scoring import Scored, read_scores, score_logs
    from selfreg.prm.threshold import ThresholdPolicy, ThresholdRule, choose_threshold, measure_threshold
    from selfreg.prm.transformer import Examples, TextClassifier

__all__ = [
    "PRM",
    "Contender",
    "EncoderConfig",
    "Examples",
    "PRMConfig",
    "Reliability",
    "ReliabilityRow",
    "Scored",
    "TextClassifier",
    "ThresholdPolicy",
    "ThresholdRule",
    "auroc",
    "brier",
    "by_task",
    "choose_threshold",
    "compare_prms",
    "difference_by_task",
    "expected_calibration_error",
    "measure_threshold",
    "read_scores",
    "recalibrate",
    "reliability",
    "reliability_by_task",
    "score_logs",
    "train_prm",
    "with_baselines",
]

_HOME = {"EncoderConfig": "encoder", "Examples": "transformer", "TextClassifier": "transformer"}
_HOME |= dict.fromkeys(("PRM", "PRMConfig", "recalibrate", "train_prm"), "prm")
_HOME |= dict.fromkeys(("Contender", "compare_prms", "with_baselines"), "comparison")
_HOME |= dict.fromkeys(("Scored", "read_scores", "score_logs"), "scoring")
_HOME |= dict.fromkeys(("ThresholdPolicy", "ThresholdRule", "choose_threshold", "measure_threshold"), "threshold")


def __getattr__(name: str) -> Any:
    """Import the parts that read trajectories or train on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
