"""`selfreg doctor`: versions, extras, kernels, threads, and what is missing for what."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import Any

from selfreg._util import validate
from selfreg._version import __version__
from selfreg.cli.terminal import say, table

# What each extra is for; the packages are those of the installed distribution.
PURPOSE = {
    "logs": "logs, estimation, this command, the report",
    "ml": "PRM and helper",
    "lora": "fine-tuning of large models",
    "envs": "BabyAI, the demo",
    "textworld": "TextWorld games",
    "rl": "PPO to compare with",
    "ray": "counts, scores and sweeps on a cluster",
    "postgres": "a ledger that machines share",
    "serve": "decisions over HTTP",
}
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([a-z,]+)\])?")
EXTRA = re.compile(r"extra == ['\"]([a-z]+)['\"]")


def command() -> dict[str, Any]:
    """Say which versions, extras, kernels and threads there are, and what is missing for what."""
    found = {
        "selfreg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernels": _kernels(),
        "compiler": _compiler(),
        "threads": {"cores": validate.threads(None), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
        "device": _device(),
        "extras": _extras(),
    }
    _show(found)
    return found


def _kernels() -> str:
    """ "cython", or "python" where the compiled kernels are missing."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    spec = find_spec("selfreg._core._graph")
    return "cython" if spec is not None and str(spec.origin).endswith((suffix, ".so", ".pyd")) else "python"


def _compiler() -> str | None:
    """The C compiler that would build the kernels; wheels need none."""
    named = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cl").split()[0]
    return next((path for name in (named, "cc", "gcc", "clang") if (path := shutil.which(name))), None)


def _device() -> str | None:
    """Where PRM and helper are trained; None without torch."""
    if find_spec("torch") is None:
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _extras() -> dict[str, dict[str, Any]]:
    """Packages of every extra, with their version, or None where one is missing."""
    try:
        stated = requires("selfreg") or []
    except PackageNotFoundError:  # run from a folder of sources
        stated = []
    return {extra: {"for": text, "packages": _packages(stated, extra)} for extra, text in PURPOSE.items()}


def _packages(stated: list[str], extra: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for line in stated:
        of, name = EXTRA.search(line), REQUIREMENT.match(line)
        if of is None or of.group(1) != extra or name is None or _foreign(line):
            continue
        if name.group(1) == "selfreg":
            for other in (name.group(2) or "").split(","):
                found |= _packages(stated, other)
        else:
            found[name.group(1)] = _version(name.group(1))
    return found


def _foreign(line: str) -> bool:
    """Whether a requirement is for other systems or Pythons."""
    return ("sys_platform != 'win32'" in line.replace('"', "'") and sys.platform == "win32") or (
        "python_version <" in line and sys.version_info >= (3, 11)
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _show(found: dict[str, Any]) -> None:
    say(f"selfreg {found['selfreg']}, Python {found['python']}, {found['platform']}")
    slow = "" if found["kernels"] == "cython" else " (compiled ones are missing: hundreds of times slower)"
    say(f"kernels: {found['kernels']}{slow}; C compiler: {found['compiler'] or 'none (needed to build only)'}")
    limit = found["threads"]["OMP_NUM_THREADS"]
    say(f"threads: {found['threads']['cores']} cores" + ("" if limit is None else f", OMP_NUM_THREADS={limit}"))
    if found["device"]:
        say(f"training on: {found['device']}")
    rows = []
    for name, extra in found["extras"].items():
        missing = [package for package, number in extra["packages"].items() if number is None]
        rows.append([name, f"missing: {', '.join(missing)}" if missing else "there", extra["for"]])
    table("extras", ["extra", "packages", "needed for"], rows)
    for name, state, _ in rows:
        if state != "there":
            say(f"pip install 'selfreg[{name}]'")
