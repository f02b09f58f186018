"""Process reward model: P(success | state text, the base policy goes on without help), and how good it is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreg.prm.comparison import with_baselines
    from selfreg.prm.config import EncoderConfig, PRMConfig
    from selfreg.prm.prm import PRM, recalibrate, train_prm
    from selfreg.prm.scoring import read_scores, score_logs
    from selfreg.prm.threshold import choose_threshold, measure_threshold
    from selfreg.prm.transformer import Examples

__all__ = [
    "PRM",
    "EncoderConfig",
    "Examples",
    "PRMConfig",
    "choose_threshold",
    "measure_threshold",
    "read_scores",
    "recalibrate",
    "score_logs",
    "train_prm",
    "with_baselines",
]

_HOME = {"EncoderConfig": "config", "PRMConfig": "config", "Examples": "transformer"}
_HOME |= dict.fromkeys(("PRM", "recalibrate", "train_prm"), "prm")
_HOME |= dict.fromkeys(("with_baselines",), "comparison")
_HOME |= dict.fromkeys(("read_scores", "score_logs"), "scoring")
_HOME |= dict.fromkeys(("choose_threshold", "measure_threshold"), "threshold")


def __getattr__(name: str) -> Any:
    """Import the parts that read trajectories or train on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
