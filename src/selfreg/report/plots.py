"""Plots of the report, as inline SVG."""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selfreg._util.extras import require_extra
from selfreg.evaluate.policies import HELPER, PLAN, POLICIES
from selfreg.report import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from selfreg.estimate import Coverage

Floats = npt.NDArray[np.float64]

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
# Colour and marker of every policy that is in plots; others are in the tables only.
STYLE: dict[str, tuple[str, str]] = {
    one.name: (one.color, one.marker) for one in POLICIES if one.color is not None and one.marker is not None
}
# Always-help is drawn as a level where it uses this many times the help of all others.
FAR = 2.0
# Points from which a picture is not shrunk to a phone.
WIDE = 450
# Of the lines of the first picture; their markers differ too.
COLOURS = ("#57606a", "#c2410c", "#1d4ed8", "#047857", "#7e22ce", "#a16207", "#0e7490", "#be185d")
MARKERS = ("s", "o", "D", "^", "v", "P", "X", "<")
# Colours and markers of up to seven lines that have no names of their own.
LINES = [STYLE[name] for name in (HELPER, PLAN, "PRM threshold", "random", "first-k", "never", "always")]


def outlooks(rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    """Forecast success against forecast requests, with intervals, a line for each policy and help type."""
    figure, axes = _figure(1, 1, (5.0, 4.0))  # narrow, so that a phone shows its letters
    for (name, points), color, marker in zip(_lines(rows, chosen), COLOURS, MARKERS, strict=False):
        known = sorted((one for one in points if one["identified"]), key=lambda one: float(one["requests"]["mean"]))
        for one in points:
            if not one["identified"]:
                low, high = (100 * one["success"][bound] for bound in ("low", "high"))
                axes.vlines(one["requests"]["mean"], low, high, color, alpha=0.4, linewidth=3)
        x = [one["requests"]["mean"] for one in known]
        y, low, high = (np.array([100 * one["success"][what] for one in known]) for what in ("mean", "low", "high"))
        errors = [(y - low).clip(0).tolist(), (high - y).clip(0).tolist()]
        axes.errorbar(
            x, y, yerr=errors, color=color, marker=marker, markersize=6, linewidth=1.4, elinewidth=0.9, label=name
        )
    place = chosen["requests"]["mean"], 100 * chosen["success"]["mean"]
    if not all(one["identified"] for one in rows):
        axes.vlines([], [], [], MUTED, alpha=0.4, linewidth=3, label=words.BOUNDS_ONLY)
    axes.scatter(*place, s=240, facecolors="none", edgecolors=INK, linewidths=1.4, label=words.RECOMMENDED)
    axes.set(xlabel=words.REQUESTS_A_TASK, ylabel=words.FORECAST_SUCCESS.format(100 * chosen["confidence"]))
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3, columnspacing=1.2)
    return _svg(figure, words.outlook_alt(rows, chosen))


