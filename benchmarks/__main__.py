"""`python -m benchmarks [NAME] [OPTIONS]`; without a name the solver's table."""

import sys
from importlib import import_module

COMMANDS = (
    "solver",
    "imports",
    "simulate",
    "huge",
    "pools",
    "prm",
    "helper",
    "latency",
    "recorder",
    "serve",
    "proxy",
    "prices",
    "honesty",
    "forecast",
    "advise",
    "sweep",
    "ingest",
    "shards",
    "frontier",
    "chains",
    "reachability",
    "company",
    "compare",
    "household",
    "texts",
    "routing",
    "textworld",
    "ppo",
    "evaluation",
    "robustness",
    "rules",
    "moments",
    "forms",
)

if __name__ == "__main__":
    named = bool(sys.argv[1:]) and not sys.argv[1].startswith("-")
    name = sys.argv[1] if named else "solver"
    rest = sys.argv[2:] if named else sys.argv[1:]
    if name not in COMMANDS:
        sys.exit(f"usage: python -m benchmarks [{{{','.join(COMMANDS)}}}] [OPTIONS]")
    # Options only to commands that take some; none that are left on the command line.
    sys.argv = [f"{sys.argv[0]} {name}", *rest]
    import_module(f"benchmarks.{name}").main(*([rest] if rest else []))
