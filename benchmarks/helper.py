"""How well helpers learn the plan's decisions, on tasks held out from training; what training and deciding take.

`--data` is a folder with `mint/mint_core.jsonl.gz` (MINT's published runs, one episode a line, with the fields named in
`ROLES`). `--runs` are run folders of `selfreg demo --seed 0`, `--seed 1`, ... A decision counts by |advantage|, what it
is worth in P(success); 1 minus the agreement is the share of what help timing is worth that is lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import selfreg
from benchmarks import latency
from selfreg._util.bootstrap import Interval, bootstrap, interval
from selfreg.data import read_trajectories
from selfreg.estimate import Features, estimate_mdp, load_classes
from selfreg.helper import (
    Helper,
    HelperConfig,
    HelperExamples,
    Labels,
    calibrate,
    label,
    spending,
    train_helper,
)
from selfreg.helper.models import FORMS
from selfreg.prm import PRM, PRMConfig, train_prm
from selfreg.prm.transformer import split_tasks
from selfreg.runs import RunFolder

MINT = "mint/mint_core.jsonl.gz"
ROLES = {"task": "task_id", "outcome": "success", "intervention": "helper", "steps": "steps"}
ROLES |= {"observation": "observation", "action": "action"}
ACTOR, MINT_BUDGET, MINT_HISTORY = "gpt-3.5-turbo-0613", 5, 4
CLASSES = Path(__file__).parents[1] / "examples" / "mint_classes.toml"
RESAMPLES = 1000
BASELINES = ("majority", "PRM threshold")
SECONDS = "cpu_seconds"
PAIRED = ("text", "sft")

TRAINED = """
import sys
from dataclasses import replace
from pathlib import Path
import torch, transformers, sklearn.linear_model
from benchmarks import helper
from benchmarks.prm import peak_memory
torch.set_num_threads(1)
case = helper.SETS[sys.argv[1]](Path(sys.argv[2]), 0)
before = peak_memory()
helper.train_helper(case.labels, replace(case.config, form=sys.argv[3], epochs=1))
print(before, peak_memory())
"""

Ints = NDArray[np.int64]


class Case(NamedTuple):
    """One split of one data set."""

    labels: Labels
    prm: PRM
    config: HelperConfig


class Result(NamedTuple):
    """Decisions of one contestant on the test tasks of one split."""

    name: str
    seed: int
    test: HelperExamples
    hit: NDArray[np.bool_]
    seconds: float = 0.0
    figures: Mapping[str, float] = MappingProxyType({})


def babyai(folder: Path, seed: int) -> Case:
    """From a run folder of `selfreg demo`."""
    run = RunFolder.open(folder)
    model = run.model()
    labels = label(run.trajectories(), model, run.solution(model))
    return Case(labels, PRM.load(folder / "prm"), HelperConfig(history=0, seed=seed, rounds=0, price=0.0))


def mint(folder: Path, seed: int) -> Case:
    """One actor alone and with feedback at every step; abstract states by domain, step and class of observation."""
    where = {"actor": [ACTOR]}
    logs = list(read_trajectories(folder / MINT, "jsonl", roles=ROLES, where=where))
    model = estimate_mdp(logs, Features(["domain", "step", "class"], load_classes(CLASSES)))
    labels = label(logs, model, selfreg.solve(model.mdp, MINT_BUDGET))
    prm = train_prm(logs, PRMConfig(kind="tfidf", history=MINT_HISTORY, seed=seed))
    return Case(labels, prm, HelperConfig(history=MINT_HISTORY, seed=seed, rounds=0, price=0.0, epochs=6, patience=2))


SETS: dict[str, Callable[[Path, int], Case]] = {"BabyAI": babyai, "MINT": mint}


def majority(case: Case, train: HelperExamples, validation: HelperExamples, test: HelperExamples) -> Ints:
    """At each budget the decision with the most weight in training."""
    return by_budget(test, lambda b: np.full(at(test, b).sum(), _most(train, b), dtype=np.int64))


def prm_threshold(case: Case, train: HelperExamples, validation: HelperExamples, test: HelperExamples) -> Ints:
    """At each budget help below the PRM score that agrees best on validation tasks."""
    score: dict[str, float] = {}
    for part in (validation, test):
        texts = list(dict.fromkeys(part.texts))
        score |= dict(zip(texts, case.prm.score(texts), strict=True))

    def decide(b: int) -> Ints:
        chosen = validation.select(at(validation, b))
        known = np.array([score[text] for text in chosen.texts])
        tried = np.unique(np.quantile(known, np.linspace(0, 1, 101)))
        gains = [chosen.weights[(known < t) == (chosen.decisions > 0)].sum() for t in [*tried, np.inf]]
        threshold = [*tried, np.inf][int(np.argmax(gains))]
        return np.array([score[text] < threshold for text in test.select(at(test, b)).texts], dtype=np.int64)

    return by_budget(test, decide)


def at(examples: HelperExamples, budget: int) -> NDArray[np.bool_]:
    """Which examples are at a budget."""
    return np.asarray(examples.budgets[:, 0] == budget)


def by_budget(test: HelperExamples, decide: Callable[[int], Ints]) -> Ints:
    """Decisions on `test`, budget by budget."""
    result = np.zeros(len(test.texts), dtype=np.int64)
    for b in np.unique(test.budgets[:, 0]).tolist():
        result[at(test, b)] = decide(b)
    return result


def _most(train: HelperExamples, budget: int) -> int:
    chosen = at(train, budget)
    return int(np.bincount(train.decisions[chosen], train.weights[chosen]).argmax())


def contest(
    case: Case, seed: int, forms: Sequence[str], share: float, kept: Path | None
) -> tuple[list[Result], dict[str, Helper]]:
    """Every form of helper and every baseline on one split."""
    examples = case.labels.examples(case.config.history)
    split = split_tasks(examples.tasks, case.config)
    train, validation, test = (examples.select_tasks(split[name]) for name in ("train", "validation", "test"))
    found, helpers = [], dict[str, Helper]()
    for form in forms:
        config = dataclasses.replace(case.config, form=form)
        helper = trained(case.labels, config, share, None if kept is None else kept / f"{form}-{seed}")
        if helper.memory is None and helpers:  # what is remembered does not depend on the form
            helper = dataclasses.replace(helper, memory=next(iter(helpers.values())).memory)
        helpers[form] = helper
        if helper.split != split:
            raise SystemExit(f"{kept}/{form}-{seed} is of other data")
        hit = helper.choices(test.texts, test.budgets) == test.decisions
        found.append(Result(f"helper, {form}", seed, test, hit, helper.figures[SECONDS], helper.figures))
        print(f"  {form}, split {seed}: {helper.figures[SECONDS]:.0f} s", file=sys.stderr, flush=True)
    for name, rule in zip(BASELINES, (majority, prm_threshold), strict=True):
        begin = process_time()
        hit = rule(case, train, validation, test) == test.decisions
        found.append(Result(name, seed, test, hit, process_time() - begin))
    return found, helpers


def trained(labels: Labels, config: HelperConfig, share: float, folder: Path | None) -> Helper:
    """A helper, its CPU seconds of training among its figures; from `folder` where an earlier run put it.

    Forms that read the budget as text see `share` of the pairs of state and budget.
    """
    if folder is not None and folder.exists():
        return Helper.load(folder)
    begin = process_time()
    if config.form in PAIRED and share < 1:
        helper = train_helper(
            sampled(labels.examples(config.history), share, config), config, costs=labels.model.mdp.costs
        )
    else:
        helper = train_helper(labels, config)
    helper = dataclasses.replace(helper, figures=helper.figures | {SECONDS: process_time() - begin})
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        helper.save(folder)
    return helper


def sampled(examples: HelperExamples, share: float, config: HelperConfig) -> HelperExamples:
    """Weight 0 for all but `share` of the pairs of text and budget of training tasks."""
    pairs = list(zip(examples.texts, examples.budgets[:, 0].tolist(), strict=True))
    every = sorted(set(pairs))
    kept = dict(zip(every, np.random.default_rng(config.seed).random(len(every)) < share, strict=True))
    train = set(split_tasks(examples.tasks, config)["train"])
    used = [task not in train or kept[pair] for task, pair in zip(examples.tasks, pairs, strict=True)]
    return dataclasses.replace(examples, weights=examples.weights * used)


def agreement(found: Sequence[Result], other: Sequence[Result] = (), budget: int | None = None) -> Interval:
    """Weighted agreement, mean over splits, less that of `other`; the interval draws tasks."""
    tasks = sorted({task for one in found for task in one.test.tasks})
    place = {task: i for i, task in enumerate(tasks)}

    def sums(one: Result) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        used = np.ones(len(one.hit), dtype=bool) if budget is None else at(one.test, budget)
        index = np.array([place[task] for task in one.test.tasks])[used]
        weight = one.test.weights[used]
        return tuple(np.bincount(index, w, len(tasks)) for w in (weight * one.hit[used], weight))  # type: ignore[return-value]

    parts, others = [sums(one) for one in found], [sums(one) for one in other]

    def mean(times: NDArray[Any]) -> float:
        with np.errstate(invalid="ignore"):
            first = np.mean([times @ met / (times @ every) for met, every in parts])
            return float(first - (np.mean([times @ met / (times @ every) for met, every in others]) if others else 0.0))

    drawn = [np.bincount(sample, minlength=len(tasks)) for sample in bootstrap(len(tasks), resamples=RESAMPLES)]
    return interval(mean(np.ones(len(tasks))), np.array([mean(times) for times in drawn]))


def shown(values: Interval) -> str:
    """A mean with its bounds."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def tables(title: str, found: Sequence[Result], forms: Sequence[str]) -> None:
    """Agreement in all and by budget, and what the helpers say of themselves."""
    names = [f"helper, {form}" for form in forms] + list(BASELINES)
    by_name = {name: [one for one in found if one.name == name] for name in names}
    first, splits = by_name[names[0]], len({one.seed for one in found})
    budgets = np.unique(first[0].test.budgets[:, 0]).tolist()
    tasks = len({task for one in first for task in one.test.tasks})
    print(f"\n{title}: weighted agreement with the plan on test tasks, {splits} splits, {tasks} tasks in all\n")
    print(f"| | all budgets | {names[0]} less this | {' | '.join(f'budget {b}' for b in budgets)} | training, CPU s |")
    print("| " + " | ".join(["---"] * (4 + len(budgets))) + " |")
    for name, chosen in by_name.items():
        less = "" if name == names[0] else shown(agreement(first, chosen))
        cells = [shown(agreement(chosen)), less, *(f"{agreement(chosen, budget=b).mean:.3f}" for b in budgets)]
        print(f"| {name} | {' | '.join(cells)} | {statistics.median(one.seconds for one in chosen):.0f} |")
    share = np.mean([one.test.weights[one.test.decisions > 0].sum() / one.test.weights.sum() for one in first])
    print(f"\nThe plan asks in {share:.0%} of the test weight. Figures of the helpers, mean over splits:\n")
    figures = [
        name for name in first[0].figures if name.startswith(("recall", "monotonicity_violations", "value", "epochs"))
    ]
    print(f"| | agreement, split by split | {' | '.join(figures)} |")
    print("| " + " | ".join(["---"] * (2 + len(figures))) + " |")
    for name in names[: len(forms)]:
        each = " ".join(f"{one.figures['agreement_weighted']:.3f}" for one in by_name[name])
        known = [one.figures for one in by_name[name]]
        cells = [f"{np.mean([one[key] for one in known]):.3f}" if key in known[0] else "" for key in figures]
        print(f"| {name} | {each} | {' | '.join(cells)} |")


