"""When should an agent request help, under a budget?

Result classes are in their modules, for example `selfreg.planning.penalized.PenalizedSolution`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreg._util.parallel import LocalExecutor, RayExecutor
    from selfreg.decisions import Decision
    from selfreg.helper import Helper
    from selfreg.mdp import InterventionMDP
    from selfreg.planning.allocation import allocate
    from selfreg.planning.constraints import constrained
    from selfreg.planning.delays import delay_help
    from selfreg.planning.evaluation import evaluate_policy
    from selfreg.planning.frontiers import frontier, reward_search
    from selfreg.planning.hard import solve, solve_memory
    from selfreg.planning.hard_cap import hard_cap_price
    from selfreg.planning.penalized import solve_penalized
    from selfreg.planning.robust import L1, Intervals
    from selfreg.planning.simulation import simulate
    from selfreg.planning.solution import ConvergenceError, Solution
    from selfreg.planning.usage import expected_usage, usage_distribution
    from selfreg.runtime.ledger import Ledger, SQLiteLedger
    from selfreg.sweeps.runner import read_sweep, sweep
    from selfreg.sweeps.sources import ModelGrid

from selfreg._version import __version__ as __version__

# Public name -> module, imported on first use: `import selfreg` imports no torch, no pyarrow.
_LAZY = {
    "LocalExecutor": "selfreg._util.parallel",
    "RayExecutor": "selfreg._util.parallel",
    "InterventionMDP": "selfreg.mdp",
    "allocate": "selfreg.planning.allocation",
    "constrained": "selfreg.planning.constraints",
    "frontier": "selfreg.planning.frontiers",
    "reward_search": "selfreg.planning.frontiers",
    "solve": "selfreg.planning.hard",
    "solve_memory": "selfreg.planning.hard",
    "ConvergenceError": "selfreg.planning.solution",
    "Solution": "selfreg.planning.solution",
    "read_sweep": "selfreg.sweeps.runner",
    "sweep": "selfreg.sweeps.runner",
    "ModelGrid": "selfreg.sweeps.sources",
    "Decision": "selfreg.decisions",
    "Helper": "selfreg.helper",
    "Ledger": "selfreg.runtime.ledger",
    "Intervals": "selfreg.planning.robust",
    "L1": "selfreg.planning.robust",
    "SQLiteLedger": "selfreg.runtime.ledger",
    "delay_help": "selfreg.planning.delays",
    "evaluate_policy": "selfreg.planning.evaluation",
    "expected_usage": "selfreg.planning.usage",
    "hard_cap_price": "selfreg.planning.hard_cap",
    "simulate": "selfreg.planning.simulation",
    "solve_penalized": "selfreg.planning.penalized",
    "usage_distribution": "selfreg.planning.usage",
}

__all__ = [
    "L1",
    "ConvergenceError",
    "Decision",
    "Helper",
    "Intervals",
    "InterventionMDP",
    "Ledger",
    "LocalExecutor",
    "ModelGrid",
    "RayExecutor",
    "SQLiteLedger",
    "Solution",
    "allocate",
    "constrained",
    "delay_help",
    "evaluate_policy",
    "expected_usage",
    "frontier",
    "hard_cap_price",
    "read_sweep",
    "reward_search",
    "simulate",
    "solve",
    "solve_memory",
    "solve_penalized",
    "sweep",
    "usage_distribution",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'selfreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
