"""What `selfreg --help` says of each command, and an example of each."""

from __future__ import annotations

from typing import NamedTuple


class About(NamedTuple):
    """One line of the list of commands, and a command line to begin with."""

    summary: str
    example: str


BEGIN = (
    "Begin with: selfreg look LOGS (your logs), or selfreg demo. Exit status: 0 done, 2 an error that you can correct."
)
ABOUT = {
    "look": About("What is in logs, and the command to run next", "selfreg look logs/*.jsonl"),
    "fit": About(
        "From logs to a plan and a report",
        "selfreg fit logs.jsonl --help-model 'gpt-5*=strong' --budget 3 --out runs/mine",
    ),
    "demo": About(
        "The whole pipeline in a built-in environment", "selfreg demo --environment household --out runs/demo"
    ),
    "collect": About(
        "Run an agent with random help, in an environment", "selfreg collect --environment babyai --out runs/mine"
    ),
    "import": About("Read logs into a new run folder", "selfreg import logs.jsonl --out runs/mine"),
    "estimate": About("Estimate the model, and show its coverage", "selfreg estimate runs/mine --state step,class"),
    "solve": About(
        "Plan for every budget, and forecast", "selfreg solve runs/mine --budget 3 --price person=4 --worth 25"
    ),
    "label": About("Label every logged step with the plan", "selfreg label runs/mine"),
    "train": About("Train the helper, or the PRM", "selfreg train runs/mine --part helper"),
    "evaluate": About("Compare policies on held-out tasks", "selfreg evaluate runs/demo --budget 3"),
    "report": About(
        "Write the report again, with other prices", "selfreg report runs/mine --price person=4 --worth 25"
    ),
    "decide": About(
        "Print the helper's decision for one episode", "selfreg decide runs/mine steps.json --budget-left 1"
    ),
    "serve": About("Decisions over HTTP, and a desk for people", "selfreg serve runs/mine --per-run 3 --per-day 200"),
    "mcp": About("Help as a tool of an MCP client", "selfreg mcp runs/mine --per-run 3"),
    "export": About("What a server recorded, as a log", "selfreg export runs/mine --out served.jsonl"),
    "monitor": About("Compare the forecast with new episodes", "selfreg monitor runs/mine new.jsonl --budget 3"),
    "ope": About(
        "Estimate a policy from logs of others", "selfreg ope runs/mine --policy plan --budget 2 --propensity rate"
    ),
    "frontier": About("Best success for every mean number of requests", "selfreg frontier runs/mine --at 0.5"),
    "sweep": About("Solve many models", "selfreg sweep sweep.toml"),
    "doctor": About("Versions, extras, and what is missing for what", "selfreg doctor"),
    "prm threshold": About("Choose a threshold on P(success)", "selfreg prm threshold runs/mine --mean-cost 0.5"),
    "prm recalibrate": About("Fit the calibration to recent logs", "selfreg prm recalibrate runs/mine recent.jsonl"),
    "prm score": About("Score every state of logs", "selfreg prm score runs/mine logs.jsonl --out scores"),
}
