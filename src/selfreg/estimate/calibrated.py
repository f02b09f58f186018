"""Robust plans that are only as cautious as needed: the radius of the sets is calibrated on resampled logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.data import Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.dataset import Costs, Fitted, ResamplingDataset
from selfreg.estimate.resample import Draw, Method, draw_models
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.hard import solve
from selfreg.planning.robust import L1

# Candidate radii of a row in units of 1 / sqrt(visits).
SCALES = (0.0, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2, 1.6, 2.2, 3.0)


class CalibratedL1(NamedTuple):
    """Sets for `solve(..., robust=...)`, and how they were chosen.

    Attributes
    ----------
    sets : L1
        For the model estimated from the same logs.
    scale : float
        Radius of a row in units of 1 / sqrt(visits).
    share : float
        Share of the samples in which the realised value was at least the robust one.
    """

    sets: L1
    scale: float
    share: float


def calibrated_l1(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    confidence: float = 0.9,
    method: Method = "bootstrap",
    samples: int = 100,
    seed: int = 0,
    costs: Costs | None = None,
) -> CalibratedL1:
    """The smallest L1 sets whose robust start value is a lower bound with the given confidence.

    `L1(confidence=...)` takes the worst case of all rows at once: a valid bound, but a loose one. Here the radius is
    scale / sqrt(visits). The scale is the smallest of a grid for which the robust plan of a resampled log realises, in
    the model that the log was drawn from (as in `uncertainty`), at least its robust value at the largest budget, in a
    share of `confidence` of the samples. The bound holds for the start value only, not for single rows.

    Parameters
    ----------
    trajectories, abstraction, budget, method, seed, costs
        As for `uncertainty`.
    confidence : float
        In (0, 1).
    samples : int
        At least 2.

    Raises
    ------
    ValueError
        As `uncertainty`.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, calibrated_l1, estimate_mdp
    >>> logs = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(50)]
    >>> sets = calibrated_l1(logs, Features(["step"]), 0, samples=40).sets
    >>> model = estimate_mdp(logs, Features(["step"]))
    >>> bool(0.3 < model.success(selfreg.solve(model.mdp, 0, robust=sets))[0] < 0.5)
    True
    """
    confidence = validate.confidence("confidence", confidence)
    samples = validate.integer("samples", samples, 2)
    if method not in ("bootstrap", "dirichlet"):
        raise ValueError(f'method is {method!r}; expected "bootstrap" or "dirichlet"')
    dataset = ResamplingDataset(trajectories, abstraction, 0.0, None, costs)
    drawn = list(draw_models(dataset, method, samples, np.random.default_rng(seed)))
    holds = np.array([True])
    for scale in SCALES:
        holds = np.array([_holds(draw, budget, scale) for draw in drawn])
        if holds.mean() >= confidence:
            break
    return CalibratedL1(scale_sets(dataset.fit().mdp, scale), scale, float(holds.mean()))


def scale_sets(mdp: InterventionMDP, scale: float) -> L1:
    """L1 sets of radius scale / sqrt(visits), at most 2; of 2 for a row without visits, unless the scale is 0."""
    assert mdp.visits is not None
    radius: dict[str, npt.NDArray[np.float64]] = {
        name: np.minimum(scale / np.sqrt(np.maximum(visits, 1e-12)), 2.0) for name, visits in mdp.visits.items()
    }
    return L1(radius=radius)


def _holds(draw: Draw, budget: int | tuple[int, ...], scale: float) -> bool:
    """Whether the robust value of the drawn log is realised at the largest budget."""
    robust = solve(draw.estimated.mdp, budget, robust=scale_sets(draw.estimated.mdp, scale))
    realised = evaluate_policy(draw.true.mdp, robust.policy).success
    return _last(draw.true, realised) >= _last(draw.estimated, robust.value) - 1e-12


def _last(model: Fitted, value: npt.NDArray[np.float64]) -> float:
    return float(model.at_start(value).ravel()[-1])
