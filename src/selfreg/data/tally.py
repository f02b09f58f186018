"""Counts of what is in trajectories: outcomes, help, models, tools and free fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from selfreg.data.faults import LogError
from selfreg.data.markers import HelpMarks
from selfreg.data.trajectory import LoggedStep, Trajectory

MOST_FAULTS, MOST_VALUES, FEW_OUTCOMES = 5, 1000, 6


class Tally:
    """What the episodes of a sample have in them; `marks` say which of their steps are help."""

    def __init__(self, marks: HelpMarks) -> None:
        self.marks = marks
        self.episodes = self.steps = self.n_faults = 0
        self.faults: list[str] = []
        self.choices: Counter[str] = Counter()  # names of outcomes, where records have several
        self.tasks: set[str] = set()
        self.place = ""  # the folder or file that is read, of those that were given
        self.tasks_by_place: dict[str, set[str]] = {}
        self.outcome_counts: Counter[float] = Counter()
        self.help: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.tools: Counter[str] = Counter()
        self.roles: Counter[str] = Counter()
        self.fields: dict[str, Counter[Any]] = {}
        self.keys = self.texts = 0
        self.always_helped = self.partly_helped = self.mixed_models = 0
        self.first_models: Counter[str] = Counter()
        self.later_models: Counter[str] = Counter()  # that took a step after another model
        self._success: dict[str, list[float]] = {}

    def add(self, record: Trajectory | LogError) -> None:
        if isinstance(record, LogError):
            self.n_faults += 1
            self.choices.update(record.choices)
            if len(self.faults) < MOST_FAULTS:
                self.faults.append(str(record))
            return
        self.episodes += 1
        self.steps += len(record.steps)
        self.tasks.add(record.task)
        self.tasks_by_place.setdefault(self.place, set()).add(record.task)
        if record.outcome is not None:
            self.outcome_counts[record.outcome] += 1
        for name, value in record.fields.items():
            values = self.fields.setdefault(name, Counter())
            if value in values or len(values) < MOST_VALUES:
                values[value] += 1
        self._add_steps(record)

    def _add_steps(self, record: Trajectory) -> None:
        helped = 0
        models = set()
        for step in record.steps:
            self.keys += step.key is not None
            self.texts += bool(step.state)
            help_type = self.marks.mark_step(step).intervention if isinstance(step, LoggedStep) else step.intervention
            if help_type is not None:
                self.help[help_type] += 1
                helped += 1
            if isinstance(step, LoggedStep):
                models |= self._add_facts(step)
        self._add_models([step.model for step in record.steps if isinstance(step, LoggedStep) and step.model])
        self.always_helped += helped == len(record.steps)
        self.partly_helped += 0 < helped < len(record.steps)
        self.mixed_models += len(models) > 1
        if len(models) == 1 and record.outcome is not None:
            total = self._success.setdefault(models.pop(), [0.0, 0.0])
            total[0] += record.outcome
            total[1] += 1

    def _add_facts(self, step: LoggedStep) -> set[str]:
        self.tools.update(set(step.tools))
        if step.role is not None:
            self.roles[step.role] += 1
        if step.model is None:
            return set()
        self.models[step.model] += 1
        return {step.model}

    def _add_models(self, models: Sequence[str]) -> None:
        if models:
            self.first_models[models[0]] += 1
            self.later_models.update({model for model in models if model != models[0]})

    def first_model(self) -> str | None:
        """The model that most episodes begin with, where episodes have several."""
        return self.first_models.most_common(1)[0][0] if self.first_models else None

    def success_by_model(self) -> dict[str, float]:
        """Mean outcome of the episodes that one model took alone."""
        return {model: total / count for model, (total, count) in self._success.items()}

    def outcome_values(self) -> dict[str, int]:
        """Episodes by outcome; by tenths if there are many values."""
        if len(self.outcome_counts) <= FEW_OUTCOMES:
            return {f"{value:g}": count for value, count in sorted(self.outcome_counts.items())}
        tenths: Counter[int] = Counter()
        for value, count in self.outcome_counts.items():
            tenths[min(int(value * 10), 9)] += count
        return {f"{i / 10:g} to {(i + 1) / 10:g}": tenths[i] for i in sorted(tenths)}

    def mean_outcome(self) -> float | None:
        known = self.outcome_counts.total()
        return sum(value * count for value, count in self.outcome_counts.items()) / known if known else None
