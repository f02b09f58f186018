"""Plots and tables of sweeps."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg


def model(alone: float, cost: int = 1) -> selfreg.InterventionMDP:
    rows = {"start": {"nohelp": {"done": alone, "lost": 1 - alone}, "help": {"done": 0.9, "lost": 0.1}}}
    return selfreg.InterventionMDP.from_dict(rows, {"done": 1, "lost": 0}, {"help": cost})


def test_a_line_a_model_and_the_median_of_many() -> None:
    few = selfreg.sweep(selfreg.ModelGrid(model, {"alone": [0.3, 0.5]}), 2)
    axes = few.plot()
    assert [line.get_ydata().tolist() for line in axes.lines] == few.value.tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["alone 0.3", "alone 0.5"]
    many = selfreg.sweep([model(0.05 * i) for i in range(11)], 1)
    lines = many.plot().lines
    assert len(lines) == 12
    assert lines[-1].get_ydata().tolist() == np.median(many.value, axis=0).tolist()


def test_prices_are_drawn_against_usage() -> None:
    results = selfreg.sweep([model(0.5)], penalties=[0.0, 1.0])
    line = results.plot().lines[0]
    assert line.get_xdata().tolist() == [0.0, 1.0]
    assert line.get_ydata().tolist() == [0.5, 0.9]


def test_several_budgets_are_not_drawn() -> None:
    with pytest.raises(ValueError, match="the models have 2 budgets"):
        selfreg.sweep([model(0.5, (1, 2))], (1, 2)).plot()


def test_tables() -> None:
    pandas = pytest.importorskip("pandas")
    results = selfreg.sweep(selfreg.ModelGrid(model, {"alone": [0.3, 0.5]}), 2)
    frame = results.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["alone"].tolist() == [0.3, 0.5]
    assert frame["value"].tolist()[0].tolist() == [0.3, 0.9, 0.9]


def test_html_names_the_models() -> None:
    html = selfreg.sweep(selfreg.ModelGrid(model, {"alone": [0.3, 0.5]}), 2)._repr_html_()
    assert "<td>alone 0.3</td><td>0.300</td><td>0.900</td><td>0.900</td>" in html
    assert "<table>" in selfreg.sweep([], 1)._repr_html_()
