"""When should an agent ask for help, if help is limited?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg.mdp import InterventionMDP
from selfreg.solve import ConvergenceError, Solution, StartSolution, solve, solve_memory

if TYPE_CHECKING:
    from selfreg.helper import Decision, Helper
    from selfreg.ledger import Ledger, SQLiteLedger
    from selfreg.policy import Simulation, expected_usage, simulate, usage_distribution

__version__ = "0.1.0.dev0"

# Public name -> module, imported when first used: torch, pyarrow and the like stay out of `import selfreg`.
_LAZY = {
    "Decision": "selfreg.helper",
    "Helper": "selfreg.helper",
    "Ledger": "selfreg.ledger",
    "SQLiteLedger": "selfreg.ledger",
    "Simulation": "selfreg.policy",
    "expected_usage": "selfreg.policy",
    "simulate": "selfreg.policy",
    "usage_distribution": "selfreg.policy",
}

__all__ = [
    "ConvergenceError",
    "Decision",
    "Helper",
    "InterventionMDP",
    "Ledger",
    "SQLiteLedger",
    "Simulation",
    "Solution",
    "StartSolution",
    "expected_usage",
    "simulate",
    "solve",
    "solve_memory",
    "usage_distribution",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'selfreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
