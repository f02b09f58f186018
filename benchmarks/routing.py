"""`python -m benchmarks routing --data FOLDER`: which queries go to the strong model, against a plain regression.

FOLDER has `router_arena/answers.csv.gz` (RouterArena's cached answers: one row a query and model). `--table FILE` is
any other CSV of two models: with columns `query_id`, `question`, `model`, `score`, or, as RouteLLM's tables, a row a
query and a column a model. In five folds of queries, each router learns from four and ranks the fifth; shares of
queries are sent to the strong model in that order. The gain over random at a share is the mean score above the line
between always the weak and always the strong model; its mean over shares is divided by the distance of the two. Peer:
logistic regression on TF-IDF of P(strong right) less that of P(weak right). The second table: the share of a fold that
form `gain` sends where a share is asked for (`ration`).
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import selfreg
from selfreg._util.bootstrap import bootstrap, interval
from selfreg.data import ReadOptions, Step, Trajectory, read_trajectories
from selfreg.data.proposals import propose_models
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.helper import Helper, HelperConfig, Labels, label, ration, train_helper
from selfreg.helper.models import GAIN
from selfreg.helper.thresholds import request_chance

ARENA = "router_arena/answers.csv.gz"
COLUMNS = ("query_id", "question", "model", "score")
FOLDS, STRONG, RESAMPLES = 5, "strong", 1000
SHARES = (0.05, 0.2, 0.5, 0.8)
FORMS = ("gain", "tfidf", "words", "auto")
PEER = "TF-IDF regression"

Floats = NDArray[np.float64]


class Table(NamedTuple):
    """Queries with the scores of a weak and a strong model, the names of these first."""

    models: tuple[str, str]
    texts: list[str]
    scores: Floats  # (n, 2)


def read_table(path: Path) -> Table:
    """From a CSV, gzipped or not; the model with the lower mean score is the weak one; scores are clipped to [0, 1].

    Raises
    ------
    ValueError
        There are other columns, other than two models, or no query that both answered.
    """
    by_model: dict[str, dict[str, float]] = {}
    questions: dict[str, str] = {}
    for query, question, model, score in _answers(path):
        questions.setdefault(query, question)
        by_model.setdefault(model, {})[query] = score
    if len(by_model) != 2:
        raise ValueError(f"{path} has the models {sorted(by_model)}; expected two")
    first, second = by_model.values()
    both = [query for query in questions if query in first and query in second]
    if not both:
        raise ValueError(f"{path}: no query was answered by both models")
    means = {name: np.mean([scores[query] for query in both]) for name, scores in by_model.items()}
    weak, strong = sorted(means, key=lambda name: float(means[name]))
    scores = np.array([[by_model[weak][query], by_model[strong][query]] for query in both])
    return Table((weak, strong), [questions[query] for query in both], np.clip(scores, 0.0, 1.0))


def _answers(path: Path) -> list[tuple[str, str, str, float]]:
    """Query, question, model and score of each answer."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wide = propose_models(rows, ReadOptions())
    if wide is None:
        if not rows or not set(COLUMNS) <= set(rows[0]):
            columns = ", ".join(rows[0] if rows else ())
            raise ValueError(f"{path} has the columns {columns}; expected {', '.join(COLUMNS)}, or a column a model")
        return [(row["query_id"], row["question"], row["model"], float(row["score"])) for row in rows]
    answers = read_trajectories(path, "table", options=wide.options)
    return [(a.task, a.steps[0].state, str(a.fields["model"]), a.outcome) for a in answers if a.outcome is not None]


def train(form: str, known: list[str], scores: Floats, seed: int) -> tuple[Helper, Labels]:
    """A helper of this form from queries with the scores of both models."""
    logs = [
        Trajectory(f"query {i}", f"{i}/{who}", score, (Step(text, intervention=who),))
        for i, (text, pair) in enumerate(zip(known, scores, strict=True))
        for who, score in zip((None, STRONG), pair.tolist(), strict=True)
    ]
    model = estimate_mdp(logs, ExactKey())
    labels = label(logs, model, selfreg.solve(model.mdp, 1))
    return train_helper(labels, HelperConfig(form=form, history=0, seed=seed)), labels


def by_helper(form: str, seed: int) -> Callable[[list[str], Floats, list[str]], Floats]:
    """P(request) by a helper of this form."""

    def rank(known: list[str], scores: Floats, new: list[str]) -> Floats:
        helper = train(form, known, scores, seed)[0]
        texts = [helper.classifier.read([Step(text)], 0) for text in new]
        return helper.request_probabilities(texts, np.ones((len(new), 1), np.int64))[:, 1]

    return rank


