"""Does the forecast hold, and is the recommendation right? `python -m benchmarks forecast DATA [--part PART ...]`.

DATA is a folder with `known_truth.py` and `data/mint/mint_core.jsonl.gz`. Worlds: logs of made-up helpers on real
trajectories, for which the success of any policy is computed exactly. MINT: recommendation from one half of the tasks,
its success in the other half. Helpers: 14 made-up help types in one log. Small: few
episodes of help that does nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import selfreg
from selfreg.data import Step, Trajectory, read_trajectories
from selfreg.decisions import spread_requests
from selfreg.estimate import Features, PolicyForecast, PolicyForecasts, estimate_mdp, forecast, load_classes
from selfreg.evaluate import Plan

CLASSES = Path(__file__).parents[1] / "examples" / "mint_classes.toml"
BUDGET, SPLITS, SMALL_LOGS = 5, 20, 40
PARTS = ("worlds", "mint", "helpers", "small", "cost")
ACTORS = ("gpt-3.5-turbo-0613", "gpt-4-0613", "claude-2", "lemur-70b-chat-v1", "vicuna-13b-v1.5")
# World, logging, q, share of fixable tasks, copies.
WORLDS: tuple[tuple[str, str, float, float, int], ...] = (
    *(("null", logging, 0.5, 0.5, 1) for logging in ("step", "episode")),
    *(("stall", logging, q, 0.5, 1) for logging in ("step", "twice") for q in (0.3, 0.5, 0.7)),
    *(("fix", logging, 0.5, share, 1) for logging in ("step", "twice", "episode") for share in (0.3, 0.7)),
    *((world, "hard", 0.5, 0.5, copies) for world in ("null", "fix") for copies in (1, 2, 4)),
)
# Agents, chances and shares that the rules of the forecast were not made with; seeds are from `OTHER_SEED` on.
OTHER_ACTORS = ("CodeLlama-34b-Instruct-hf", "Llama-2-70b-chat-hf", "Mistral-7B-Instruct-v0.1", "claude-instant-1")
OTHER_SEED = 100
OTHER_WORLDS: tuple[tuple[str, str, float, float, int], ...] = (
    *(("null", logging, 0.5, 0.5, 1) for logging in ("step", "episode", "twice")),
    *(
        ("stall", *one, 0.5, 1)
        for one in (("step", 0.4), ("step", 0.8), ("twice", 0.6), ("twice", 0.2), ("episode", 0.6))
    ),
    *(("fix", *one, 1) for one in (("step", 0.3, 0.5), ("step", 0.7, 0.4), ("twice", 0.3, 0.5), ("episode", 0.7, 0.4))),
    *(("null", "hard", 0.5, 0.5, copies) for copies in (2, 4)),
    *(("fix", "hard", *one) for one in ((0.3, 0.4, 2), (0.7, 0.5, 4), (0.5, 0.5, 1))),
    ("stall", "hard", 0.5, 0.5, 2),
)


class Result(NamedTuple):
    """One log: what was recommended, whether intervals held the truth, and success lost to the best simple rule."""

    recommended: str
    held: bool
    shown_held: float
    error: float
    loss: float
    identified: bool


def features() -> Features:
    return Features(["domain", "step", "class"], load_classes(CLASSES))


def read_rows(rows: Sequence[Mapping[str, Any]]) -> list[Trajectory]:
    """Rows of `known_truth.py` as trajectories."""
    return [
        Trajectory(
            row["task_id"],
            row["episode"],
            float(row["success"]),
            tuple(Step(s["observation"], s["action"], intervention=s["helper"]) for s in row["steps"]),
            fields={"domain": row["domain"]},
        )
        for row in rows
    ]


def load_worlds(folder: Path) -> ModuleType:
    """The module `known_truth.py`."""
    spec = importlib.util.spec_from_file_location("known_truth", folder / "known_truth.py")
    assert spec is not None, folder
    assert spec.loader is not None, folder
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def true_value(world: Any, one: PolicyForecast, logs: Sequence[Trajectory]) -> tuple[float, float]:
    """Exact success and requests of a policy of the forecast; of a plan, of the one made from all logs."""
    budget = min(one.budget[0], BUDGET)
    alone = [len(t.steps) for t in logs if not t.helped] or [len(t.steps) for t in logs]
    horizon = int(np.median(alone))
    if one.policy == "plan":
        model = estimate_mdp(logs, features())
        plan = Plan.of(model, selfreg.solve(model.mdp, budget))

        def decide(domain: str, step: int, observations: Sequence[str], left: int) -> bool:
            plan.set_fields({"domain": domain})
            return plan.decide([Step(text) for text in observations], (left,)).requests_help

        return tuple(world.truth(decide, budget))
    every = spread_requests(budget, horizon)
    rules = {
        "never": lambda domain, step, observations, left: False,
        "always": lambda domain, step, observations, left: True,
        "last-k": lambda domain, step, observations, left: step + 1 > horizon - budget,
        "every-n": lambda domain, step, observations, left: (step + 1) % every == 0,
    }
    return tuple(world.truth(rules[one.rule or one.policy], budget))


def one_log(world: Any, logging: str, copies: int, seed: int) -> Result:
    logs = read_rows(world.log(logging, seed, copies))
    result = forecast(logs, features(), BUDGET, seed=seed)
    simple = [one for one in result.outlooks if one.policy != "plan"]
    truths = [true_value(world, one, logs)[0] for one in simple]
    chosen = result.recommendation
    truth = true_value(world, chosen, logs)[0]
    held = [_holds(one, value) for one, value in zip(simple, truths, strict=True)]
    name = chosen.rule or chosen.policy
    return Result(name, _holds(chosen, truth), float(np.mean(held)), chosen.success.mean - truth,
                  max(truths) - truth, result.identified)  # fmt: skip


def _holds(one: PolicyForecast, truth: float) -> bool:
    return one.success.low - 1e-9 <= truth <= one.success.high + 1e-9


def show_worlds(folder: Path, actors: Sequence[str], seeds: range, chosen: Sequence[str], other: bool) -> None:
    """A row for each world and way of logging: counts over agents and seeds."""
    module = load_worlds(folder)
    print(f"{len(actors)} agents, {len(seeds)} seeds each, intervals at 90%; loss and error in points\n")
    print("| world | logging | q | fixable | copies | recommended | identified | interval held | all shown held | "
          "error, mean | loss, mean | loss, largest |")  # fmt: skip
    print("|" + " --- |" * 12)
    for kind, logging, q, share, copies in OTHER_WORLDS if other else WORLDS:
        if chosen and kind not in chosen:
            continue
        results = [
            one_log(module.World(kind, actor, q, share, folder / "data" / "mint" / "mint_core.jsonl.gz"),
                    logging, copies, seed)
            for actor in actors for seed in seeds
        ]  # fmt: skip
        counts = Counter(one.recommended for one in results)
        held, shown, error, loss = (
            [float(getattr(one, name)) for one in results] for name in ("held", "shown_held", "error", "loss")
        )
        print(f"| {kind} | {logging} | {q} | {share} | {copies} | "
              f"{', '.join(f'{name} {n}' for name, n in counts.most_common())} | "
              f"{np.mean([one.identified for one in results]):.2f} | {np.mean(held):.2f} | {np.mean(shown):.2f} | "
              f"{100 * np.mean(error):+.1f} | {100 * np.mean(loss):.1f} | {100 * np.max(loss):.1f} |",
              flush=True)  # fmt: skip


def read_mint(folder: Path) -> Iterator[tuple[str, list[Trajectory]]]:
    """Logs of each agent of MINT's core file, alone and with feedback after every turn."""
    roles = {"task": "task_id", "outcome": "success", "intervention": "helper", "steps": "steps"}
    roles |= {"observation": "observation", "action": "action"}
    logs = list(read_trajectories(folder / "data" / "mint" / "mint_core.jsonl.gz", "jsonl", roles=roles, skipped=[]))
    for actor in sorted({str(t.fields["actor"]) for t in logs}):
        yield actor, [t for t in logs if t.fields["actor"] == actor]


