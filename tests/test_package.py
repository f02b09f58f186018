"""What `import selfreg` brings, and what it says when an extra is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import selfreg


def test_import_is_light() -> None:
    code = "import sys, selfreg; print(sorted({'torch', 'numba', 'pandas', 'pyarrow', 'msgspec'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_help_of_the_command_imports_no_heavy_parts() -> None:
    heavy = ["torch", "numba", "pandas", "matplotlib", "jinja2", "scipy.stats", "scipy.special", "scipy.sparse.linalg"]
    code = "import sys; from selfreg.cli.main import main; main(['--help'])"
    code += f"; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_public_name_is_there() -> None:
    for name in selfreg.__all__:
        assert getattr(selfreg, name) is not None
    assert set(selfreg.__all__) <= set(dir(selfreg))
    with pytest.raises(AttributeError, match="no attribute 'frontire'"):
        selfreg.frontire  # noqa: B018


@pytest.mark.parametrize(
    ("package", "statement", "extra"),
    [
        ("msgspec", "import selfreg.data", "logs"),
        ("pyarrow", "import selfreg.data", "logs"),
        ("typer", "from selfreg.cli.main import main; raise SystemExit(main(['solve', 'x']))", "logs"),
        ("transformers", "from selfreg.prm.transformer import *; TextClassifier.create([], [], EncoderConfig())", "ml"),
        ("ray", "import selfreg; selfreg.sweep([], 1, executor='ray')", "ray"),
        ("minigrid", "from selfreg.envs import *; make_babyai(BabyAIConfig())", "envs"),
        ("textworld", "from selfreg.envs import *; make_textworld()", "textworld"),
        ("starlette", "from selfreg.runtime.server import create_app", "serve"),
    ],
)
def test_a_missing_extra_is_named(package, statement, extra) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert f"pip install 'selfreg[{extra}]'" in done.stderr


def test_an_implementation_that_is_not_there_raises(monkeypatch) -> None:
    from selfreg._core import chooser

    assert chooser.kernel("graph", "python").__name__.endswith("_graph_py")
    monkeypatch.setenv("SELFREG_IMPLEMENTATION", "python")
    assert chooser.kernel("graph").__name__.endswith("_graph_py")
    monkeypatch.setenv("SELFREG_IMPLEMENTATION", "cython")
    monkeypatch.setitem(sys.modules, "selfreg._core._graph", None)
    monkeypatch.setattr(chooser, "_loaded", {})
    with pytest.raises(ImportError, match="cython implementation of kernel 'graph' is missing"):
        chooser.kernel("graph")


def modules() -> list[str]:
    root = Path(selfreg.__file__).parent
    names = (".".join(("selfreg", *p.relative_to(root).with_suffix("").parts)) for p in root.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names if not name.endswith("__main__"))


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name) -> None:
    import doctest

    try:
        importlib.import_module(name)
    except ImportError as error:
        if not name.startswith("selfreg.integrations.") or "pip install 'selfreg[" not in str(error):
            raise
        pytest.skip(f"a framework is missing (extra 'adapters'): {error}")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
