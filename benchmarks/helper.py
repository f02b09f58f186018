"""How well helpers learn the plan's decisions, on tasks held out from training; how long training and deciding take.

`--data` is a folder with `mint/mint_core.jsonl.gz` (MINT's published runs, one episode a line, with the fields named in
`ROLES`). `--runs` are run folders of `selfreg demo --seed 0`, `--seed 1`, ... A decision counts by |advantage|, what it
is worth in P(success); 1 minus the agreement is the share of what help timing is worth that is lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import selfreg
from selfreg._bootstrap import Interval, bootstrap, interval
from selfreg.data import read_trajectories
from selfreg.estimate import Features, estimate_mdp, load_classes
from selfreg.helper import (
    Helper,
    HelperConfig,
    HelperExamples,
    Labels,
    Ledger,
    calibrate,
    label,
    spending,
    train_helper,
)
from selfreg.helper.forms import FORMS
from selfreg.prm import PRM, PRMConfig, train_prm
from selfreg.prm.classifier import split_tasks
from selfreg.runs import RunFolder

MINT = "mint/mint_core.jsonl.gz"
ROLES = {"task": "task_id", "outcome": "success", "intervention": "helper", "steps": "steps"}
ROLES |= {"observation": "observation", "action": "action"}
ACTOR, MINT_BUDGET, MINT_HISTORY = "gpt-3.5-turbo-0613", 5, 4
CLASSES = Path(__file__).parents[1] / "examples" / "mint_classes.toml"
STRENGTHS = (0.1, 1.0, 10.0)
RESAMPLES = 1000
DECISIONS = 400
BASELINES = ("majority", "PRM threshold", "TF-IDF")

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
    return Case(labels, PRM.load(folder / "prm"), HelperConfig(seed=seed))


def mint(folder: Path, seed: int) -> Case:
    """One actor alone and with feedback at every step; abstract states by domain, step and class of observation."""
    where = {"actor": [ACTOR]}
    logs = list(read_trajectories(folder / MINT, "jsonl", roles=ROLES, where=where))
    model = estimate_mdp(logs, Features(["domain", "step", "class"], load_classes(CLASSES)))
    labels = label(logs, model, selfreg.solve(model.mdp, MINT_BUDGET))
    prm = train_prm(logs, PRMConfig(kind="tfidf", history=MINT_HISTORY, seed=seed))
    return Case(labels, prm, HelperConfig(history=MINT_HISTORY, seed=seed, epochs=6, patience=2))


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
        chosen = validation.at(at(validation, b))
        known = np.array([score[text] for text in chosen.texts])
        tried = np.unique(np.quantile(known, np.linspace(0, 1, 101)))
        gains = [chosen.weights[(known < t) == (chosen.decisions > 0)].sum() for t in [*tried, np.inf]]
        threshold = [*tried, np.inf][int(np.argmax(gains))]
        return np.array([score[text] < threshold for text in test.at(at(test, b)).texts], dtype=np.int64)

    return by_budget(test, decide)


def tfidf(case: Case, train: HelperExamples, validation: HelperExamples, test: HelperExamples) -> Ints:
    """At each budget logistic regression on words, marks and pairs of them; its penalty by validation tasks."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", max_features=50_000)
    words.fit(list(dict.fromkeys(train.texts)))

    def decide(b: int) -> Ints:
        parts = [part.at(at(part, b)) for part in (train, validation, test)]
        if len(set(parts[0].decisions[parts[0].weights > 0].tolist())) < 2:
            return np.full(len(parts[2].texts), _most(train, b), dtype=np.int64)
        x = [words.transform(part.texts) for part in parts]
        best: tuple[float, Any] | None = None
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=500)
            model.fit(x[0], parts[0].decisions, sample_weight=parts[0].weights / parts[0].weights.mean())
            gain = float(parts[1].weights[model.predict(x[1]) == parts[1].decisions].sum())
            if best is None or gain > best[0]:
                best = gain, model
        assert best is not None
        return np.asarray(best[1].predict(x[2]), dtype=np.int64)

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


