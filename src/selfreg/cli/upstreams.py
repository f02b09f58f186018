"""Options of the proxy: the weak model, and a strong one for each help type."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from selfreg._util.extras import require_extra

if TYPE_CHECKING:
    from selfreg.runtime.server import Service
    from selfreg.runtime.server.completions import Completions

WEAK_KEY, STRONG_KEY = "SELFREG_WEAK_KEY", "SELFREG_STRONG_KEY"
NAMED = re.compile(r"([^=/:,]+)=(https?://.*)")


def make_proxy(
    service: Service, helps: Collection[str], weak: str | None, strong: Sequence[str], timeout: float
) -> Completions | None:
    """The proxy of `--weak` and `--strong`; None without them. Keys come from the environment."""
    if weak is None and not strong:
        return None
    if weak is None or not strong:
        raise ValueError("--weak and --strong belong together; one of them is missing")
    with require_extra("proxy", "selfreg serve --weak"):
        from selfreg.runtime.server.completions import Completions
        from selfreg.runtime.server.upstream import Upstream, parse_upstream

    def parse(option: str, text: str, key: str) -> Upstream:
        try:
            return parse_upstream(text, os.environ.get(key, ""))
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None

    models = {}
    for text in strong:
        named = NAMED.fullmatch(text)
        help_type, place = named.groups() if named else (_only(helps), text)
        if help_type not in helps:
            raise ValueError(f"--strong: unknown help type {help_type!r}; the helper requests {', '.join(helps)}")
        if help_type in models:
            raise ValueError(f"--strong: help type {help_type!r} has two models")
        models[help_type] = parse("--strong", place, _key_name(help_type))
    missing = [name for name in helps if name not in models]
    if missing:
        raise ValueError(f"help type {missing[0]!r} has no model; give --strong {missing[0]}=URL,model")
    people = [name for name in models if name in service.people]
    if people:
        raise ValueError(f"help type {people[0]!r} is given by people; --people nobody lets the strong model give it")
    return Completions(service, parse("--weak", weak, WEAK_KEY), models, timeout=timeout)


def _only(helps: Collection[str]) -> str:
    if len(helps) != 1:
        raise ValueError(f"the helper requests {', '.join(helps)}; give --strong HELP=URL,model for each")
    return next(iter(helps))


def _key_name(help_type: str) -> str:
    """Variable that holds the key of a strong model: its own one where it is set, else that of all."""
    own = f"{STRONG_KEY}_{re.sub('[^A-Z0-9]', '_', help_type.upper())}"
    return own if own in os.environ else STRONG_KEY
