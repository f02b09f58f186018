"""`selfreg ope`: what another policy would have done, from logs that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.cli.estimate import abstraction, uses_score
from selfreg.cli.import_ import check_marks, load_logs
from selfreg.cli.reading import LogSource, reads_logs
from selfreg.cli.terminal import remark
from selfreg.data import Trajectory
from selfreg.data.detection import AUTO
from selfreg.decisions import DecisionPolicy, spread_requests
from selfreg.estimate import StateAbstraction
from selfreg.evaluate import Always, EveryN, LastK, Never, Plan, ope
from selfreg.evaluate.logged import Propensity
from selfreg.evaluate.off_policy import LEAST_EFFECTIVE
from selfreg.evaluate.policies import HELPER, PLAN
from selfreg.evaluate.policy_comparison import median_length
from selfreg.runs import MARKER, RunFolder
from selfreg.runtime import logged_propensity

RULES = ("never", "always", "last-k", "every-n")
TRAINED = (PLAN, HELPER)


class Request(NamedTuple):
    """What `--policy` is made of."""

    name: str
    budget: int | None
    help: str | None


def make_policy(
    wanted: Request, run: RunFolder | None, episodes: Sequence[Trajectory], costs: dict[str, int] | None
) -> DecisionPolicy:
    """The policy that the options name; rules take lengths from `episodes`, and costs where there are none."""
    if wanted.name not in (*RULES, *TRAINED):
        raise ValueError(f"--policy {wanted.name}: unknown; expected one of {', '.join((*RULES, *TRAINED))}")
    if wanted.name == "never":
        return Never()
    if wanted.name in TRAINED:
        return _trained(wanted, run)
    help_type = _help_type(wanted.help, episodes)
    if wanted.name == "always":
        return Always(help_type)
    charges = {step.charge for one in episodes for step in one.steps if step.intervention == help_type}
    cost = (costs or {}).get(help_type, max(charges))
    horizon, requests = median_length(episodes), max(1, _budget(wanted) // max(1, cost))
    if wanted.name == "last-k":
        return LastK(help_type, requests, horizon)
    return EveryN(help_type, spread_requests(requests, horizon))


def _budget(wanted: Request) -> int:
    if wanted.budget is None:
        raise ValueError(f"--policy {wanted.name} needs --budget")
    return wanted.budget


def _help_type(name: str | None, episodes: Sequence[Trajectory]) -> str:
    """The help type that a rule requests: that of `--help-type`, or the only one in the logs."""
    logged = sorted({step.intervention for one in episodes for step in one.steps if step.intervention is not None})
    if not logged:
        raise ValueError("the logs have no help; only --policy never can be evaluated")
    if name is None and len(logged) > 1:
        raise ValueError(f"the logs have several help types; expected --help-type, one of {', '.join(logged)}")
    if name is not None and name not in logged:
        raise ValueError(f"--help-type {name}: the logs have {', '.join(logged)}")
    return name or logged[0]


def _trained(wanted: Request, run: RunFolder | None) -> DecisionPolicy:
    """Plan or helper of the run."""
    if run is None:
        raise ValueError(f"--policy {wanted.name} needs a run folder before the logs")
    if wanted.help is not None:
        raise ValueError(f"--help-type {wanted.help}: the {wanted.name} has its own help types")
    budget = _budget(wanted)
    if wanted.name == PLAN:
        model = run.model()
        solution = run.solution(model)
        if len(solution.budget) != 1 or budget > solution.budget[0]:
            raise ValueError(f"--budget {budget}: {run.path} is solved up to {', '.join(map(str, solution.budget))}")
        return Plan.of(model, solution)
    with require_extra("ml", "--policy helper"):
        from selfreg.helper import load_policy
    folder = run.need("helper", "train --part helper")
    helper = load_policy(folder, run.prm() if run.has("prm") else None).without_memory()
    if len(helper.limits) != 1:
        raise ValueError(f"the helper spends {len(helper.limits)} budgets; expected one")
    return helper


def _states(
    run: RunFolder | None, episodes: Sequence[Trajectory], state: str | None, classes: Path | None
) -> StateAbstraction:
    """States of the model and of estimated propensities: those of the run, or of the options."""
    if run is not None:
        if state is not None or classes is not None:
            raise ValueError(f"--state and --classes are those of {run.path}; expected neither with a run folder")
        return run.model().abstraction
    if uses_score(state):
        raise ValueError("--state with `score` needs the PRM of a run; expected a run folder")
    return abstraction(RunFolder(Path()), episodes, state, classes)


def _own_episodes(run: RunFolder, policy: str, source: LogSource) -> list[Trajectory]:
    """Episodes of the run, with a note where its plan or helper was made from them."""
    if source.words or source.options.roles or source.format != AUTO:
        raise ValueError("options of reading (--map, --where, ...) are for logs; expected logs after the run folder")
    if policy in TRAINED:
        remark(f"note: the {policy} was made from these episodes; give other logs after the run to hold them out")
    episodes = run.trajectories()
    ended = [one for one in episodes if one.outcome is not None]
    if len(ended) < len(episodes):
        remark(f"note: left out {len(episodes) - len(ended)} of {len(episodes)} episodes, which have no outcome")
    return ended


def _costs(run: RunFolder | None, episodes: Sequence[Trajectory]) -> dict[str, int] | None:
    """Costs of the run's model, of the help types in these logs; as logged where there is no run."""
    if run is None:
        return None
    costs = run.model().mdp.costs
    several = next((cost for cost in costs.values() if len(cost) != 1), None)
    if several is not None:
        raise ValueError(f"{run.path} has {len(several)} budgets; expected one")
    logged = {step.intervention for one in episodes for step in one.steps if step.intervention is not None}
    if unknown := sorted(logged - set(costs)):
        raise ValueError(f"the logs have help of type {unknown[0]!r}, which {run.path} does not know")
    return {name: cost[0] for name, cost in costs.items() if name in logged}


