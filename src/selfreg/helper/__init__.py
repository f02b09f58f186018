"""The helper: decides at run time whether to ask for help, within what a ledger can still pay."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg.ledger import Ledger

if TYPE_CHECKING:
    from selfreg.helper.labels import Labels, label
    from selfreg.helper.runtime import Decision, Helper
    from selfreg.helper.training import HelperConfig, HelperExamples, train_helper

__all__ = ["Decision", "Helper", "HelperConfig", "HelperExamples", "Labels", "Ledger", "label", "train_helper"]

_HOME = {"Decision": "runtime", "Helper": "runtime", "Labels": "labels", "label": "labels"}
_HOME |= dict.fromkeys(("HelperConfig", "HelperExamples", "train_helper"), "training")


def __getattr__(name: str) -> Any:
    """Import the parts that need more than NumPy when they are first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