def contest(case: Case, seed: int, forms: Sequence[str]) -> tuple[list[Result], dict[str, Helper]]:
    """Every form of helper and every baseline on one split."""
    examples = case.labels.examples(case.config.history)
    split = split_tasks(examples.tasks, case.config)
    train, validation, test = (examples.of(split[name]) for name in ("train", "validation", "test"))
    found, helpers = [], {}
    for form in forms:
        begin = perf_counter()
        helper = train_helper(case.labels, dataclasses.replace(case.config, form=form))
        seconds, helpers[form] = perf_counter() - begin, helper
        hit = helper.choices(test.texts, test.budgets) == test.decisions
        found.append(Result(f"helper, {form}", seed, test, hit, seconds, helper.figures))
        print(f"  {form}, split {seed}: {seconds:.0f} s", file=sys.stderr, flush=True)
    for name, rule in zip(BASELINES, (majority, prm_threshold, tfidf), strict=True):
        begin = perf_counter()
        hit = rule(case, train, validation, test) == test.decisions
        found.append(Result(name, seed, test, hit, perf_counter() - begin))
    return found, helpers


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
    print(f"| | all budgets | {names[0]} less this | {' | '.join(f'budget {b}' for b in budgets)} | training, s |")
    print("| " + " | ".join(["---"] * (4 + len(budgets))) + " |")
    for name, chosen in by_name.items():
        less = "" if name == names[0] else shown(agreement(first, chosen))
        cells = [shown(agreement(chosen)), less, *(f"{agreement(chosen, budget=b).mean:.3f}" for b in budgets)]
        print(f"| {name} | {' | '.join(cells)} | {statistics.median(one.seconds for one in chosen):.0f} |")
    share = np.mean([one.test.weights[one.test.decisions > 0].sum() / one.test.weights.sum() for one in first])
    print(f"\nThe plan asks in {share:.0%} of the test weight. Figures of the helpers, mean over splits:\n")
    figures = [name for name in first[0].figures if name.startswith(("recall", "falls", "value", "epochs"))]
    print(f"| | {' | '.join(figures)} |")
    print("| " + " | ".join(["---"] * (1 + len(figures))) + " |")
    for name in names[: len(forms)]:
        cells = [f"{np.mean([one.figures.get(key, np.nan) for one in by_name[name]]):.3f}" for key in figures]
        print(f"| {name} | {' | '.join(cells)} |")


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


TIMED = """
import sys
import torch, transformers, sklearn.feature_extraction.text
import selfreg
from selfreg.helper import Helper
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
torch.set_num_threads(1)
before = resident()
helper = Helper.load(sys.argv[1])
helper.decide(["warm up"], selfreg.Ledger(1))
print(before, resident())
"""


def show_latency(helpers: dict[str, Helper], texts: Sequence[str]) -> None:
    """Time of one decision on one CPU thread, with reasons and without, and the memory of a process that decides."""
    import torch

    torch.set_num_threads(1)
    print(f"\nOne decision on one CPU thread, {DECISIONS} states, and the memory it takes beside Python and torch\n")
    head = ["", "parameters", "p50, ms", "p95, ms", "p50 of CPU time, ms", "p50 without reasons, ms"]
    head += ["p50, ledger in a file, ms", "memory, MB"]
    print(f"| {' | '.join(head)} | folder, MB |")
    print("| " + " | ".join(["---"] * (len(head) + 1)) + " |")
    for form, helper in helpers.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "helper"
            helper.save(path)
            size = sum(p.stat().st_size for p in path.iterdir()) / 1e6
            before, after = map(int, _run(TIMED, str(path)).split())
            plain = dataclasses.replace(helper, memory=None)
            top = int(helper.limits[0])
            file = selfreg.SQLiteLedger(Path(folder) / "ledger", top)
            cases = [(helper, Ledger(top)), (plain, Ledger(top)), (helper, file)]
            times: list[list[float]] = [[] for _ in cases]
            busy: list[float] = []
            for text in texts[:DECISIONS]:
                for spent, (one, ledger) in zip(times, cases, strict=True):  # in turn: all meet the same machine
                    begin, worked = perf_counter(), process_time()
                    one.decide([text], ledger)
                    spent.append(1e3 * (perf_counter() - begin))
                    busy += [1e3 * (process_time() - worked)] if ledger is cases[0][1] else []
        middle = [statistics.median(spent) for spent in times]
        model: Any = helper.classifier
        weights = [p.numel() for p in model._model.parameters()] if form != "tfidf" else [model._weights.size]
        count = sum(weights)
        cells = [
            f"{count:,}",
            f"{middle[0]:.2f}",
            f"{np.quantile(times[0], 0.95):.2f}",
            f"{statistics.median(busy):.2f}",
        ]
        cells += [f"{middle[1]:.2f}", f"{middle[2]:.2f}", f"{(after - before) / 1e6:.0f} beside {before / 1e6:.0f}"]
        print(f"| {form} | {' | '.join(cells)} | {size:.1f} |")


def _run(code: str, *arguments: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def main(argv: Sequence[str] = ()) -> None:
    """Print tables in Markdown; progress goes to the error stream."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks helper", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with MINT's log")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run folders of the demo, one a seed")
    parser.add_argument("--seeds", type=int, default=3, help="splits of MINT")
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=list(FORMS))
    arguments = parser.parse_args(argv)
    if arguments.data is None and not arguments.runs:
        parser.error("give --data, --runs or both")
    sets: dict[str, list[Callable[[], Case]]] = {}
    if arguments.runs:
        sets["BabyAI"] = [lambda folder=folder, i=i: babyai(folder, i) for i, folder in enumerate(arguments.runs)]  # type: ignore[misc]
    if arguments.data is not None:
        sets["MINT"] = [lambda i=i: mint(arguments.data, i) for i in range(arguments.seeds)]  # type: ignore[misc]
    for title, cases in sets.items():
        found: list[Result] = []
        last: dict[str, Helper] = {}
        paired: list[tuple[Helper, Labels]] = []
        for seed, make in enumerate(cases):
            case = make()
            results, last = contest(case, seed, arguments.forms)
            found += results
            paired.append((last[arguments.forms[0]], case.labels))
        tables(title, found, arguments.forms)
        show_spending(paired)
        show_latency(last, list(dict.fromkeys(found[-1].test.texts)))
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