def _load_episodes(run: RunFolder | None, policy: str, source: LogSource) -> list[Trajectory]:
    """Episodes of the logs, else those of the run."""
    if run is not None and not source.paths:
        return _own_episodes(run, policy, source)
    loaded = load_logs(source)
    check_marks(source, loaded.trajectories)
    for note in loaded.notes:
        remark(f"note: {note}")
    ended = [one for one in loaded.trajectories if one.outcome is not None]
    missing = len(loaded.trajectories) - len(ended)
    if missing and not source.skip_bad:
        raise ValueError(
            f"{missing} of {len(loaded.trajectories)} episodes have no outcome: --skip-bad leaves them out"
        )
    if missing:
        remark(f"note: skipped {missing} of {len(loaded.trajectories)} episodes, which have no outcome")
    if not ended:
        raise ValueError("no episode has an outcome: nothing can be estimated")
    return ended


def _recorded(episodes: Sequence[Trajectory]) -> Propensity | None:
    """Propensities that a recorder wrote for every step, where it left something to chance."""
    chances = {one.fields.get(f"propensity {t}") for one in episodes for t in range(len(one.steps))}
    return None if None in chances or chances <= {1.0} else logged_propensity


@reads_logs
def command(
    source: Annotated[
        LogSource,
        typer.Argument(metavar="RUN|LOGS", help="A run folder (its own episodes), logs, or a run and other logs."),
    ],
    policy: Annotated[str, typer.Option(help=f"{', '.join(RULES)}; {' or '.join(TRAINED)} of the run.")],
    budget: Annotated[int | None, typer.Option(help="Budget of an episode; without a limit by default.", min=0)] = None,
    help_type: Annotated[str | None, typer.Option(help="Help type of a rule; by default the only one.")] = None,
    propensity: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Episode field with the chance of help. Default: as recorded at run time, else frequencies by state.",
        ),
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Bound of the weights, at least 1.")] = None,
    least_effective: Annotated[
        float, typer.Option(help="Effective tasks below which there is no estimate; 0 always estimates.", min=0)
    ] = LEAST_EFFECTIVE,
    state: options.State = None,
    classes: options.Classes = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Estimate success and help used of a policy from logs of others (off-policy evaluation)."""
    first = Path(source.paths[0])
    run = RunFolder(first) if (first / MARKER).is_file() else None
    if run is not None:
        source = source._replace(paths=source.paths[1:])
    episodes = _load_episodes(run, policy, source)
    wanted = Request(policy, budget, help_type)
    costs = _costs(run, episodes)
    made, states = make_policy(wanted, run, episodes, costs), _states(run, episodes, state, classes)
    found = ope(
        episodes, made, budget=budget, propensity=propensity or _recorded(episodes), abstraction=states, costs=costs,
        clip=clip, least_effective=least_effective, seed=seed,
    )  # fmt: skip
    if as_json:
        print(json.dumps({"policy": policy, "help": getattr(made, "help", None), "budget": budget} | found.to_json()))
        return
    print(f"{policy}, {'no budget' if budget is None else f'budget {budget}'}: {found.overlap.episodes} episodes")
    for line in found.lines():
        print(line)
