"""`selfreg fit`: from logs to a plan, labels and a report, optionally with a helper."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfreg._util.files import atomic_folder
from selfreg.cli import options
from selfreg.cli.estimate import abstraction, estimate, uses_score
from selfreg.cli.forecasting import add_forecast, show_forecast
from selfreg.cli.import_ import import_logs
from selfreg.cli.label import label
from selfreg.cli.prices import parse_prices
from selfreg.cli.reading import LogSource, reads_logs
from selfreg.cli.solve import show, solve
from selfreg.cli.terminal import say, stage
from selfreg.cli.train import History, Model, Usage, check_usage, train_helper, train_prm
from selfreg.helper import HelperConfig
from selfreg.helper.models import AUTO, KNOWN
from selfreg.prm import EncoderConfig, PRMConfig
from selfreg.report import write_report
from selfreg.runs import MARKER, RunFolder

Form = Annotated[
    str | None,
    typer.Option(
        help=f"Train a helper of this form: {', '.join((AUTO, *KNOWN))} (docs/helper-settings.md).",
        show_default=False,
    ),
]


@reads_logs
def command(
    source: LogSource,
    out: options.Out,
    state: options.State = None,
    classes: options.Classes = None,
    budget: options.Budget = "5",
    prm: options.Prm = None,
    targets: Annotated[
        str, typer.Option(metavar="TARGETS", help="What the PRM learns from: outcomes, step labels (labels), or both.")
    ] = PRMConfig.targets,
    bins: options.Bins = 5,
    kappa: options.Kappa = 0.0,
    cost: options.Cost = None,
    helper: Annotated[bool, typer.Option("--helper", help="Also train a helper (extra `ml`).")] = False,
    model: Model = None,
    history: History = EncoderConfig.history,
    form: Form = None,
    usage: Usage = None,
    price: options.Price = None,
    worth: options.Worth = None,
    minutes: options.Minutes = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> dict[str, Any]:
    """From logs to a plan: import, estimate, solve, label, report."""
    limit, charges = options.integers("--budget", budget), options.costs(cost)
    prices = parse_prices(price, worth, minutes)
    check_usage(usage)
    wanted = helper or form is not None or usage is not None
    settings = _helper_settings(form, model, history, seed) if wanted else None
    seconds: dict[str, float] = {}
    with atomic_folder(out, MARKER, overwrite) as folder:
        run = RunFolder(folder)
        with stage("import", seconds):
            with_prm = bool(kappa or prm or targets != PRMConfig.targets or uses_score(state))
            trajectories = import_logs(run, source, need_outcomes=not with_prm)
        if with_prm:
            with stage("train PRM", seconds):
                kind = prm or PRMConfig.kind
                config = PRMConfig(kind=kind, targets=targets, model=model, history=history, seed=seed)
                train_prm(run, trajectories, config)
        with stage("estimate", seconds):
            states = abstraction(run, trajectories, state, classes, bins=bins)
            estimated = estimate(run, trajectories, states, kappa, charges)
        with stage("solve", seconds):
            solution = solve(run, trajectories, estimated, limit, samples, seed)
        with stage("label", seconds):
            labels = label(run, trajectories, estimated, solution)
        prices = prices.of_help(estimated.mdp.actions[1:])
        if settings is not None:
            settings = prices.of_helper(settings)
            with stage("train helper", seconds):
                settings = train_helper(run, labels, settings, usage=usage)
        with stage("forecast", seconds):
            add_forecast(run, trajectories, estimated, limit, settings, prices, seed)
        with stage("report", seconds):
            write_report(run)
        summary = run.summary()
    show_forecast(summary)
    show(summary)
    say(f"{sum(seconds.values()):.1f} s ({', '.join(f'{name} {s:.1f}' for name, s in seconds.items())})")
    say(f"report: {out / 'report.html'}")
    return {"run": out, "report": out / "report.html", "seconds": seconds} | summary


def _helper_settings(form: str | None, model: str | None, history: int, seed: int) -> HelperConfig:
    """Settings of the helper; ValueError for an unknown form, before anything runs."""
    return HelperConfig(model=model, history=history, seed=seed, form=HelperConfig.form if form is None else form)
