"""The PRM's figures on two public logs, beside plain models: three splits by task, intervals over tasks.

`--data` is a folder with `mint/mint_core.jsonl.gz` (MINT's published runs, one episode a line) and
`bigbench_mistake/bigbench_mistake.jsonl.gz` (BIG-Bench-Mistake, one trace a line), with the fields named in `ROLES`.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import msgspec
import numpy as np

from selfreg._util.bootstrap import Interval, bootstrap, interval
from selfreg.data import Trajectory, read_trajectories
from selfreg.prm import PRMConfig, train_prm
from selfreg.prm.linear import EmbeddingLogistic
from selfreg.prm.metrics import auroc, brier, expected_calibration_error
from selfreg.prm.prm import collect_visits, score_visits
from selfreg.prm.visits import Visits

MINT, MISTAKES = "mint/mint_core.jsonl.gz", "bigbench_mistake/bigbench_mistake.jsonl.gz"
ROLES = {"task": "task_id", "outcome": "success", "steps": "steps", "observation": "observation", "action": "action"}
ACTOR = "gpt-3.5-turbo-0613"
METRICS = {"AUROC": auroc, "Brier": brier, "ECE": expected_calibration_error}
RESAMPLES = 1000
LABELS_A_TRACE = 4
MANY_STEPS = 100  # more than any episode has: all of it is shown
CONFIG = PRMConfig(history=MANY_STEPS, show_step=True, max_tokens=256, test_share=0.3)


class Result(NamedTuple):
    """One model on the test tasks of one split."""

    model: str
    seed: int
    score: np.ndarray[tuple[int], np.dtype[np.float64]]
    visits: Visits
    seconds: float  # of CPU time


def mint(folder: Path, judged: bool = False) -> list[Trajectory]:
    """The actor's episodes without help; with `judged`, also those with GPT-4's feedback (GOOD, BAD)."""
    if not judged:
        where = {"actor": [ACTOR], "helper": ["null"]}
        return list(read_trajectories(folder / MINT, "jsonl", roles=ROLES, where=where))
    roles = {**ROLES, "label": "label", "intervention": "helper"}
    return list(read_trajectories(folder / MINT, "jsonl", roles=roles, where={"actor": [ACTOR]}))


def mistakes(folder: Path) -> list[Trajectory]:
    """Traces with the mark of at most `LABELS_A_TRACE` steps each, drawn at random: steps of one trace are alike."""
    rng, chosen = np.random.default_rng(0), []
    for trace in read_trajectories(folder / MISTAKES, "jsonl", roles={**ROLES, "label": "label"}):
        kept = rng.permutation(len(trace.steps))[:LABELS_A_TRACE]
        steps = tuple(s if i in kept else msgspec.structs.replace(s, label=None) for i, s in enumerate(trace.steps))
        chosen.append(msgspec.structs.replace(trace, steps=steps))
    return chosen


def results(
    logs: Sequence[Trajectory], models: dict[str, PRMConfig], seeds: int, judged: Sequence[Trajectory] = ()
) -> list[Result]:
    """Every model on every split; those that learn from labels too on the judged logs, of the same tasks."""
    found = []
    for seed in range(seeds):
        for name, config in models.items():
            config = dataclasses.replace(config, seed=seed)
            used = judged if config.targets == "both" else logs
            begin = process_time()
            prm = train_prm(used, config)
            seconds = process_time() - begin
            visits = collect_visits(used, config)[1].select_tasks(prm.split["test"])
            found.append(Result(name, seed, score_visits(prm, visits), visits, seconds))
            print(f"  {name}, split {seed}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def remember_embeddings() -> None:
    """Embed each text once, whatever the split: it is the same number."""
    plain, known = EmbeddingLogistic.embed, dict[str, Any]()

    def embed(self: EmbeddingLogistic, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, plain(self, new), strict=True))
        return np.array([known[text] for text in texts])

    EmbeddingLogistic.embed = embed  # type: ignore[method-assign]


def figures(found: Sequence[Result], metric: str, other: Sequence[Result] = ()) -> Interval:
    """Mean over splits, less that of `other`; in a resample a task counts as often in each split that tests it."""
    tasks = sorted({task for one in found for task in one.visits.tasks})
    place = {task: i for i, task in enumerate(tasks)}
    drawn = [np.bincount(sample, minlength=len(tasks)) for sample in bootstrap(len(tasks), resamples=RESAMPLES)]

    def mean(times: np.ndarray[tuple[int], np.dtype[np.int64]], chosen: Sequence[Result]) -> float:
        values = []
        for one in chosen:
            weight = times[[place[task] for task in one.visits.tasks]]
            values.append(METRICS[metric](one.score, one.visits.outcomes, weight) if weight.any() else np.nan)
        return float(np.mean(values))

    def value(times: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        return mean(times, found) - (mean(times, other) if other else 0.0)

    return interval(value(np.ones(len(tasks), dtype=np.int64)), np.array([value(times) for times in drawn]))


def cut(one: Result, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Result:
    """A part of the test states."""
    return one._replace(score=one.score[mask], visits=one.visits.select(mask))


def shown(values: Interval) -> str:
    """A mean with its bounds."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def main_table(found: Sequence[Result], names: Sequence[str]) -> None:
    """AUROC, Brier and ECE of every model, and the PRM's Brier score less its own."""
    print(f"| model | {' | '.join(METRICS)} | Brier of {names[0]} less this | training, CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    first = [one for one in found if one.model == names[0]]
    for name in names:
        chosen = [one for one in found if one.model == name]
        cells = [shown(figures(chosen, metric)) for metric in METRICS]
        cells.append("" if name == names[0] else shown(figures(first, "Brier", chosen)))
        cells.append(f"{max(one.seconds for one in chosen):.0f}")
        print(f"| {name} | {' | '.join(cells)} |")


def part_table(found: Sequence[Result], names: Sequence[str], parts: dict[str, Sequence[object]], head: str) -> None:
    """AUROC of every model on parts of the states; `parts` has the part of each state of each result."""
    print(f"| {head} | states | share 1 | {' | '.join(names)} |")
    print("| " + " | ".join(["---"] * (3 + len(names))) + " |")
    order = sorted({part for values in parts.values() for part in values}, key=lambda part: (str(type(part)), part))
    for part in order:
        row = {
            name: [cut(one, np.array([p == part for p in parts[f"{name}/{one.seed}"]]))
                   for one in found if one.model == name]
            for name in names
        }  # fmt: skip
        states = row[names[0]]
        outcomes = np.concatenate([one.visits.outcomes for one in states])
        cells = [shown(figures(chosen, "AUROC")) for chosen in row.values()]
        print(f"| {part} | {len(outcomes) // len(states)} | {outcomes.mean():.2f} | {' | '.join(cells)} |")


def models(encoder: str | None, targets: str) -> dict[str, PRMConfig]:
    """The PRM from scratch and the plain models."""
    base = dataclasses.replace(CONFIG, targets=targets)
    chosen = {"PRM from scratch": base}
    for kind in ("constant", "step", "tfidf", *(("embedding",) if encoder is not None else ())):
        chosen[kind] = dataclasses.replace(base, kind=kind, model=encoder)
    return chosen


def show_mint(folder: Path, encoder: str | None, seeds: int) -> None:
    """P(success) of MINT's actor."""
    logs = mint(folder)
    used = models(encoder, "outcomes")
    used["tfidf, labels too"] = dataclasses.replace(used["tfidf"], targets="both")
    found = results(logs, used, seeds, mint(folder, judged=True))
    tasks = {t.task for t in logs}
    rate = np.mean([t.outcome for t in logs if t.outcome is not None])
    print(f"\nMINT, {ACTOR} alone: {len(logs)} episodes of {len(tasks)} tasks, {rate:.1%} succeed; {seeds} splits\n")
    main_table(found, list(used))
    print("\nAUROC of predicting success, by the number of the observation (0 is the task alone)\n")
    parts: dict[str, Sequence[object]] = {f"{one.model}/{one.seed}": one.visits.steps.tolist() for one in found}
    part_table(found, [name for name in used if name not in ("constant", "step")], parts, "observation")
    domain = {t.task: str(t.fields["domain"]) for t in logs}
    print("\nAUROC within a domain\n")
    parts = {f"{one.model}/{one.seed}": [domain[task] for task in one.visits.tasks] for one in found}
    part_table(found, [name for name in used if name not in ("constant", "step")], parts, "domain")


def show_finetuned(folder: Path, encoder: str, seeds: int, epochs: int, tokens: int) -> None:
    """All weights of an encoder trained on MINT, beside the same encoder frozen; short, so that a CPU can do it."""
    base = dataclasses.replace(CONFIG, model=encoder, max_tokens=tokens)
    used = {"PRM fine-tuned": dataclasses.replace(base, epochs=epochs, batch_size=16)}
    used |= {kind: dataclasses.replace(base, kind=kind) for kind in ("embedding", "constant", "step", "tfidf")}
    found = results(mint(folder), used, seeds)
    print(f"\nMINT, a fine-tuned encoder: {tokens} tokens, {epochs} epoch(s) of batches of 16; {seeds} split(s)\n")
    main_table(found, list(used))


def show_mistakes(folder: Path, encoder: str | None, seeds: int) -> None:
    """Whether a mistake has happened yet, in traces of reasoning."""
    logs = mistakes(folder)
    used = models(encoder, "labels")
    found = results(logs, used, seeds)
    print(f"\nBIG-Bench-Mistake: no mistake so far, after a step; {len(logs)} traces; {seeds} splits by task\n")
    main_table(found, list(used))
    print("\nAUROC by kind of task\n")
    kinds = {t.task: str(t.fields["domain"]) for t in logs}
    parts: dict[str, Sequence[object]] = {
        f"{one.model}/{one.seed}": [kinds[task] for task in one.visits.tasks] for one in found
    }
    part_table(found, [name for name in used if name != "constant"], parts, "kind")


def peak_memory() -> float:
    """Most memory that this program (not its parent, whose peak `getrusage` passes on) has used, in MB; Linux."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def show_memory(folder: Path) -> None:
    """Time and peak memory of one training from scratch on MINT, in a process of its own."""
    code = f"""
from pathlib import Path
import torch, transformers, sklearn.linear_model, peft
from benchmarks import prm
logs = prm.mint(Path({str(folder)!r}))
before = prm.peak_memory()
begin = prm.process_time()
prm.train_prm(logs, prm.CONFIG)
print(prm.process_time() - begin, before, prm.peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, before, after = (float(part) for part in done.stdout.split()[-3:])
    print(
        f"\nPRM from scratch on MINT: {seconds:.0f} s of CPU time; peak memory {after:.0f} MB, "
        f"{before:.0f} MB of it Python, torch, transformers and the log"
    )


def main(argv: Sequence[str] = ()) -> None:
    """Print tables in Markdown; progress goes to the error stream."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks prm", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the logs")
    parser.add_argument("--encoder", help="folder or hub id of a sentence encoder, for `embedding`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of the fine-tuning")
    parser.add_argument("--tokens", type=int, default=128, help="of a text, in the fine-tuning")
    parser.add_argument(
        "--only",
        help="finetune (of the encoder, on MINT) takes long, and comes only if asked for",
        choices=("mint", "mistakes", "memory", "finetune"),
    )
    arguments = parser.parse_args(argv)
    if arguments.encoder is not None:
        remember_embeddings()
    if arguments.only in (None, "mint"):
        show_mint(arguments.data, arguments.encoder, arguments.seeds)
    if arguments.only in (None, "mistakes"):
        show_mistakes(arguments.data, arguments.encoder, arguments.seeds)
    if arguments.only == "finetune":
        if arguments.encoder is None:
            parser.error("--only finetune needs --encoder")
        show_finetuned(arguments.data, arguments.encoder, arguments.seeds, arguments.epochs, arguments.tokens)
    if arguments.only in (None, "memory"):
        show_memory(arguments.data)
