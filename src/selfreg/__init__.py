"""When should an agent ask for help, if help is limited?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg.allocate import Allocation, allocate
from selfreg.constrained import ConstrainedMixture, constrained
from selfreg.frontier import Frontier, RewardSearch, StationaryMixture, frontier, reward_search
from selfreg.mdp import InterventionMDP
from selfreg.solution import ConvergenceError, Solution, StartSolution
from selfreg.solve import solve, solve_memory
from selfreg.sweep import LocalExecutor, ModelGrid, RayExecutor, Sweep, read_sweep, sweep

if TYPE_CHECKING:
    from selfreg.hard_cap import HardCapPrice, hard_cap_price
    from selfreg.helper import Decision, Helper
    from selfreg.ledger import Ledger, SQLiteLedger
    from selfreg.penalized import PenalizedSolution, solve_penalized
    from selfreg.policy import expected_usage, usage_distribution
    from selfreg.policy_value import PolicyValue, evaluate_policy
    from selfreg.robust import L1, Intervals, RobustSolution
    from selfreg.simulation import Simulation, simulate

__version__ = "0.1.0.dev0"

# Public name -> module, imported when first used: torch, pyarrow and the like stay out of `import selfreg`.
_LAZY = {
    "Decision": "selfreg.helper",
    "HardCapPrice": "selfreg.hard_cap",
    "Helper": "selfreg.helper",
    "Ledger": "selfreg.ledger",
    "Intervals": "selfreg.robust",
    "L1": "selfreg.robust",
    "PenalizedSolution": "selfreg.penalized",
    "PolicyValue": "selfreg.policy_value",
    "RobustSolution": "selfreg.robust",
    "SQLiteLedger": "selfreg.ledger",
    "Simulation": "selfreg.simulation",
    "evaluate_policy": "selfreg.policy_value",
    "expected_usage": "selfreg.policy",
    "hard_cap_price": "selfreg.hard_cap",
    "simulate": "selfreg.simulation",
    "solve_penalized": "selfreg.penalized",
    "usage_distribution": "selfreg.policy",
}

__all__ = [
    "L1",
    "Allocation",
    "ConstrainedMixture",
    "ConvergenceError",
    "Decision",
    "Frontier",
    "HardCapPrice",
    "Helper",
    "Intervals",
    "InterventionMDP",
    "Ledger",
    "LocalExecutor",
    "ModelGrid",
    "PenalizedSolution",
    "PolicyValue",
    "RayExecutor",
    "RewardSearch",
    "RobustSolution",
    "SQLiteLedger",
    "Simulation",
    "Solution",
    "StartSolution",
    "StationaryMixture",
    "Sweep",
    "allocate",
    "constrained",
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
