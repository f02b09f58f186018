"""`selfreg train`: the PRM, before the estimate, and the helper, after the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from selfreg._util import validate
from selfreg._util.bootstrap import as_texts
from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.cli.forecasting import prices_of, renew_forecast
from selfreg.cli.prices import NO_PRICES, Prices, parse_prices
from selfreg.cli.terminal import remark
from selfreg.data import Trajectory
from selfreg.helper import HelperConfig, Labels
from selfreg.helper.models import AUTO
from selfreg.prm import PRM, PRMConfig
from selfreg.runs import RunFolder

Model = Annotated[
    str | None,
    typer.Option("--model", help="Model folder or hub id to start from; by default a small one from scratch."),
]
History = Annotated[int, typer.Option(help="Earlier steps shown to the PRM and the helper before the current one.")]

Usage = Annotated[
    float | None,
    typer.Option(
        metavar="UNITS",
        help="Mean units of budget an episode, such as 0.7: a helper that decides with chance between two thresholds.",
    ),
]

# What a helper may fall short of the usage asked for without a note.
LEAST_SHORT = 0.005
# A killed `selfreg train` goes on from here.
CHECKPOINT, HELPER_CHECKPOINT = "prm.checkpoint", "helper.checkpoint"


def train_prm(
    run: RunFolder,
    trajectories: Sequence[Trajectory],
    config: PRMConfig,
    plain: Sequence[str] | None = None,
    baselines: bool = True,
) -> PRM:
    """Train and save the PRM, and note how it compares with the baselines (`plain`: which; by default all)."""
    with require_extra("ml", "training a PRM"):
        from selfreg.prm import train_prm as train
        from selfreg.prm import with_baselines
    checkpoint = run.path / CHECKPOINT
    prm = train(trajectories, config, checkpoint=checkpoint)
    if baselines:
        prm = with_baselines(prm, trajectories, config, plain)
        remark(f"note: {prm.facts['baselines']['words']}")
    prm.save(run.path / "prm")
    checkpoint.unlink(missing_ok=True)
    run.record("prm", {**asdict(config), "figures": prm.figures})
    return prm


def train_helper(
    run: RunFolder, labels: Labels, config: HelperConfig, calibrated: bool = False, usage: float | None = None
) -> HelperConfig:
    """Train and save the helper, with thresholds if `calibrated`, or at a mean number of units used (`usage`).

    Returns the configuration with the form, and `fill`, that were kept.
    """
    with require_extra("ml", "training a helper"):
        from selfreg.helper import calibrate, ration
        from selfreg.helper import train_helper as train
    if len(labels.actions) == 1:
        raise ValueError("no step of these logs was helped; expected a help type that a helper can request")
    helper = train(labels, config, checkpoint=run.path / HELPER_CHECKPOINT, usage=usage)
    if calibrated:
        helper = calibrate(helper, labels)
    if usage is None:
        helper.save(run.path / "helper")
    else:
        policy = ration(helper, labels, usage)
        policy.save(run.path / "helper")
        say_usage(policy.requests, usage)
    for left in run.path.glob(f"{HELPER_CHECKPOINT}*"):
        left.unlink()
    fill = bool(helper.figures.get("fill", config.fill))
    kept = replace(config, form=helper.classifier.form, fill=fill)
    run.record("helper", {**asdict(kept), "calibrated": calibrated, "usage": usage, "figures": helper.figures})
    if config.form == AUTO:
        how = f"{kept.form} with fill" if fill else kept.form
        remark(f"note: the helper is of the form {how}, which is forecast to do best in new tasks")
    return kept


def check_usage(usage: float | None, calibrated: bool = False, part: str = "helper") -> None:
    """ValueError for a mean number of units that cannot be, before anything runs."""
    if usage is not None and part != "helper":
        raise ValueError(f"--usage is of a helper; got --part {part}")
    if usage is not None:
        validate.nonneg_float("--usage", usage)
    if usage is not None and calibrated:
        raise ValueError("--usage and --calibrate both choose thresholds; expected one of them")


def say_usage(forecast: float, wanted: float) -> None:
    """Note where the helper cannot use what was asked for."""
    if forecast < wanted - LEAST_SHORT:
        remark(f"note: --usage {wanted:g}: requesting help wherever it can, the helper uses {forecast:.2f} units")


def keep_history(run: RunFolder, settings: dict[str, Any], part: str) -> dict[str, Any]:
    """`settings` with the history that the run was trained with, unless they name one.

    In a run that was collected in an environment it is 0 before the first training: there a text describes its state
    completely.
    """
    recorded = run.settings()
    for stage in (part, "prm", "helper"):
        if "history" in recorded.get(stage, {}):
            return {"history": recorded[stage]["history"], **settings}
    return {"history": 0, **settings} if "collect" in recorded else settings


def keep_price(run: RunFolder, config: HelperConfig) -> HelperConfig:
    """`config` with the price that the helper was trained at; with that of the run, where the helper was given none."""
    recorded = run.settings().get("helper", {}).get("price", config.price)
    given = isinstance(recorded, dict)
    return (NO_PRICES if given else prices_of(run)).of_helper(replace(config, price=recorded))


def drop_old_results(run: RunFolder, prices: Prices) -> None:
    """Renew the forecast, and drop the results on held-out tasks, where they are of the helper that was replaced."""
    summary = run.summary() if run.has("summary.json") else {}
    if summary.pop("evaluation", None) is not None:
        run.write_summary(summary)
        remark("note: the results on held-out tasks were of the old helper; `selfreg evaluate` makes new ones")
    if any(one["policy"] == "helper" for one in summary.get("forecast", ())):
        renew_forecast(run, prices)
        remark("note: the forecast was made anew, with this helper; `selfreg report` shows it")


@options.from_configs(prm=PRMConfig, helper=HelperConfig)
def command(
    run: options.RunArgument,
    settings: dict[str, Any],
    part: Annotated[str, typer.Option(help="prm or helper.")] = "helper",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Thresholds with which the helper spends what the plan spends.")
    ] = False,
    usage: Usage = None,
    price: options.Price = None,
    worth: options.Worth = None,
    baselines: Annotated[bool, typer.Option(help="Also train the baselines and compare the PRM with them.")] = True,
) -> dict[str, Any]:
    """Train the run's PRM or helper; figures are those on held-out tasks.

    Without --history, a run that was trained before keeps its history; one that was collected here starts with 0.
    Without --price, a run keeps its price: by default each unit of help must add 0.02 of success.
    A training that was killed goes on where it was, if it is started again with the same options.
    """
    check_usage(usage, calibrate, part)
    folder, prices = RunFolder.open(run), parse_prices(price, worth, None)
    if price and part != "helper":
        raise ValueError(f"--price is of a helper; got --part {part}")
    if part == "prm":
        config = options.configure(PRMConfig, keep_history(folder, settings, part), part)
        figures = train_prm(folder, folder.trajectories(), config, baselines=baselines).figures
    elif part == "helper":
        from selfreg.helper import label

        config = options.configure(HelperConfig, keep_history(folder, settings, part), part)
        estimated = folder.model()
        known = prices_of(folder)
        prices = prices.of_help(estimated.mdp.actions[1:])._replace(minutes=known.minutes) if price else known
        config = prices.of_helper(config) if price else keep_price(folder, config)
        labels = label(folder.trajectories(), estimated, folder.solution(estimated))
        train_helper(folder, labels, config, calibrate, usage)
        drop_old_results(folder, prices)
        figures = folder.settings()["helper"]["figures"]
    else:
        raise ValueError(f"--part {part!r}: expected prm or helper")
    for name, text in as_texts(figures).items():
        remark(f"{name} {text}")
    return {"run": folder.path, "part": part, "figures": figures}
