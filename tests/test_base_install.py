"""Without the extras every public name works or names the extra that it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONAL = (
    "msgspec",
    "pyarrow",
    "typer",
    "rich",
    "matplotlib",
    "jinja2",
    "tomli",
    "tomli_w",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "sklearn",
    "threadpoolctl",
    "peft",
    "minigrid",
    "gymnasium",
    "textworld",
    "stable_baselines3",
    "ray",
    "starlette",
    "uvicorn",
    "prometheus_client",
)
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
# Packages with public names, the names, and what becomes of them; the names of a room are in its __init__.py.
NAMES = """
import ast, importlib, pathlib, selfreg

def exported(package):
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []

root, faults, works = pathlib.Path(selfreg.__file__).parent, [], 0
for package in sorted(path.parent for path in root.rglob("__init__.py")):
    room = ".".join(("selfreg", *package.relative_to(root).parts))
    for name in [None, *exported(package)]:
        try:
            module = importlib.import_module(room)
            if name is not None:
                getattr(module, name)
            works += 1
        except ImportError as error:
            if "pip install 'selfreg[" not in str(error):
                faults.append(f"{room}.{name}: {error!r}")
        except Exception as error:
            faults.append(f"{room}.{name}: {error!r}")
print("\\n".join(faults))
assert not faults
assert works > 50, works
"""
# Calls without extras: they work, or they name the extra.
WORKS = """
import numpy as np
from selfreg import (
    InterventionMDP, Ledger, evaluate_policy, frontier, simulate, solve, solve_penalized, sweep
)

chain = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
helped = np.array([[0, 0.9, 0.1], [0, 0, 0], [0, 0, 0]])
mdp = InterventionMDP({"nohelp": chain, "help": helped}, [np.nan, 1.0, 0.0], {"help": 1})
solution = solve(mdp, 2)
assert evaluate_policy(mdp, solution.policy, start=0, budget=2)
frontier(mdp, start=0).at(0.5)
solve_penalized(mdp, [0.1])
assert simulate(mdp, solution.policy, 0, 10, budget=2)
assert len(sweep([mdp, mdp], 2)) == 2
ledger = Ledger(2)
"""
NEEDS = [
    ("logs", "import selfreg; selfreg.sweep([], 1, out='x')"),
    ("logs", "import selfreg; selfreg.read_sweep('x')"),
    ("logs", "from selfreg.data import read_trajectories"),
    ("logs", "from selfreg.prm import read_scores"),
    ("logs", "from selfreg.prm import PRM"),
    ("logs", "from selfreg import Helper"),
    ("logs", "from selfreg.report import write_report"),
    ("logs", "from selfreg.runs import RunFolder"),
    ("ray", "import selfreg; selfreg.sweep([], 1, executor='ray')"),
]


def run_blocked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)


def test_every_public_name_works_or_names_its_extra() -> None:
    done = run_blocked("-c", BLOCK + NAMES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_needs_no_extra_runs() -> None:
    done = run_blocked("-c", BLOCK + WORKS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("extra", "statement"), NEEDS)
def test_the_extra_is_named(extra: str, statement: str) -> None:
    done = run_blocked("-c", BLOCK + statement)
    assert f"pip install 'selfreg[{extra}]'" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "from selfreg.cli.main import main; sys.exit(main(['solve', 'x']))",
        "sys.argv = ['selfreg']; import runpy; runpy.run_module('selfreg', run_name='__main__')",
    ],
)
def test_the_command_names_its_extra(command: str) -> None:
    done = run_blocked("-c", BLOCK + command)
    assert done.returncode == 2
    assert done.stderr.startswith("selfreg: error: ")
    assert "pip install 'selfreg[logs]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_fresh_environment_with_the_base_only(tmp_path) -> None:
    """What users get from `pip install selfreg`; downloads the base dependencies."""
    source, folder = tmp_path / "source", tmp_path / "venv"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.pyd", "*.c", "build")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, source)
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PIP_CONSTRAINT"] = str(ROOT / "constraints.txt")

    def run(*command: object, status: int = 0) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr

    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source)
    present = "import importlib.util as u; present = [n for n in {!r} if u.find_spec(n)]; assert not present, present"
    run(python, "-c", present.format(OPTIONAL))
    run(python, "-c", NAMES)
    run(python, "-c", WORKS)
    for command in ([scripts / "selfreg"], [python, "-m", "selfreg"]):
        assert "pip install 'selfreg[logs]'" in run(*command, status=2)