def show_mint(folder: Path) -> None:
    """Recommendation of one half of the tasks, and its success in the other half."""
    print(f"{SPLITS} splits; success in the half that was not used\n")
    print("| agent | never | always | recommended | mean less best of never and always | forecast less realised |")
    print("|" + " --- |" * 6)
    totals = []
    for actor, logs in read_mint(folder):
        tasks = sorted({t.task for t in logs})
        rows, names = [], Counter[str]()
        for split in range(SPLITS):
            half = set(np.random.default_rng(split).permutation(tasks)[: len(tasks) // 2].tolist())
            result = forecast([t for t in logs if t.task in half], features(), BUDGET, seed=split)
            other = [t for t in logs if t.task not in half]
            value = {
                name: float(np.mean([t.outcome for t in other if t.helped == (name == "always")]))
                for name in ("never", "always")
            }
            policy = result.recommendation.policy
            names[policy] += 1
            rows.append([value["never"], value["always"], value[policy], result.recommendation.success.mean])
        never, always, realised, promised = np.mean(rows, axis=0)
        totals.append((realised - max(never, always), promised - realised))
        print(f"| {actor} | {never:.3f} | {always:.3f} | {', '.join(f'{k} {n}' for k, n in names.most_common())} | "
              f"{100 * totals[-1][0]:+.2f} | {100 * totals[-1][1]:+.2f} |", flush=True)  # fmt: skip
    less, error = np.mean(totals, axis=0)
    print(f"mean less best {100 * less:+.2f} points, worst {100 * min(t[0] for t in totals):+.2f}; "
          f"forecast less realised {100 * error:+.2f} points")  # fmt: skip


def show_helpers(folder: Path, actors: Sequence[str], seeds: int) -> None:
    """14 help types in one log, each task alone and with each of them; 4 of them fix some tasks."""
    module = load_worlds(folder)
    print("| agent | seed | recommended | its truth | best on half of the tasks | its truth |\n|" + " --- |" * 6)
    for actor in actors:
        kinds = {f"fix{i}": ("fix", 0.3, share) for i, share in enumerate((0.1, 0.2, 0.3, 0.4))}
        kinds |= {f"null{i}": ("null", 0.5, 0.5) for i in range(10)}
        worlds = {name: module.World(kind, actor, q, share) for name, (kind, q, share) in kinds.items()}
        for seed in range(seeds):
            logs = _fourteen(worlds, seed)
            chosen = forecast(logs, features(), BUDGET, seed=seed).recommendation
            truth = worlds[chosen.help].always()[0] if chosen.help else worlds["null0"].always()[0]
            tasks = sorted({t.task for t in logs})
            half = set(np.random.default_rng(seed).permutation(tasks)[: len(tasks) // 2].tolist())
            means = {
                name: np.mean([t.outcome for t in logs if t.task in half and t.steps[0].intervention == name])
                for name in kinds
            }
            best = max(means, key=lambda name: means[name])
            print(f"| {actor} | {seed} | {chosen.policy} {chosen.help or ''} | {truth:.3f} | {best} | "
                  f"{worlds[best].always()[0]:.3f} |", flush=True)  # fmt: skip


def _fourteen(worlds: Mapping[str, Any], seed: int) -> list[Trajectory]:
    """Each task once alone, and once with each help type at every step."""
    rows = []
    for number, (name, world) in enumerate(worlds.items()):
        for row in world.log("twice", 100 * seed + number):
            helped = row["steps"][0]["helper"] is not None
            if helped or not number:
                steps = [step | {"helper": name if helped else None} for step in row["steps"]]
                rows.append(row | {"steps": steps, "episode": f"{name}/{row['episode']}"})
    return read_rows(rows)


def show_small() -> None:
    """Few episodes of three steps, two a task, helped by a coin at each step, of help that does nothing."""
    print("| episodes | budget | help recommended |\n|" + " --- |" * 3)
    for episodes, budget in ((30, 2), (48, 1), (48, 2), (48, 5), (70, 2), (100, 2), (100, 5), (200, 3)):
        bought = 0
        for seed in range(SMALL_LOGS):
            generator = np.random.default_rng(seed)
            logs = []
            for i in range(episodes):
                helped = generator.random(3) < 0.3
                steps = tuple(Step(f"obs {k}", intervention="person" if one else None) for k, one in enumerate(helped))
                logs.append(Trajectory(f"t{i // 2}", str(i), float(generator.random() < 0.5), steps))
            bought += forecast(logs, Features(["step"]), budget).recommended > 0
        print(f"| {episodes} | {budget} | {bought} of {SMALL_LOGS} |", flush=True)


def show_cost(folder: Path) -> None:
    """Seconds of one forecast of MINT's logs of one agent."""
    logs = next(read_mint(folder))[1]
    begin = time.perf_counter()
    result: PolicyForecasts = forecast(logs, features(), BUDGET)
    print(f"{len(logs)} episodes, {len(result.outlooks)} policies: {time.perf_counter() - begin:.2f} s")


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks forecast", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with known_truth.py and data/mint/mint_core.jsonl.gz")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=["worlds", "mint"])
    parser.add_argument("--worlds", nargs="*", default=[], help="only these worlds")
    parser.add_argument("--actors", nargs="+", help="agents of the worlds")
    parser.add_argument("--other", action="store_true", help="worlds that the rules of the forecast were not made with")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args(arguments)
    actors = options.actors or (OTHER_ACTORS if options.other else ACTORS)
    first = OTHER_SEED if options.other else 0
    if "worlds" in options.part:
        show_worlds(options.data, actors, range(first, first + options.seeds), options.worlds, options.other)
    if "mint" in options.part:
        show_mint(options.data)
    if "helpers" in options.part:
        show_helpers(options.data, actors, options.seeds)
    if "small" in options.part:
        show_small()
    if "cost" in options.part:
        show_cost(options.data)
