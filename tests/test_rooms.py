"""The house plan: a room knows those before it and none after; modules have no names of public functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import selfreg

ROOT = Path(selfreg.__file__).parent

# In the order of the pipeline: imports at the top of a module go to rooms on its left only.
ROOMS = (
    "_version",
    "_util",
    "models",
    "mdp",
    "_core",
    "planning",
    "data",
    "decisions",
    "envs",
    "estimate",
    "prm",
    "helper",
    "runtime",
    "evaluate",
    "runs",
    "sweeps",
    "report",
    "cli",
    "integrations",
)
# Imports inside of functions that go to a later room, with the reason; at most three.
LAZY_BACK_EDGES: dict[tuple[str, str], str] = {
    ("selfreg.cli.mcp", "selfreg.integrations.mcp"): "the command runs the adapter",
    (
        "selfreg.models.model_makers",
        "selfreg.planning.hard",
    ): "from_gymnasium plans an optimal policy",
}


class Import(NamedTuple):
    """`kind` is "top", "lazy" (inside of a function) or "types" (under TYPE_CHECKING)."""

    importer: str
    imported: str
    kind: str
    where: str


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyx")]):
        name = ".".join(("selfreg", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        found.setdefault(name, path)
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports() -> list[Import]:
    """All imports of our own modules, by the full name of the module that is imported."""
    known = modules()
    sources = {name: path for name, path in known.items() if path.suffix == ".py"}
    return [one for name, path in sources.items() for one in _imports_below(parsed(path), "top", name, known)]


def _imports_below(node: ast.AST, kind: str, name: str, known: dict[str, Path]) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inner = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and kind != "types":
            inner = "lazy"
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            inner = "types"
        if isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{name}:{child.lineno} imports relatively; expected absolute imports"
            targets = [f"{child.module}.{alias.name}" for alias in child.names]
            targets = [target if target in known else str(child.module) for target in targets]
        elif isinstance(child, ast.Import):
            targets = [alias.name for alias in child.names]
        else:
            targets = []
        for target in targets:
            if target in known and target != name:
                yield Import(name, target, kind, f"{known[name].relative_to(ROOT)}:{child.lineno}")
        yield from _imports_below(child, inner, name, known)


def room(module: str) -> str | None:
    """Room of a module; None for the package itself, which re-exports from all."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def back_edges(kind: str) -> list[Import]:
    result = []
    for one in imports():
        importer, imported = room(one.importer), room(one.imported)
        if one.kind == kind and importer is not None:
            # The package itself stands for all rooms: nothing inside may import from it at the top.
            later = imported is None or ROOMS.index(imported) > ROOMS.index(importer)
            if later:
                result.append(one)
    return result


def test_every_module_is_in_a_room() -> None:
    strangers = [name for name in modules() if room(name) is not None and room(name) not in ROOMS]
    assert strangers == []
    assert {path.name for path in ROOT.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "_version.py",
        "decisions.py",
        "mdp.py",
        "runs.py",
    }


@pytest.mark.parametrize("kind", ["top", "types"])
def test_no_room_imports_a_later_one(kind: str) -> None:
    assert [f"{one.where} imports {one.imported}" for one in back_edges(kind)] == []


def test_lazy_imports_of_later_rooms_are_listed() -> None:
    found = {(one.importer, one.imported) for one in back_edges("lazy")}
    assert found == set(LAZY_BACK_EDGES)
    assert len(LAZY_BACK_EDGES) <= 3


def test_no_circles_of_modules() -> None:
    """Imports at the top and under TYPE_CHECKING have an order that respects all of them."""
    edges: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.kind == "top" and not one.importer.startswith(one.imported + "."):
            edges[one.importer].add(one.imported)
    done: set[str] = set()
    while ready := [name for name, needed in edges.items() if name not in done and needed <= done]:
        done.update(ready)
    assert sorted(set(edges) - done) == []


def test_third_parties_stay_in_their_rooms() -> None:
    """Only prm, helper and an actor in envs know torch."""
    strangers = []
    for name, path in modules().items():
        if path.suffix != ".py" or room(name) in {"prm", "helper"}:
            continue
        for node in ast.walk(parsed(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            strangers += [name for one in names if one.split(".")[0] in {"torch", "transformers"}]
    # The imitation actor of Phase I is a small network; the commands name the device; threads are set in one place.
    allowed = {
        "selfreg.envs.imitation",
        "selfreg._util.threads",
        *(f"selfreg.cli.{one}" for one in ("collect", "demo", "doctor", "evaluate")),
    }
    assert set(strangers) <= allowed


@cache
def public_functions() -> set[str]:
    """Functions that packages export under `__all__`."""
    found = set()
    for _name, path in modules().items():
        if path.name != "__init__.py":
            continue
        for node in parsed(path).body:
            if isinstance(node, ast.Assign) and ast.dump(node.targets[0]).find("__all__") >= 0:
                found |= {one for one in ast.literal_eval(node.value) if one.islower()}
    return found


def test_no_module_has_the_name_of_a_public_function() -> None:
    """Commands are named as what a user types; elsewhere a dotted name means one thing."""
    clashes = [n for n in modules() if n.rsplit(".", 1)[-1] in public_functions() and room(n) != "cli"]
    assert clashes == []
