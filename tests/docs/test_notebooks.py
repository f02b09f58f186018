"""The notebooks run from the first cell to the last, in a kernel of Jupyter."""

from __future__ import annotations

import os
import sys

import pytest
from page_runner import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.py"))
NEEDS = {"gymnasium_table.py": ("gymnasium",), "from_pandas.py": ("pandas",)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path, monkeypatch) -> None:
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for module in NEEDS.get(notebook.name, ()):
        pytest.importorskip(module)
    # The kernel of this interpreter, also where another one is registered for the user.
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]}}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])))
    book = jupytext.read(notebook)
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in outputs)
    if "plot(" in notebook.read_text(encoding="utf-8"):
        assert any("image/png" in output.get("data", {}) for output in outputs)


def test_there_is_a_notebook_for_each_source_of_models() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS)
    assert all(name in text for name in ("from_dict", "from_gymnasium", "pandas", ".frontier(", "simulate(", "robust="))