def show_spending(helpers: Sequence[tuple[Helper, Labels]]) -> None:
    """What helpers spend on test tasks in the estimated model, before and after calibration, and what the plan does."""
    rows = []
    for helper, labels in helpers:
        raw, calibrated = spending(helper, labels), spending(calibrate(helper, labels), labels)
        rows.append((raw.plan[:, 0], raw.helper[:, 0], calibrated.helper[:, 0]))
    mean = np.mean(rows, axis=0)
    print("\nHelp spent on test tasks in the estimated model, mean over splits\n")
    print(f"| | {' | '.join(f'budget {b}' for b in range(1, mean.shape[1]))} |")
    print("| " + " | ".join(["---"] * mean.shape[1]) + " |")
    for name, row in zip(("plan", "helper", "helper, calibrated"), mean, strict=True):
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in row[1:])} |")


def show_memory(title: str, source: Path, forms: Sequence[str]) -> None:
    """Peak memory of a program that trains one helper, whatever the number of epochs."""
    print("\nPeak memory of a training in a process of its own, and of the same before it trains, MB\n")
    print("| | training | before |\n| --- | --- | --- |")
    for form in forms:
        before, after = map(float, latency.run(TRAINED, title, str(source), form).split())
        print(f"| {form} | {after:.0f} | {before:.0f} |", flush=True)