def sent_shares(table: Table, form: str, seed: int) -> Floats:
    """Share of each fold that is sent where `SHARES` are asked for, by the other folds, (folds, shares)."""
    fold, found = fold_of(table, seed), np.zeros((FOLDS, len(SHARES)))
    for k in range(FOLDS):
        known, new = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        helper, labels = train(form, [table.texts[i] for i in known], table.scores[known], seed)
        texts = [helper.classifier.read([Step(table.texts[i])], 0) for i in new]
        requested = helper.request_probabilities(texts, np.ones((len(new), 1), np.int64))[:, 1]
        for s, share in enumerate(SHARES):
            policy = ration(helper, labels, share)
            found[k, s] = request_chance(requested, policy.low, policy.high, policy.share).mean()
    return found


def by_regression(known: list[str], scores: Floats, new: list[str]) -> Floats:
    """P(strong right) less P(weak right) by logistic regressions of scikit-learn on its TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer()
    features, at = words.fit_transform(known), words.transform(new)
    found = []
    for column in scores.T:
        model = LogisticRegression(max_iter=1000).fit(features, column >= 0.5)
        found.append(model.predict_proba(at)[:, 1])
    return np.asarray(found[1] - found[0])


def fold_of(table: Table, seed: int) -> NDArray[np.int64]:
    """Of each query."""
    return np.random.default_rng(seed).permutation(len(table.texts)) % FOLDS


def cross_fit(table: Table, rank: Callable[[list[str], Floats, list[str]], Floats], seed: int) -> Floats:
    """Place of each query in the ranking of its fold, from 0 (sent first) to 1."""
    fold = fold_of(table, seed)
    place = np.zeros(len(table.texts))
    for k in range(FOLDS):
        known, new = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        value = rank([table.texts[i] for i in known], table.scores[known], [table.texts[i] for i in new])
        order = np.lexsort((np.random.default_rng(seed).random(len(new)), -value))
        place[new[order]] = (np.arange(len(new)) + 0.5) / len(new)
    return place


def gain_over_random(place: Floats, scores: Floats) -> float:
    """Mean over all shares of the gain over random, over the distance of the two models.

    A query at place u is sent at all shares above u, so that the mean over shares is one of 1 - u, and 1/2 at random.
    """
    difference = scores[:, 1] - scores[:, 0]
    return float(np.mean(difference * (0.5 - place)) / abs(difference.mean()))


def compare(table: Table, places: Mapping[str, Floats]) -> list[tuple[str, str, str]]:
    """Of each router: its gain and its lead over the peer, with 95% intervals over queries."""
    samples = bootstrap(len(table.texts), RESAMPLES)

    def draws(name: str) -> Floats:
        return np.array([gain_over_random(places[name][one], table.scores[one]) for one in samples])

    peer, rows = draws(PEER), list[tuple[str, str, str]]()
    for name, place in places.items():
        value, drawn = gain_over_random(place, table.scores), draws(name)
        lead = interval(value - gain_over_random(places[PEER], table.scores), drawn - peer)
        own = interval(value, drawn)
        first, second = (f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for one in (own, lead))
        rows.append((name, first, second))
    return rows


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks routing", description=__doc__)
    parser.add_argument("--data", type=Path, help=f"folder with {ARENA}")
    parser.add_argument("--table", type=Path, help="another CSV")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), help=f"forms of the helper; default {FORMS}")
    parser.add_argument("--seeds", type=int, default=3, help="partitions into folds, whose places are averaged")
    chosen = parser.parse_args(arguments)
    if (chosen.data is None) == (chosen.table is None):
        parser.error("give --data or --table")
    table = read_table(chosen.table or chosen.data / ARENA)
    places, seconds = dict[str, Floats](), dict[str, float]()
    for name in (PEER, *chosen.forms):
        begin = process_time()
        found = [
            cross_fit(table, by_regression if name == PEER else by_helper(name, s), s) for s in range(chosen.seeds)
        ]
        places[name], seconds[name] = np.mean(found, axis=0), process_time() - begin
    weak, strong = (f"{name} {score:.3f}" for name, score in zip(table.models, table.scores.mean(axis=0), strict=True))
    print(f"{len(table.texts)} queries: {weak}, {strong}; {chosen.seeds} x {FOLDS} folds, 95% intervals over queries\n")
    print("| router | gain over random | lead over the regression | CPU seconds |\n| --- | --- | --- | --- |")
    for name, own, lead in compare(table, places):
        print(f"| {name} | {own} | {lead} | {seconds[name]:.0f} |")
    print("\n| share asked for | sent in held-out folds, mean | largest distance of a fold |\n| --- | --- | --- |")
    sent = np.concatenate([sent_shares(table, GAIN, s) for s in range(chosen.seeds)])
    for share, column in zip(SHARES, sent.T, strict=True):
        print(f"| {share} | {column.mean():.3f} | {np.abs(column - share).max():.3f} |")
