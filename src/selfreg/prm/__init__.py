"""Process reward model: P(success | state text, the base policy goes on without help), and how good it is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg.prm.metrics import Reliability, auroc, brier, expected_calibration_error, reliability

if TYPE_CHECKING:
    from selfreg.prm.classifier import Examples, TextClassifier
    from selfreg.prm.encoder import EncoderConfig
    from selfreg.prm.prm import PRM, PRMConfig, train_prm

__all__ = [
    "PRM",
    "EncoderConfig",
    "Examples",
    "PRMConfig",
    "Reliability",
    "TextClassifier",
    "auroc",
    "brier",
    "expected_calibration_error",
    "reliability",
    "train_prm",
]

_HOME = {"EncoderConfig": "encoder", "Examples": "classifier", "TextClassifier": "classifier"}
_HOME |= dict.fromkeys(("PRM", "PRMConfig", "train_prm"), "prm")


def __getattr__(name: str) -> Any:
    """Import the parts that read trajectories or train when they are first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