def main(argv: Sequence[str] = ()) -> None:
    """Print tables in Markdown; progress goes to the error stream."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks helper", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with MINT's log")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run folders of the demo, one a seed")
    parser.add_argument("--seeds", type=int, default=3, help="splits of MINT")
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--share", type=float, default=1.0, help="of states x budgets that text and sft learn from")
    parser.add_argument("--keep", type=Path, help="folder of helpers that runs with the same options share")
    arguments = parser.parse_args(argv)
    if arguments.data is None and not arguments.runs:
        parser.error("give --data, --runs or both")
    sources = {"BabyAI": arguments.runs}
    sources["MINT"] = [] if arguments.data is None else [arguments.data] * arguments.seeds
    for title, folders in sources.items():
        if not folders:
            continue
        found: list[Result] = []
        last: dict[str, Helper] = {}
        paired: list[tuple[Helper, Labels]] = []
        for seed, folder in enumerate(folders):
            case = SETS[title](folder, seed)
            results, last = contest(
                case, seed, arguments.forms, arguments.share, arguments.keep and arguments.keep / title
            )
            found += results
            paired.append((last[arguments.forms[0]], case.labels))
        tables(title, found, arguments.forms)
        show_spending(paired)
        latency.show(last, list(dict.fromkeys(found[-1].test.texts)))
        show_memory(title, folders[0], arguments.forms)
