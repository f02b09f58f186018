"""`selfreg import`: logs to a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfreg._util.files import atomic_folder
from selfreg.cli import options
from selfreg.cli.reading import LogSource, reads_logs
from selfreg.cli.terminal import remark, say
from selfreg.data import NOHELP, LogError, Trajectory, assume_takeover, detect_format, read_trajectories
from selfreg.data.detection import AUTO, shorten
from selfreg.data.json_text import repairs_so_far
from selfreg.data.outcomes import LoadedOutcomes
from selfreg.data.read import choose_grouped, describe_nothing
from selfreg.runs import MARKER, RunFolder

MOST_SHOWN = 5  # episodes without an outcome, by name
# Options of the marks of help, in the order of the fields of `HelpMarks`.
MARKS = ("--help-decision", "--help-tool", "--help-role", "--help-model")


class LoadedLogs(NamedTuple):
    """Episodes of logs, the faults of records that were left out, and what there is to say of the reading."""

    trajectories: list[Trajectory]
    skipped: list[LogError]
    notes: list[str]


def load_logs(source: LogSource) -> LoadedLogs:
    """Read logs; a record that cannot be read raises, or is listed on the error stream if bad ones are skipped."""
    skipped: list[LogError] | None = [] if source.skip_bad else None
    before = repairs_so_far()
    trajectories = _read(source, skipped)
    notes = repairs_so_far().minus(before).describe()
    for one in source.takeover:
        trajectories += _lone_runs(one, source, trajectories)
    for error in skipped or ():
        remark(f"skipped: {error}")
    notes += _describe_skipped(skipped or [])
    notes += [misses] if (misses := _describe_misses(source)) else []
    if not trajectories:
        raise ValueError(describe_nothing(source.paths, source.options.where))
    return LoadedLogs(trajectories, skipped or [], notes)


def import_logs(run: RunFolder, source: LogSource, *, need_outcomes: bool = False) -> list[Trajectory]:
    """Read logs into the run folder, and say on the error stream what there is to know about them.

    Where outcomes are needed, an episode without one is like a record that cannot be read.
    """
    found = detect_format(
        source.paths, choose_grouped(source.format, source.options), {**source.options.values, **source.options.roles}
    )
    if source.format == AUTO and not source.options.group_by:
        remark(f"format {found.format.name}: {found.reason}")
    if found.left_out:
        remark(f"left out {shorten(found.left_out)}")
    trajectories, skipped, notes = load_logs(source)
    if need_outcomes:
        trajectories, missing = _with_outcomes(trajectories, source)
        skipped = [*skipped, *missing]
    check_marks(source, trajectories)
    notes += [*_describe_help(source, trajectories), *_describe_outcomes(source, trajectories)]
    for note in notes:
        remark(f"note: {note}")
    run.write_trajectories(trajectories)
    settings = {"logs": [Path(log).name for log in source.paths], "format": found.format.name}
    settings["assume_takeover"] = [str(one) for one in source.takeover]
    counts = {"episodes": len(trajectories), "skipped": [str(error) for error in skipped], "notes": notes}
    run.record("import", settings | _describe_reading(source) | counts)
    return trajectories


def _with_outcomes(trajectories: list[Trajectory], source: LogSource) -> tuple[list[Trajectory], list[LogError]]:
    """Episodes that have an outcome, and faults of the others; ValueError if those may not be left out."""
    names = [t.episode for t in trajectories if t.outcome is None]
    missing = [LogError(f"episode {name!r}: it has no outcome") for name in names]
    if not missing:
        return trajectories, []
    if len(missing) == len(trajectories):
        raise ValueError(
            f"none of the {len(trajectories)} episodes has an outcome, and a plan needs some: "
            + (
                _describe_misses(source)
                or "name a file or folder that has them (--outcomes FILE), or their field (--map outcome=FIELD)"
            )
        )
    if not source.skip_bad:
        raise ValueError(
            f"{len(missing)} of {len(trajectories)} episodes have no outcome (the first: {names[0]!r}): "
            "--skip-bad leaves them out, --prm tfidf trains a PRM that scores their last states. "
            + (_describe_misses(source) or "--outcomes FILE names a file that has them")
        )
    for error in missing[:MOST_SHOWN]:
        remark(f"skipped: {error}")
    remark(f"note: skipped {len(missing)} of {len(trajectories)} episodes, which have no outcome")
    return [t for t in trajectories if t.outcome is not None], missing


def _read(source: LogSource, skipped: list[LogError] | None) -> list[Trajectory]:
    try:
        return list(read_trajectories(source.paths, source.format, skipped=skipped, options=source.options))
    except LogError as error:
        raise LogError(f"{error}; --skip-bad leaves out what cannot be read, and lists it") from None


def _describe_misses(source: LogSource) -> str:
    outcomes = source.options.outcomes
    return outcomes.describe_misses() if isinstance(outcomes, LoadedOutcomes) else ""


def _describe_reading(source: LogSource) -> dict[str, Any]:
    """Options of reading that are set, under the names that run folders have had."""
    described = source.options.describe()
    described["map"] = described.pop("roles")
    return {name: value for name, value in described.items() if value or name in ("map", "where")}


def _describe_skipped(skipped: Sequence[LogError]) -> list[str]:
    """How many records were left out, by outcome; a warning where failures may be among them."""
    if not skipped:
        return []
    failed = sum(error.outcome is not None and error.outcome < 0.5 for error in skipped)
    unknown = sum(error.outcome is None for error in skipped)
    won = len(skipped) - failed - unknown
    text = f"skipped {len(skipped)} records in total: {failed} failures, {won} successes, {unknown} of unknown outcome"
    if failed or unknown:
        text += ". Where failures are left out, the success rate of the others is too high"
    return [text]


def check_marks(source: LogSource, trajectories: Sequence[Trajectory]) -> None:
    """Raise ValueError for a mark of help that no step has: a name that is misspelt would make help unaided success."""
    marks = source.options.marks
    found = {step.intervention for t in trajectories for step in t.steps}
    for option, given in () if marks is None else zip(MARKS, marks, strict=True):
        for pattern, name in given.items():
            if name not in found and name != NOHELP:
                raise ValueError(f"{option} {pattern}={name}: no step has that mark")


def _describe_help(source: LogSource, trajectories: Sequence[Trajectory]) -> list[str]:
    if any(t.helped for t in trajectories):
        return []
    field = source.options.roles.get("intervention")
    if field:
        return [f"no step has help in its field {field!r} (--map intervention={field}): check the name of the field"]
    return [
        "no step has a mark of help. Episodes that a person or another model finished count as the agent's own "
        "successes; say what marks help: --map intervention=FIELD, " + ", ".join(MARKS)
    ]


def _describe_outcomes(source: LogSource, trajectories: Sequence[Trajectory]) -> list[str]:
    """Outcomes that are missing, or all the same: then there is nothing to learn from them."""
    given = [t.outcome for t in trajectories if t.outcome is not None]
    notes = []
    if len(given) < len(trajectories):
        missing = len(trajectories) - len(given)
        text = f"{missing} of {len(trajectories)} episodes have no outcome"
        notes.append(text if source.options.outcomes is None else f"{text}, in the file of --outcomes neither")
    if given and min(given) == max(given) and given[0] in (0, 1):
        word, rest = ("failed", "no plan can be better") if given[0] == 0 else ("succeeded", "no help is needed")
        notes.append(
            f"all {len(given)} episodes with an outcome {word}: by these logs {rest}. Add logs of the other kind, or "
            "check how outcomes are read"
        )
    return notes


def _lone_runs(takeover: options.Takeover, source: LogSource, others: Sequence[Trajectory]) -> list[Trajectory]:
    """Runs of the helper alone, as help: episodes without help whose field has the value."""
    where = {**source.options.where, takeover.field: [takeover.value]}
    reading = source.options._replace(where=where)
    found = [t for t in read_trajectories(source.paths, source.format, options=reading) if not t.helped]
    if not found:
        raise ValueError(f"--assume-takeover {takeover}: no episode without help has {takeover.field}={takeover.value}")
    episodes = {t.episode for t in others}
    if twice := next((t.episode for t in found if t.episode in episodes), None):
        raise ValueError(f"--assume-takeover {takeover}: episode {twice!r} is among the agent's; use --where")
    return list(assume_takeover(found, takeover.name))


@reads_logs
def command(source: LogSource, out: options.Out, overwrite: options.Overwrite = False) -> dict[str, Any]:
    """Read logs into a new run folder."""
    with atomic_folder(out, MARKER, overwrite) as folder:
        run = RunFolder(folder)
        trajectories = import_logs(run, source)
        recorded = run.settings()["import"]
    say(f"{len(trajectories)} episodes -> {out}")
    return {"run": out} | {name: recorded[name] for name in ("episodes", "format", "skipped", "notes")}
