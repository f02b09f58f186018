"""Hooks of mkdocs: pages from outside of docs/, the reference from docstrings, and links to files of the repository.

- Figures, notes, changelog and CONTRIBUTING.md are pages of the site.
- The reference has one page a package with all names of its `__all__`, one for the modules of `planning`, whose result
  classes are not exported, and one for the command line.
- Links to files that are not pages lead to the repository.
- Guides that mkdocs.yml does not list go to "How-to".
"""

from __future__ import annotations

import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# Pages of the site that lie outside of docs/.
OUTSIDE = ("benchmarks/RESULTS.md", "benchmarks/NOTES.md", "CONTRIBUTING.md", "CHANGELOG.md")
SHIM = re.compile(r'<script src="?https?://[^">]*iframe-worker[^">]*"?></script>')
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")
# Pages of the reference: packages by what they are for.
PACKAGES = {
    "selfreg": "The names of `import selfreg`.",
    "selfreg.data": "Trajectories and log formats.",
    "selfreg.decisions": "The protocol of everything that decides.",
    "selfreg.envs": "Environments with an expert, and collection.",
    "selfreg.estimate": "Models from logs, forecasts, intervals, coverage.",
    "selfreg.prm": "The process reward model.",
    "selfreg.helper": "Labels and helpers.",
    "selfreg.runtime": "Ledgers, recorded decisions, people who help.",
    "selfreg.evaluate": "Comparison of policies, off-policy evaluation, monitoring.",
    "selfreg.runs": "Run folders.",
    "selfreg.integrations": "Other frameworks.",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not files of docs/."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, content=(ROOT / path).read_text(encoding="utf-8")))
    for path, text in list_reference():
        files.append(File.generated(config, path, content=text))
    return files


def on_config(config: Any) -> Any:
    """Complete the nav: reference pages, and guides that it does not list."""
    sections = {name: pages for entry in config.nav if isinstance(entry, dict) for name, pages in entry.items()}
    sections["Reference"][:0] = [path for path, _ in list_reference()]
    listed = set(list_paths(config.nav))
    docs = Path(config.docs_dir)
    by_folder: dict[str, list[str]] = {}
    for page in sorted(docs.rglob("*.md")):
        path = page.relative_to(docs).as_posix()
        if path not in listed:
            by_folder.setdefault(posixpath.dirname(path), []).append(path)
    for folder, paths in by_folder.items():
        sections["How-to"] += paths if not folder else [{folder.capitalize(): paths}]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links out of docs/ to the pages of the site, or to the repository."""
    source = page.file.src_uri
    inside = source not in OUTSIDE
    folder = posixpath.dirname(f"docs/{source}" if inside else source)
    pages = {f"docs/{path}": path for path in files.src_uris} | {path: path for path in OUTSIDE}

    def place(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        anchor = match[3] or ""
        if target in pages:
            link = posixpath.relpath(pages[target], posixpath.dirname(source) or ".")
        elif (ROOT / target).exists() and not target.startswith("docs/"):
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            link = f"{config.extra['repository']}/{kind}/main/{target}"
        else:
            return match[0]
        return f"{match[1]}{link}{anchor}{match[4]}"

    return LINK.sub(place, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The worker for search from the disk is a file of the site, not of another host."""
    local = posixpath.relpath("assets/file-worker.js", posixpath.dirname(page.file.dest_uri) or ".")
    return SHIM.sub(f'<script src="{local}"></script>', output)


def list_paths(nav: Any) -> Iterator[str]:
    """Paths of all pages of a nav."""
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from list_paths(entry)


def list_reference() -> list[tuple[str, str]]:
    """Path and text of every page of the reference."""
    pages = [(f"reference/{name}.md", write_package(name, about)) for name, about in PACKAGES.items()]
    # The module of `solve` also exports results that are defined in others.
    modules = [path.stem for path in sorted((ROOT / "src/selfreg/planning").glob("[!_]*.py")) if path.stem != "hard"]
    solvers = [f"hard.{name}" for name in ("solve", "solve_memory")]
    planning = "\n\n".join(f"::: selfreg.planning.{name}" for name in [*solvers, *modules])
    pages.insert(
        1, ("reference/selfreg.planning.md", f"# selfreg.planning\n\nSolvers and their results.\n\n{planning}\n")
    )
    return [*pages, ("reference/command-line.md", write_commands())]


def list_public(name: str) -> list[str]:
    """Full names of what a package exports, where they are defined; its own modules where it exports nothing."""
    package = importlib.import_module(name)
    names = getattr(package, "__all__", None)
    if names is None:
        folder = Path(package.__file__ or "")
        if folder.name != "__init__.py":
            return [name]
        return [f"{name}.{path.stem}" for path in sorted(folder.parent.glob("[!_]*.py"))]
    return [find_definition(name, item) for item in names]


def find_definition(package: str, name: str) -> str:
    item = getattr(importlib.import_module(package), name)
    module = getattr(item, "__module__", None)
    own = isinstance(module, str) and module.startswith("selfreg") and hasattr(item, "__qualname__")
    return f"{module}.{item.__qualname__}" if own else f"{package}.{name}"


def write_package(name: str, about: str) -> str:
    names = list_public(name)
    if name == "selfreg":
        # Defined in rooms, most with a page of their own; below are those without.
        short = ", ".join(f"[`{one.rsplit('.', 1)[-1]}`][{one}]" for one in names)
        about = f"The names of `import selfreg`: {short}."
        names = [one for one in names if one.startswith(("selfreg.mdp", "selfreg.sweeps", "selfreg._util"))]
    return f"# {name}\n\n{about}\n\n" + "\n\n".join(f"::: {one}" for one in names) + "\n"


def write_commands() -> str:
    """The command line, as typer describes it."""
    import typer
    from typer.cli import get_docs_for_click

    from selfreg.cli.app import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="selfreg", title="The command line")
    return str(text)
