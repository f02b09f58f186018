"""`selfreg sweep`: many models from a TOML file, to a Parquet data set and plots."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from selfreg._util.files import atomic_write
from selfreg._util.parallel import LocalExecutor, RayExecutor
from selfreg.cli.estimate import abstraction
from selfreg.cli.terminal import remark, say, table
from selfreg.data import Trajectory
from selfreg.estimate import EstimatedModel, StateAbstraction, estimate_mdp
from selfreg.estimate.score_bins import from_description
from selfreg.runs import RunFolder
from selfreg.sweeps.results import Sweep
from selfreg.sweeps.runner import sweep
from selfreg.sweeps.sources import ModelGrid

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHOWN = 20
Number = int | list[int]


class SweepTable(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with every model."""

    out: str
    budget: Number | None = None
    penalties: list[float | list[float]] | None = None
    executor: str = "local"
    threads: int | None = None
    address: str | None = None
    on_error: str = "raise"


class ModelsTable(msgspec.Struct, forbid_unknown_fields=True):
    """Saved models."""

    folder: str


class GridTable(msgspec.Struct, forbid_unknown_fields=True):
    """Models estimated from one run, one for each combination of settings."""

    run: str
    kappa: list[float] = []
    state: list[str] = []
    classes: str | None = None
    cost: dict[str, list[Number]] = {}


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    sweep: SweepTable
    models: ModelsTable | None = None
    grid: GridTable | None = None


def read_config(path: Path) -> Config:
    """Settings from a TOML file; ValueError naming the file and the entry. Paths are relative to the file."""
    try:
        with open(path, "rb") as stream:
            config = msgspec.convert(tomllib.load(stream), Config)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {error}") from None
    if (config.sweep.budget is None) == (config.sweep.penalties is None):
        raise ValueError(f"{path}: expected one of the entries budget and penalties in [sweep]")
    if (config.models is None) == (config.grid is None):
        raise ValueError(f"{path}: expected one of the tables [models] and [grid]")
    return config


def _source(config: Config, base: Path) -> Any:
    if config.models is not None:
        return base / config.models.folder
    assert config.grid is not None
    run, grid = base / config.grid.run, config.grid
    RunFolder.open(run)
    classes = None if grid.classes is None else str(base / grid.classes)
    parameters: dict[str, Sequence[Any]] = {
        "kappa": grid.kappa,
        "state": grid.state,
        **{f"cost.{name}": [_cost(cost) for cost in costs] for name, costs in grid.cost.items()},
    }
    chosen = {name: values for name, values in parameters.items() if values}
    return ModelGrid(partial(estimated, str(run.absolute()), classes), chosen)


def _cost(cost: Number) -> int | tuple[int, ...]:
    return tuple(cost) if isinstance(cost, list) else cost


def estimated(run: str, classes: str | None, **parameters: Any) -> EstimatedModel:
    """Model of a run's trajectories under the settings of `selfreg estimate`; costs not named are as logged."""
    trajectories, prm = _logs(run)
    costs = {name.removeprefix("cost."): cost for name, cost in parameters.items() if name.startswith("cost.")}
    settings = RunFolder(run).settings().get("estimate", {})
    logged = {name: tuple(cost) for name, cost in settings.get("costs", {}).items()}
    return estimate_mdp(
        trajectories,
        _states(RunFolder(run), parameters.get("state"), classes, settings, trajectories),
        kappa=parameters.get("kappa", settings.get("kappa", 0.0)),
        prm=prm,
        costs={**logged, **costs} or None,
    )


def _states(
    run: RunFolder,
    state: str | None,
    classes: str | None,
    settings: Mapping[str, Any],
    trajectories: Sequence[Trajectory],
) -> StateAbstraction:
    if state is None and "abstraction" in settings:
        return from_description(settings["abstraction"], run.prm)
    needed = state is not None and "class" in state.split(",")
    return abstraction(run, trajectories, state, Path(classes) if classes and needed else None)


@lru_cache(maxsize=1)
def _logs(run: str) -> tuple[list[Trajectory], Any]:
    """Trajectories and PRM of a run, read once in a process."""
    folder, prm = RunFolder(run), None
    if folder.has("prm"):
        from selfreg.prm import PRM

        prm = PRM.load(folder.path / "prm")
    return folder.trajectories(), prm


def _executor(settings: SweepTable) -> Any:
    if settings.executor == "local":
        return LocalExecutor(settings.threads)
    if settings.executor == "ray":
        return RayExecutor(settings.address)
    raise ValueError(f'executor is {settings.executor!r}; expected "local" or "ray"')


def show(found: Sweep) -> None:
    """Print success and help used without help and at the largest budget, for the first models."""
    value, usage = found.success.reshape(len(found), -1), found.usage.reshape(len(found), -1, found.n_budgets)
    rows = []
    for i in range(min(len(found), SHOWN)):
        named = [str(values[i]) for values in found.parameters.values()] or [found.names[i] or str(found.indices[i])]
        spent = " ".join(f"{u:.3f}" for u in usage[i, -1])
        rows.append([*named, f"{value[i, 0]:.4f}", f"{value[i, -1]:.4f}", spent])
    ends = ["no help", f"up to {', '.join(map(str, found.budget))}"]
    if found.penalties is not None:
        ends = [f"penalty {', '.join(f'{price:g}' for price in found.penalties[i])}" for i in (0, -1)]
    columns = [*(found.parameters or ["model"]), *ends, "help used"]
    table(f"planned, {len(found)} models", columns, rows)
    if len(found) > SHOWN:
        remark(f"... and {len(found) - SHOWN} more")
    for place, error in list(found.errors.items())[:SHOWN]:
        remark(f"model {place}: {error}")
    if found.errors:
        remark(f"{len(found.errors)} of {len(found)} models could not be solved")


def draw(found: Sweep, out: Path) -> list[str]:
    """Write the plots and return the names of their files."""
    from selfreg.report import plots

    if len(found.budget) != 1 or len(found) == len(found.errors):
        return []
    drawings = {"value_by_budget": plots.values_by_budget(found.value, found.parameters, found.names)}
    for name, values in found.parameters.items():
        if len(set(values)) > 1:
            drawings[f"effect_of_{name.replace(os.sep, '_')}"] = plots.effect(name, values, found.value)
    for name, drawing in drawings.items():
        with atomic_write(out / f"{name}.svg") as temporary:
            temporary.write_text(drawing, encoding="utf-8")
    return [f"{name}.svg" for name in drawings]


def command(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG.toml", help="Settings of the sweep; docs/sweep-files.md lists the entries."),
    ],
) -> dict[str, Any]:
    """Solve many models. After a kill, the same command solves the missing ones."""
    settings, base = read_config(config), config.parent
    out = base / settings.sweep.out
    budget = settings.sweep.budget
    found = sweep(
        _source(settings, base),
        tuple(budget) if isinstance(budget, list) else budget,
        penalties=settings.sweep.penalties,
        executor=_executor(settings.sweep),
        out=out,
        on_error=settings.sweep.on_error,  # type: ignore[arg-type]  # checked by sweep
    )
    show(found)
    drawn = draw(found, out)
    say(f"results: {out} ({', '.join(['part-*.parquet', *drawn])})")
    value = found.success.reshape(len(found), -1)
    ends = {"success_without_help": value[:, 0], "success": value[:, -1]}
    named = {"results": out, "models": len(found), "errors": found.errors, "plots": drawn}
    return named | {"parameters": found.parameters} | ends
