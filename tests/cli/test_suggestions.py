"""What messages suggest exists: commands, options, and the values of options that choose from a list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import selfreg
from selfreg.cli.app import app
from selfreg.data.formats import format_names
from selfreg.helper.models import AUTO, KNOWN
from selfreg.prm.config import KINDS

CHOICES = {"prm": KINDS, "form": (AUTO, *KNOWN), "format": (AUTO, *format_names()), "part": ("prm", "helper")}


def texts() -> Iterator[tuple[str, str]]:
    """String constants of the package, with their places."""
    for path in sorted(Path(selfreg.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.name}:{node.lineno}", node.value


def options(command: Any) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts}
    return own.union(*map(options, getattr(command, "commands", {}).values()))


def test_options_and_values_in_messages_exist() -> None:
    command: Any = get_command(app)
    known = options(command) | {"--help"}
    unknown = []
    for place, text in texts():
        unknown += [(place, one) for one in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text) if one not in known]
        unknown += [(place, one) for one in re.findall(r"`selfreg ([a-z]+)", text) if one not in command.commands]
        for option, value in re.findall(rf"--({'|'.join(CHOICES)}) ([a-z_]+)", text):
            unknown += [(place, option, value)] if value not in CHOICES[option] else []
    assert not unknown
