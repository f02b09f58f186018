"""Each compiled kernel and its twin in Python offer the same functions under the same names and docstrings."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from selfreg._core import chooser

CYTHON = sorted(stem for stem, kind in chooser.COMPILED.items() if kind == "cython")


@pytest.mark.parametrize("stem", CYTHON)
def test_kernels_and_twins_have_the_same_functions(stem: str) -> None:
    compiled, twin = (import_module(f"selfreg._core._{stem}{suffix}") for suffix in ("", "_py"))
    stub = ast.parse(Path(str(twin.__file__).replace("_py.py", ".pyi")).read_text(encoding="utf-8"))
    functions = [node for node in stub.body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        one, other = getattr(compiled, function.name), getattr(twin, function.name)
        arguments = [argument.arg for argument in function.args.args]
        assert (one.__name__, other.__name__) == (function.name, function.name)
        assert list(other.__code__.co_varnames[: other.__code__.co_argcount]) == arguments
        assert ast.get_docstring(function) == str(other.__doc__).strip()
        assert str(one.__doc__).strip().splitlines()[0] == str(other.__doc__).strip().splitlines()[0]
