"""When should an agent ask for help, if help is limited?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfreg._util.parallel import LocalExecutor, RayExecutor
from selfreg.mdp import InterventionMDP
from selfreg.planning.allocation import Allocation, allocate
from selfreg.planning.constraints import ConstrainedMixture, constrained
from selfreg.planning.frontiers import Frontier, RewardSearch, StationaryMixture, frontier, reward_search
from selfreg.planning.hard import solve, solve_memory
from selfreg.planning.solution import ConvergenceError, Solution, StartSolution
from selfreg.sweeps.runner import Sweep, read_sweep, sweep
from selfreg.sweeps.sources import ModelGrid

if TYPE_CHECKING:
    from selfreg.helper import Decision, Helper
    from selfreg.planning.evaluation import PolicyValue, evaluate_policy
    from selfreg.planning.hard_cap import HardCapPrice, hard_cap_price
    from selfreg.planning.penalized import PenalizedSolution, solve_penalized
    from selfreg.planning.robust import L1, Intervals, RobustSolution
    from selfreg.planning.simulation import Simulation, simulate
    from selfreg.planning.usage import expected_usage, usage_distribution
    from selfreg.runtime.ledger import Ledger, SQLiteLedger

from selfreg._version import __version__

# Public name -> module, imported when first used: torch, pyarrow and the like stay out of `import selfreg`.
_LAZY = {
    "Decision": "selfreg.helper",
    "HardCapPrice": "selfreg.planning.hard_cap",
    "Helper": "selfreg.helper",
    "Ledger": "selfreg.runtime.ledger",
    "Intervals": "selfreg.planning.robust",
    "L1": "selfreg.planning.robust",
    "PenalizedSolution": "selfreg.planning.penalized",
    "PolicyValue": "selfreg.planning.evaluation",
    "RobustSolution": "selfreg.planning.robust",
    "SQLiteLedger": "selfreg.runtime.ledger",
    "Simulation": "selfreg.planning.simulation",
    "evaluate_policy": "selfreg.planning.evaluation",
    "expected_usage": "selfreg.planning.usage",
    "hard_cap_price": "selfreg.planning.hard_cap",
    "simulate": "selfreg.planning.simulation",
    "solve_penalized": "selfreg.planning.penalized",
    "usage_distribution": "selfreg.planning.usage",
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
    "__version__",
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