def _lines(rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """At most as many policies as there are colours: going alone, the recommended one, helper and plan come first."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(words.policy_name(row), []).append(row)
    first = ("never", "helper", "plan", "always", "rule")
    best = {name: max(one["success"]["mean"] for one in points) for name, points in groups.items()}
    order = sorted(
        groups.items(),
        key=lambda item: (
            item[1][0]["policy"] != "never",
            item[0] != words.policy_name(chosen),
            first.index(item[1][0]["policy"]),
            -best[item[0]],
        ),
    )
    return order[: len(COLOURS)]


def value_by_budget(summary: Mapping[str, Any]) -> str:
    """Planned success, and planned usage, against one budget."""
    budgets = summary["budgets"]
    figure, (left, right) = _figure(1, 2, (9.0, 3.2))
    trust = summary.get("uncertainty")
    if trust:
        for axes, what in ((left, "success"), (right, "usage")):
            band = trust[what]
            axes.fill_between(budgets, band["low"], band["high"], color=STYLE["plan"][0], alpha=0.15, lw=0)
    if trust and trust["cross_fit"]:
        crossed = trust["cross_fit"]["crossed"]
        left.plot(budgets, crossed, color=STYLE["helper"][0], marker="v", linestyle="-.", label=words.OTHER_HALF)
    left.plot(budgets, summary["success"], color=STYLE["plan"][0], marker="o", label=words.PLANNED)
    for name, style in (("unhelped", ":"), ("helped", "--")):
        if summary[name]["success"] is not None:
            left.axhline(
                summary[name]["success"], color=MUTED, linestyle=style, linewidth=1, label=words.LOGGED.format(name)
            )
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    left.set(xlabel=words.BUDGET, ylabel=words.PLANNED_SUCCESS)
    right.plot(budgets, summary["usage"], color=STYLE["plan"][0], marker="o")
    right.set(xlabel=words.BUDGET, ylabel=words.PLANNED_HELP, ylim=(0, None))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, words.VALUE_ALT)


def success_by_usage(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Success against help used, with intervals, one line a policy; always-help is a level where it is far off."""
    figure, axes = _figure(1, 1, (9.0, 4.4))
    others = max((o["help"]["mean"] for o in outcomes if o["policy"] in STYLE and o["policy"] != "always"), default=0.0)
    for policy, (color, marker) in STYLE.items():
        points = sorted((o for o in outcomes if o["policy"] == policy), key=lambda o: o["help"]["mean"])
        if not points:
            continue
        x, y = ([o[what]["mean"] for o in points] for what in ("help", "success"))
        if policy == "always" and 0 < FAR * others < x[0]:
            label = words.ALWAYS.format(x[0])
            axes.axhspan(points[0]["success"]["low"], points[0]["success"]["high"], color=color, alpha=0.08, lw=0)
            axes.axhline(y[0], color=color, linestyle="--", linewidth=1, label=label)
            continue
        low, high = ([o["success"][bound] for o in points] for bound in ("low", "high"))
        errors = [np.subtract(y, low).clip(0).tolist(), np.subtract(high, y).clip(0).tolist()]
        axes.errorbar(
            x, y, yerr=errors, color=color, marker=marker, markersize=6, linewidth=1.5, elinewidth=0.8, label=policy
        )
    axes.set(xlabel=words.MEAN_HELP, ylabel=words.HELD_OUT_SUCCESS)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return _svg(figure, words.EVALUATION_ALT)


def forecasts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Predicted success and help of the plan, and realised ones with intervals, by budget."""
    figure, pair = _figure(1, 2, (9.0, 3.2))
    budgets = [row["budget"] for row in rows]
    for axes, what, name in ((pair[0], "success", "success"), (pair[1], "usage", "help used")):
        mean, low, high = (np.array([row[what][part] for row in rows]) for part in ("mean", "low", "high"))
        errors = [(mean - low).clip(0).tolist(), (high - mean).clip(0).tolist()]
        axes.errorbar(budgets, mean, yerr=errors, color=STYLE["plan"][0], marker="o", capsize=3, label=words.REALISED)
        predicted = [row[f"planned_{what}"] for row in rows]
        axes.plot(budgets, predicted, color=STYLE["helper"][0], marker="v", linestyle="--", label=words.PREDICTED)
        axes.set(xlabel=words.BUDGET, ylabel=words.PLAN_ON_OWN_TASKS.format(name))
        axes.xaxis.get_major_locator().set_params(integer=True)
    pair[0].legend(frameon=False, fontsize=9, loc="lower right")
    return _svg(figure, words.FORECASTS_ALT)


def help_by_step(share: Floats, budgets: Sequence[int]) -> str:
    """Share of labelled steps at which the plan requests help, by episode step (columns) and budget left (rows)."""
    figure, axes = _figure(1, 1, (8.0, 1.9 + 0.32 * len(budgets)))
    axes.grid(False)
    places = [np.arange(share.shape[1] + 1) + 0.5, np.arange(share.shape[0] + 1) - 0.5]  # steps from 1
    image = axes.pcolormesh(*places, share, cmap="Oranges", vmin=0, vmax=max(np.nanmax(share), 0.01))
    axes.set(xlabel=words.STEP, ylabel=words.BUDGET_LEFT, yticks=range(len(budgets)), yticklabels=budgets)
    axes.xaxis.get_major_locator().set_params(integer=True)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(words.REQUEST_SHARE, color=INK, fontsize=9)
    bar.outline.set_visible(False)
    return _svg(figure, words.STEPS_ALT)


def coverage(report: Coverage, budgets: Sequence[int] | None) -> str:
    """Share of visits on rows with fewer than m, by action; with one budget, success that depends on low-count rows."""
    low_count = None if budgets is None else report.low_count_share
    beside = low_count is not None
    figure, axes = _figure(1, 2 if beside else 1, (9.0 if beside else 5.0, 3.2))
    left = np.ravel(axes)[0]
    most = max(float(visits.max(initial=1.0)) for visits in report.visits.values())
    limits = np.unique(np.geomspace(1, most + 1, 200))
    for (name, visits), (color, _) in zip(report.visits.items(), LINES, strict=False):
        if visits.any():
            left.step(limits, [report.low_count_visits(name, m) for m in limits], where="post", color=color, label=name)
    left.axvline(report.fewer_than, color=MUTED, linestyle=":", linewidth=1)
    left.set(xscale="log", xlabel=words.ROW_LIMIT, ylabel=words.LOW_COUNT_VISITS, ylim=(-0.02, 1.02))
    left.legend(frameon=False, fontsize=9)
    if low_count is not None:
        right = np.ravel(axes)[1]
        right.plot(budgets, low_count, color=STYLE["plan"][0], marker="o")
        right.set(xlabel=words.BUDGET, ylabel=words.LOW_COUNT_SUCCESS, ylim=(-0.02, 1.02))
        right.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, words.COVERAGE_ALT)


def reliability_diagram(rows: Sequence[Mapping[str, float]]) -> str:
    """Mean outcome against mean probability, with intervals over tasks; a dot's area is the share of states."""
    figure, axes = _figure(1, 1, (4.6, 4.2))
    x, y, low, high, weight = (
        np.array([row[name] for row in rows]) for name in ("predicted", "observed", "low", "high", "weight")
    )
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    errors = [(y - low).clip(0).tolist(), (high - y).clip(0).tolist()]
    axes.errorbar(x, y, yerr=errors, color=STYLE["PRM threshold"][0], linewidth=1.2, elinewidth=0.8)
    axes.scatter(x, y, s=12 + 300 * weight, color=STYLE["PRM threshold"][0], alpha=0.7, linewidths=0)
    axes.set(xlabel=words.MEAN_PROBABILITY, ylabel=words.OBSERVED, xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return _svg(figure, words.RELIABILITY_ALT)


def values_by_budget(value: Floats, parameters: Mapping[str, Sequence[Any]], names: Sequence[str | None]) -> str:
    """Planned success against the budget, a line a model; many models as thin lines under their median."""
    figure, axes = _figure(1, 1, (8.0, 4.6))
    budgets = np.arange(value.shape[1])
    few = len(value) <= len(LINES)
    for i, row in enumerate(value):
        shown = (
            ", ".join(f"{name} {_short(values[i])}" for name, values in parameters.items())
            or names[i]
            or words.MODEL.format(i)
        )
        color, marker = LINES[i] if few else (STYLE["plan"][0], None)
        axes.plot(budgets, row, color=color, marker=marker, linewidth=1.5 if few else 0.6,
                  alpha=1.0 if few else max(0.05, min(0.5, 20 / len(value))), label=shown if few else None)  # fmt: skip
    if not few:
        axes.plot(budgets, np.nanmedian(value, axis=0), color=INK, linewidth=2.5, label=words.MEDIAN.format(len(value)))
    axes.set(xlabel=words.BUDGET, ylabel=words.PLANNED_SUCCESS)
    axes.legend(frameon=False, fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, words.SWEEP_ALT)


def effect(name: str, values: Sequence[Any], value: Floats) -> str:
    """Planned success against a parameter at three budgets: mean over the other parameters, and range."""
    figure, axes = _figure(1, 1, (8.0, 4.6))
    levels = list(dict.fromkeys(values))
    numbers = all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in levels)
    if numbers:
        levels.sort()
    places = levels if numbers else list(range(len(levels)))
    chosen = [np.array([v == level for v in values]) & ~np.isnan(value[:, 0]) for level in levels]
    kept = [i for i, rows in enumerate(chosen) if rows.any()]
    top = value.shape[1] - 1
    for (color, marker), b in zip(LINES, dict.fromkeys([top, top // 2, 0]), strict=False):
        at = [value[chosen[i], b] for i in kept]
        axes.plot(
            [places[i] for i in kept],
            [rows.mean() for rows in at],
            color=color,
            marker=marker,
            label=words.AT_BUDGET.format(b),
        )
        low, high = [rows.min() for rows in at], [rows.max() for rows in at]
        axes.fill_between([places[i] for i in kept], low, high, color=color, alpha=0.12, linewidth=0)
    axes.set(xlabel=name, ylabel=words.EFFECT, xticks=places)
    axes.set_xticklabels([_short(level) for level in levels])
    axes.legend(frameon=False, fontsize=9)
    return _svg(figure, words.EFFECT_ALT.format(name))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, Any]:
    with require_extra("logs", "the report"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns)
    for one in np.ravel(axes):
        _plain(one)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _svg(figure: Figure, alt: str) -> str:
    """The figure as an element of a page, with a text for who cannot see it; its ids are its own."""
    buffer = io.StringIO()
    # Neither a date nor random ids: the same run gives the same page.
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "selfreg", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    drawing = buffer.getvalue()
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', drawing)[:2])
    box = f'role="img" aria-label="{html.escape(alt)}" width="{width}" height="{height}"'
    # On a phone a wide picture scrolls: shrunk, nobody could read it.
    box += f' style="max-width: {1.5 * width:.0f}px; min-width: {width if width > WIDE else 0:.0f}px"'
    own = zlib.crc32(alt.encode())
    drawing = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{own:x}-", drawing[drawing.index("<svg") :])
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', lambda _: box, drawing, count=1)
