"""The sdist and the wheel built from it: what they hold, and that they work where nothing else of the project is."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest
import scipy

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "selfreg" / "_core"
FOLDERS = ("src", "tests", "docs", "examples", "benchmarks", "tools")
GENERATED = ("__pycache__", "*.egg-info", "*.so", "*.pyd", "*.c", "build")
SCRIPTS = "Scripts" if os.name == "nt" else "bin"

needs_compiler = pytest.mark.skipif(
    shutil.which((sysconfig.get_config_var("CC") or "cl").split()[0]) is None, reason="there is no C compiler"
)


class Built(NamedTuple):
    """A clean copy of the project, its sdist, and a wheel from the sdist's sources."""

    source: Path
    sdist: Path
    wheel: Path


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """Compiled in this checkout means compiled: the wheel takes objects that are newer than their sources."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*GENERATED))
    copy_generated(".c", source / "src/selfreg/_core")
    run(sys.executable, "-c", f"import setuptools.build_meta as b; b.build_sdist({str(folder)!r})", cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    copy_generated(".c", unpacked / "src/selfreg/_core")
    copy_generated(sysconfig.get_config_var("EXT_SUFFIX"), build_folder(unpacked) / "selfreg/_core")
    return Built(source, sdist, build_wheel(unpacked, folder))


def copy_generated(suffix: str, to: Path) -> None:
    """Generated files of this checkout; with their times, so that what is older than its sources is made again."""
    to.mkdir(parents=True, exist_ok=True)
    for path in CORE.glob(f"*{suffix}"):
        shutil.copy2(path, to)


def build_folder(project: Path) -> Path:
    """Where setuptools looks for the objects of an earlier build."""
    code = "from setuptools.dist import Distribution as D; c = D().get_command_obj('build'); c.ensure_finalized()"
    return project / run(sys.executable, "-c", f"{code}; print(c.build_platlib)", cwd=project).strip()


def build_wheel(project: Path, folder: Path) -> Path:
    offline = ("--no-build-isolation", "--no-deps", "--no-index", "--no-cache-dir")
    run(
        sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, project, cwd=folder, SELFREG_OPTIMIZE="0"
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(built, tmp_path_factory) -> Path:
    """A fresh environment's interpreter: the wheel, and the packages that this interpreter has, but not the project."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=os.name != "nt")
    executable = folder / SCRIPTS / Path(sys.executable).name
    where = run(executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # A folder on the path through a .pth file does not have its own .pth files read: no editable install shows.
    borrowed = {str(Path(package.__file__).parents[1]) for package in (numpy, scipy)}
    Path(where, "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    target = ("--python", executable, "install", "--no-deps", "--no-index", "--no-cache-dir")
    run(sys.executable, "-m", "pip", *target, built.wheel, cwd=folder)
    return executable


def sources(folder: Path, relative_to: Path) -> set[str]:
    """Names of the files in `folder` that nothing generated."""
    paths = {path.relative_to(relative_to) for path in folder.rglob("*") if path.is_file()}
    generated = {path for path in paths for part in path.parts for name in GENERATED if fnmatch(part, name)}
    return {path.as_posix() for path in paths - generated}


@needs_compiler
def test_sdist_holds_the_sources_and_nothing_generated(built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    wanted = set().union(*(sources(built.source / folder, built.source) for folder in FOLDERS))
    wanted |= {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt"}
    wanted |= {"constraints-adapters.txt"}
    assert wanted - names == set()
    assert {name for name in names if name.endswith((".c", ".so", ".pyd", ".pyc"))} == set()


@needs_compiler
def test_wheel_holds_the_package_and_its_kernels_only(built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    kernels = {f"selfreg/_core/{path.stem}{suffix}" for path in built.source.rglob("src/**/*.pyx")}
    kernels.add(f"selfreg/_core/_cyutility{suffix}")  # what the kernels share of Cython
    assert names == sources(built.source / "src", built.source / "src") | kernels
    assert {"selfreg/py.typed", "selfreg/report/report.html", "selfreg/_core/_graph.pyi"} < names


@pytest.mark.long
@needs_compiler
def test_the_sdist_alone_compiles(built, tmp_path) -> None:
    """`make test-debug` compiles from the sdist too."""
    with zipfile.ZipFile(build_wheel(built.sdist, tmp_path)) as archive, zipfile.ZipFile(built.wheel) as other:
        assert set(archive.namelist()) == set(other.namelist())


@needs_compiler
def test_installed_wheel_solves_without_a_compiler(python, tmp_path) -> None:
    assert not any(shutil.which(name, path=str(python.parent)) for name in ("cc", "gcc", "clang", "cl"))
    printed = run(python, "-I", Path(__file__).with_name("wheel_smoke.py"), cwd=tmp_path, PATH=str(python.parent))
    assert Path(printed.strip()).is_relative_to(python.parents[1])


@needs_compiler
def test_cython_code_elsewhere_can_call_the_kernel(python, tmp_path) -> None:
    example = shutil.copytree(
        ROOT / "examples" / "cimport", tmp_path / "example", ignore=shutil.ignore_patterns(*GENERATED)
    )
    run(python, "setup.py", "--quiet", "build_ext", "--inplace", cwd=example, CFLAGS="-O0")
    code = """
import numpy as np, selfreg, new_state
alone = np.array([[0, .5, .2, .3], [0, 0, .2, .8], [0] * 4, [0] * 4])
helped = np.array([[0, .1, .8, .1], [0, 0, .9, .1], [0] * 4, [0] * 4])
mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
solution = selfreg.solve(mdp, budget=3)
successors = np.arange(3, dtype=np.int32)
value, policy = new_state.plan(solution.value[1:], successors, alone[0, 1:], successors, helped[0, 1:])
assert value.tolist() == solution.value[0].tolist(), (value, solution.value[0])
assert policy.tolist() == solution.policy[0].tolist()
"""
    run(python, "-c", code, cwd=example)


def test_stubs_agree_with_the_kernels(tmp_path) -> None:
    """mypy's stubtest; what Cython adds to a module is not part of its interface."""
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(".*\\.__test__\n.*\\.__pyx_capi__\n")
    # The stubs alone: mypy would read all that selfreg imports, torch included.
    stubs = tmp_path / "stubs" / "selfreg" / "_core"
    stubs.mkdir(parents=True)
    for package in (stubs, stubs.parent):
        (package / "__init__.pyi").touch()
    modules = [f"selfreg._core.{Path(shutil.copy(path, stubs)).stem}" for path in sorted(CORE.glob("*.pyi"))]
    options = ("--allowlist", allowed, "--ignore-unused-allowlist")
    run(sys.executable, "-m", "mypy.stubtest", *options, *modules, cwd=tmp_path, MYPYPATH=str(tmp_path / "stubs"))


def parameters(path: Path) -> dict[str, list[str]]:
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name: [argument.arg for argument in node.args.args] for node in functions if node.name[0] != "_"}


@pytest.mark.parametrize("stub", sorted(CORE.glob("*.pyi")), ids=lambda path: path.stem)
def test_stub_and_twin_have_the_same_parameters(stub) -> None:
    """One stub describes both implementations; the twin may have functions of its own."""
    twin = parameters(stub.with_name(f"{stub.stem}_py.py"))
    assert parameters(stub).items() <= twin.items()
