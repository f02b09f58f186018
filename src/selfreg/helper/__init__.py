"""The helper: decides at run time whether to request help, within the budget that is left."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreg.helper.calibration import calibrate, spending
    from selfreg.helper.config import HelperConfig
    from selfreg.helper.examples import HelperExamples
    from selfreg.helper.helper import Helper
    from selfreg.helper.labels import Labels, label
    from selfreg.helper.memory import Memory
    from selfreg.helper.rationing import RationedHelper, load_policy, ration
    from selfreg.helper.train import train_helper

_HOME = {
    "Helper": "helper",
    "HelperConfig": "config",
    "HelperExamples": "examples",
    "calibrate": "calibration",
    "spending": "calibration",
    "Labels": "labels",
    "Memory": "memory",
    "label": "labels",
    "load_policy": "rationing",
    "RationedHelper": "rationing",
    "ration": "rationing",
    "train_helper": "train",
}

__all__ = [
    "Helper",
    "HelperConfig",
    "HelperExamples",
    "Labels",
    "Memory",
    "RationedHelper",
    "calibrate",
    "label",
    "load_policy",
    "ration",
    "spending",
    "train_helper",
]


def __getattr__(name: str) -> Any:
    """Import the parts that need more than NumPy on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
